"""A STAC API gives the same scenes as a catalog on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pystac
import pytest
import shapely

from builders.recipe import load
from builders.stages import plan, search
from builders.stages._catalogs import stored_items
from builders.workspace import workspace
from lulcbench.errors import LulcbenchError, NetworkError
from lulcbench.remote.retry import ATTEMPTS
from tests import loopback
from tests.builders import world

PAGE = 2  # items a page, so that there is more than one


class Api(BaseHTTPRequestHandler):
    """A STAC API: a landing page and an item search, as in the specification's core and item-search classes."""

    items: list[dict[str, Any]]
    asked: list[dict[str, Any]]
    broken = False
    interrupted = 0  # requests that are answered with 503 before they are answered well

    def do_GET(self) -> None:
        base = f"http://{self.headers['Host']}"
        classes = [f"https://api.stacspec.org/v1.0.0/{name}" for name in ("core", "item-search")]
        links = [{"rel": rel, "href": f"{base}/"} for rel in ("self", "root")]
        links += [{"rel": "search", "href": f"{base}/search", "method": m, "type": "application/geo+json"}
                  for m in ("GET", "POST")]  # fmt: skip
        landing = {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "API", "links": links}
        self.answer(landing | {"conformsTo": classes})

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if type(self).interrupted:
            type(self).interrupted -= 1
            self.send_error(503, "soon")
            return
        self.asked.append(query)
        if self.broken:
            self.send_error(500, "out of order")
            return
        first = query.get("token", 0)
        found = [item for item in self.items if item["collection"] in query["collections"]]
        links = []
        if first + PAGE < len(found):
            url = f"http://{self.headers['Host']}/search"
            links = [{"rel": "next", "href": url, "method": "POST", "body": query | {"token": first + PAGE}}]
        self.answer({"type": "FeatureCollection", "features": found[first : first + PAGE], "links": links})

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/geo+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[type[Api], str]]:
    """A server of the world's scenes, five of them, and its address."""
    world.make(tmp_path, scenes=5)
    items = list(pystac.Catalog.from_file(str(tmp_path / "catalog.json")).get_items(recursive=True))
    for item in items:
        item.make_asset_hrefs_absolute()
        item.clear_links()
    handler = type("Handler", (Api,), {"items": [i.to_dict() for i in items], "asked": []})
    for item, plain in zip(items, handler.items, strict=True):
        plain["collection"] = item.collection_id or "landsat-c2-l2"
    with loopback.serving(handler) as address:
        yield handler, address


@pytest.mark.usefixtures("patient")
def test_an_api_gives_the_scenes_of_the_disk(api: tuple[type[Api], str], tmp_path: Path) -> None:
    handler, address = api
    handler.interrupted = 3
    text = world.RECIPE.replace('catalog = "catalog.json"', f'catalog = "{address}"')
    (tmp_path / "api.toml").write_text(text)
    found = {}
    for name in ("recipe", "api"):
        space = workspace(tmp_path / f"out-{name}", None)
        recipe = load(tmp_path / f"{name}.toml", space.scenes)
        found[name] = search.search(recipe, space, plan.plan(recipe, space))
    assert [scene.id for scene in found["api"]] == ["s0", "s1", "s2", "s3", "s4"]
    assert [s.model_dump() for s in found["api"]] == [s.model_dump() for s in found["recipe"]]
    west, south, east, north = shapely.geometry.shape(handler.asked[0]["intersects"]).bounds
    assert 8 < west < east < 12
    assert 50 < south < north < 52
    assert handler.asked[0]["datetime"] == "2018-06-25T00:00:00Z/2018-09-12T23:59:59Z"
    assert len(handler.asked) == 3  # pages
    handler.broken = True
    space = workspace(tmp_path / "out-broken", None)
    recipe = load(tmp_path / "api.toml", space.scenes)
    rows = plan.plan(recipe, space)
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1.*search|search.*127\.0\.0\.1"):
        search.search(recipe, space, rows)
    assert not space.lock.exists()
    assert len(handler.asked) == 3 + ATTEMPTS


def test_items_that_do_not_name_their_collection_are_of_the_one_that_lists_them(tmp_path: Path) -> None:
    box = [9.0, 50.0, 10.0, 51.0]
    item = pystac.Item("a", shapely.box(*box).__geo_interface__, box, datetime(2018, 7, 10, tzinfo=UTC), {})
    collection = pystac.Collection("c", "c", pystac.Extent.from_items([item]))
    collection.add_item(item)
    collection.normalize_and_save(str(tmp_path), pystac.CatalogType.SELF_CONTAINED)
    path = tmp_path / "a" / "a.json"
    content = json.loads(path.read_text())
    del content["collection"]
    path.write_text(json.dumps(content))
    assert [item.collection_id for item in stored_items(str(tmp_path / "collection.json"))] == ["c"]
    item.collection_id = "d"
    pystac.ItemCollection([item]).save_object(str(tmp_path / "items.json"))
    assert [item.collection_id for item in stored_items(str(tmp_path / "items.json"))] == ["d"]
    with pytest.raises(LulcbenchError, match="is not a STAC catalog"):
        stored_items(str(path))
