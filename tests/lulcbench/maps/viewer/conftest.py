"""A site of a small map, served as by ``python -m http.server``, and a browser."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from lulcbench.grid import Tile
from lulcbench.legend import ClassScheme
from lulcbench.maps import map_release
from lulcbench.maps.viewer import Point, write_site
from lulcbench.release import Release
from tests.loopback import serving
from tests.lulcbench.maps.viewer.browser import tab
from tests.lulcbench.maps.viewer.made_map import write_map

CHROMIUM = shutil.which("chromium")


class Silent(SimpleHTTPRequestHandler):
    """What ``python -m http.server`` does, without its log."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def map_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_map(tmp_path_factory.mktemp("maps") / "map")


@pytest.fixture(scope="session")
def site_folder(map_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site([map_folder], tmp_path_factory.mktemp("sites") / "site")


@pytest.fixture(scope="session")
def site_url(site_folder: Path) -> Iterator[str]:
    with serving(functools.partial(Silent, directory=str(site_folder))) as address:
        yield address


@pytest.fixture(scope="session")
def mixed_maps(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Maps of models of two levels (one year), of four with conformal answers (two years), and of one."""
    folder = tmp_path_factory.mktemp("maps")
    return [
        write_map(folder / "two", (2018,), ClassScheme.luisa(2)),
        write_map(folder / "four", (2012, 2018), limit=0.7, complete=(2018,)),
        write_map(folder / "one", (2018,), ClassScheme.luisa(1)),
    ]


@pytest.fixture(scope="session")
def mixed_site(mixed_maps: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(mixed_maps, tmp_path_factory.mktemp("sites") / "site")


@pytest.fixture(scope="session")
def mixed_url(mixed_site: Path) -> Iterator[str]:
    with serving(functools.partial(Silent, directory=str(mixed_site))) as address:
        yield address


@pytest.fixture(scope="session")
def release_map(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of the small release."""
    return map_release(exported("majority"), release_root, tmp_path_factory.mktemp("maps") / "majority").folder


@pytest.fixture(scope="session")
def release_site(release_map: Path, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of this map, the labels of the release and two observations, of which one is outside the map."""
    tile = Tile.from_id(Release.open(release_root).tiles("test").ids[0])
    x, y = tile.bounds[0] + 1234.5, tile.bounds[1] + 2345.5
    points = [Point(x, y, 311, "LUCAS 2018 (4711)"), Point(0, 0, 311, "elsewhere")]
    return write_site([release_map], tmp_path_factory.mktemp("sites") / "site", labels=release_root, points=points)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        # Without its sandbox: test machines often run as root in a container; only our own pages are opened.
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, site_url: str) -> Iterator[Any]:
    with tab(browser, site_url) as page:
        yield page
