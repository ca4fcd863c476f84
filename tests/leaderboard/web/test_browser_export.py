"""Exported pages in a real browser, from the disk and from a plain web server, under the policy that they state."""

from __future__ import annotations

import functools
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from leaderboard.export import export
from tests.leaderboard.harness import Service

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(service: Service, fill: Callable[..., list[str]], tmp_path: Path) -> Path:
    """An export of three models of 900, 60 thousand and 23 million parameters, with pictures."""
    ids = fill({"parameters": 900}, {"parameters": 60_000}, {"parameters": 23_200_000})
    for one in ids:
        (service.settings.media / one).mkdir()
        for name in ("best", "median", "worst"):
            for kind in ("image", "label", "prediction", "errors"):
                Image.new("RGB", (8, 8)).save(service.settings.media / one / f"{name}-{kind}.png")
    return export(service.db, service.settings, tmp_path / "site").resolve()


@pytest.fixture(params=["disk", "server"])
def address(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "disk":
        yield site.as_uri()
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_exported_pages_work_and_load_nothing_from_elsewhere(site: Path, address: str) -> None:
    (table,) = site.glob("*-level4.html")
    complaints: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{address}/{table.name}")
        assert page.evaluate("getComputedStyle(document.querySelector('a.skip')).position") == "absolute"
        page.get_by_role("button", name="Parameters").click()
        shown = page.locator("td[data-column=parameters]").all_inner_texts()
        assert shown == ["23.2 M", "60.0 k", "900"]
        page.get_by_role("button", name="Parameters").click()
        assert page.locator("td[data-column=parameters]").all_inner_texts() == shown[::-1]
        page.get_by_role("link", name=re.compile("^Model 1$")).click()
        for picture in page.locator("main img").all():
            picture.scroll_into_view_if_needed()
        page.wait_for_function(
            "[...document.images].length > 0 && [...document.images].every((one) => one.naturalWidth)"
        )
        assert complaints == []
        page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
        page.evaluate("document.body.setAttribute('onclick', 'document.title = 1')")
        page.locator("h1").click()
        assert page.title() != "1"
        browser.close()
    assert any("Content Security Policy" in complaint for complaint in complaints)
