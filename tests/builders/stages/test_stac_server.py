"""The search against a real STAC API server (rustac, on loopback), and the real items of other archives."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pystac
import pytest

from builders.recipe import Recipe, load
from builders.stages import _catalogs, plan, search
from builders.workspace import Workspace, workspace
from tests.builders import world


def serve(items: list[dict[str, Any]], folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A STAC API that holds these items, and its address."""
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = folder / "server.py"  # rustac's command, in any environment
    program.write_text("import rustac\n\nrustac.main()\n")
    command = [sys.executable, str(program), "serve", "--addr", f"127.0.0.1:{port}", "--create-collections"]
    command.append(str(folder / "items.json"))
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            if httpx2.get(url).is_success:
                return server, url
        except httpx2.TransportError:
            assert server.poll() is None, "the server ended"
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def plain(folder: Path) -> list[dict[str, Any]]:
    """The items of the world's catalog, with URLs of its files."""
    items = _catalogs.stored_items(str(folder / "catalog.json"))
    for item in items:
        for asset in item.assets.values():
            asset.href = Path(str(asset.get_absolute_href())).as_uri()
        item.clear_links()
    return [item.to_dict(include_self_link=False) | {"collection": "landsat-c2-l2"} for item in items]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The world with scenes of other days, places and clouds, on disk and on a server."""
    folder = tmp_path_factory.mktemp("served")
    world.make(folder, scenes=5)
    catalog = pystac.Catalog.from_file(str(folder / "catalog.json"))
    more = [
        world.scene(folder / "scenes", name, datetime(2018, *day, tzinfo=UTC), (0.5, 0.5))
        for name, day in (("winter", (1, 9)), ("dull", (7, 20)), ("far", (7, 21)), ("unknown", (7, 22)))
    ]
    more[1].properties["eo:cloud_cover"] = 95.0
    more[2].bbox = [20.0, 50.0, 21.0, 51.0]
    more[2].geometry = {"type": "Polygon", "coordinates": [[[20, 50], [21, 50], [21, 51], [20, 51], [20, 50]]]}
    del more[3].properties["eo:cloud_cover"]
    items = [*catalog.get_items(recursive=True), *more]
    world.write(folder, "world", "World", items)
    server, url = serve(plain(folder), folder)
    yield folder, url
    server.terminate()
    server.wait()


def opened(folder: Path, catalog: str, out: Path) -> tuple[Recipe, Workspace]:
    """The world's recipe with another catalog."""
    text = world.RECIPE.replace('"catalog.json"', json.dumps(catalog))
    (out / "recipe.toml").write_text(text.replace('"labels.tif"', json.dumps(str(folder / "labels.tif"))))
    space = workspace(out / "out")
    return load(out / "recipe.toml", space.scenes), space


@pytest.mark.slow
@pytest.mark.parametrize("page", [1, 2, 100])
def test_a_server_gives_the_scenes_of_the_disk(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    folder, url = served
    monkeypatch.setattr(_catalogs, "PAGE", page)
    found = []
    for name, catalog in (("disk", str(folder / "catalog.json")), ("server", url)):
        (tmp_path / name).mkdir()
        recipe, space = opened(folder, catalog, tmp_path / name)
        found.append([s.model_dump() for s in search.search(recipe, space, plan.plan(recipe, space))])
    assert [scene["id"] for scene in found[0]] == ["s0", "s1", "s2", "s3", "s4", "unknown"]
    assert found[0] == found[1]


def test_the_server_filters_by_days_and_place(served: tuple[Path, str], tmp_path: Path) -> None:
    """What the server does not return cannot be left out: scenes of winter and of another place."""
    folder, url = served
    recipe, space = opened(folder, url, tmp_path)
    search.search(recipe, space, plan.plan(recipe, space))
    left_out = search.published(space.lock)["left_out"]
    assert [(one["id"], one["reason"]) for one in left_out] == [("dull", "cloud cover above max_cloud")]


def test_signatures_of_a_catalog_stay_in_the_workspace(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    recipe, space = opened(folder, url, tmp_path)
    search.search(recipe, space, plan.plan(recipe, space))
    bare = search.published(space.lock)
    content = json.loads(space.lock.read_text())
    for scene in content["scenes"]:
        for name, asset in scene["assets"].items():
            asset["href"] = f"https://a.blob.core.windows.net/c/{name}.tif?sv=1&sig=secret"
    content["catalogs"] = dict.fromkeys(content["catalogs"], "https://example.org/stac?token=secret")
    space.lock.write_text(json.dumps(content))
    signed = search.published(space.lock)
    assert "secret" in space.lock.read_text()
    assert "secret" not in json.dumps(signed)
    assert [scene["id"] for scene in signed["scenes"]] == [scene["id"] for scene in bare["scenes"]]
    assert signed["left_out"] == bare["left_out"]


def test_the_result_of_a_server_is_kept_without_it(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = served
    server, url = serve(plain(folder), tmp_path)
    recipe, space = opened(folder, url, tmp_path)
    rows = plan.plan(recipe, space)
    scenes = search.search(recipe, space, rows)
    server.terminate()
    server.wait()
    assert search.search(recipe, space, rows) == scenes
    assert search.found(recipe, space, rows) == scenes


def test_a_cloud_filter_keeps_items_of_unknown_cloud_cover() -> None:
    assert _catalogs._cloud_filter(80) == {
        "op": "or",
        "args": [
            {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 80]},
            {"op": "isNull", "args": [{"property": "eo:cloud_cover"}]},
        ],
    }


@pytest.mark.real
def test_real_items_are_found_by_place_and_days(real_data: Path, tmp_path: Path) -> None:
    """Items of four archives as they are, on one server. STAC 0.7 is too old for it."""
    files = sorted((real_data / "stac_items").glob("*.json"))
    items = [content for content in map(json.loads, map(Path.read_text, files)) if content.get("type") == "Feature"]
    known = [item for item in items if item.get("collection") and item["stac_version"] >= "1"]
    server, url = serve(known, tmp_path)
    try:
        text = world.RECIPE.replace('"catalog.json"', json.dumps(url)).replace("landsat", "sentinel2")
        text = text.replace('["red", "nir08"]', '["B04"]').replace("[2018]", "[2020]")
        world.make(tmp_path, text)
        recipe = load(tmp_path / "recipe.toml", tmp_path)
        rule = recipe.sensors[0]
        box = (4_100_000, 2_500_000, 4_400_000, 2_800_000)  # Switzerland
        spans = rule.spans(recipe.seasons, 2020)
        found = _catalogs.found_items(url, rule, [box], spans)
    finally:
        server.terminate()
        server.wait()
    expected = [
        item["id"]
        for item in known
        if item["collection"] == "sentinel-2-l2a"
        and "2020-06-25" <= item["properties"]["datetime"][:10] <= "2020-09-12"
        and "T32TMT" in item["id"]
    ]
    assert sorted(item.id for item in found) == sorted(expected)
    assert len(expected) == 2
    shutil.rmtree(tmp_path / "scenes")
