"""Search: the one stage that looks into a catalog. Its result is frozen; later stages read only the lock file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pystac
from pydantic import ValidationError
from rasterio.warp import transform_bounds

from builders.plan import BUFFER, Planned
from builders.recipe import Recipe, SensorRule
from builders.scene import Scene
from builders.seasons import composites, falls_in
from builders.sources import scene_source
from builders.workspace import Workspace, read_json, write_json
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds

STAGE = "search/1"


def search(recipe: Recipe, space: Workspace, rows: list[Planned]) -> list[Scene]:
    """Find the scenes of a recipe and freeze them in ``scenes.lock.json``.

    A lock of the same recipe and catalog is kept as it is; delete it to search again. A recipe with ``lock`` uses that.

    Raises:
        LulcbenchError: the catalog is missing or damaged, or a sensor's year has no scene at all.
    """
    if recipe.lock:
        return read(recipe.lock)
    stamp = _stamp(recipe.catalog)
    key = recipe.key("regions", "seasons", "sensors", "catalog", "simulate", "ingest")
    if space.lock.is_file():
        locked = read_json(space.lock, "search")
        if (locked.get("stage"), locked.get("key"), locked.get("catalog_stamp")) == (STAGE, key, stamp):
            return read(space.lock)
    boxes = _boxes(rows)
    found: dict[str, Scene] = {}
    for rule in recipe.sensors:
        source = scene_source(rule.name)
        spans = [span for year in rule.years for span in composites(recipe, rule, year)]
        scenes = []
        for item in _items(recipe.catalog, rule, boxes):
            cloud = item.properties.get("eo:cloud_cover")
            if cloud is not None and cloud > rule.max_cloud:
                continue
            scene = source.scene(item)
            if any(falls_in(scene, span) for span in spans) and any(scene.touches(box) for box in boxes):
                scenes.append(scene)
        for year in rule.years:
            wanted = composites(recipe, rule, year)
            if rule.required and not any(falls_in(scene, span) for scene in scenes for span in wanted):
                raise LulcbenchError(
                    f"{recipe.catalog} has no {rule.name} scene of {rule.collection!r} for {year} over the regions "
                    f"with at most {rule.max_cloud:g} % cloud.",
                    "Check collection, years, regions and max_cloud of the recipe.",
                )
        found |= {scene.id: scene for scene in scenes}
    content = {
        "stage": STAGE,
        "key": key,
        "catalog": recipe.catalog,
        "catalog_stamp": stamp,
        "scenes": [found[name].model_dump(mode="json") for name in sorted(found)],
    }
    write_json(space.lock, content)
    return read(space.lock)


def read(path: Path) -> list[Scene]:
    """The scenes of a lock file."""
    content = read_json(path, "search")
    try:
        return [Scene.model_validate(entry) for entry in content["scenes"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise LulcbenchError(f"{path} is no lock file: {error}", "Run 'python -m builders search' again.") from error


def _items(catalog: str, rule: SensorRule, boxes: list[Bounds]) -> Iterator[pystac.Item]:
    """Items of the sensor's collection: from an API by space, from a catalog on disk all of them."""
    if catalog.startswith(("http://", "https://")):
        from pystac_client import Client

        client = Client.open(catalog)
        seen: set[str] = set()
        for box in boxes:
            bbox = transform_bounds(CRS, "EPSG:4326", *box)
            for item in client.search(collections=[rule.collection], bbox=bbox, datetime=_span(rule)).items():
                if item.id not in seen:
                    seen.add(item.id)
                    yield item
        return
    try:
        items = list(pystac.Catalog.from_file(catalog).get_items(recursive=True))
    except FileNotFoundError as error:
        raise LulcbenchError(
            f"The catalog {catalog} or an item of it is missing: {error}.",
            "Mend 'catalog' of the recipe, or make it with 'python -m builders simulate' or 'ingest'.",
        ) from error
    except (pystac.errors.STACError, ValueError, KeyError) as error:
        raise LulcbenchError(f"The catalog {catalog} is damaged: {error}.", "Fetch or make it again.") from error
    yield from sorted((item for item in items if item.collection_id == rule.collection), key=lambda item: item.id)


def _span(rule: SensorRule) -> str:
    """All days that the rule's seasons may need; a season may begin in the year before."""
    return "/".join(rule.acquired) if rule.acquired else f"{min(rule.years) - 1}-01-01/{max(rule.years)}-12-31"


def _boxes(rows: list[Planned]) -> list[Bounds]:
    """Extent of each region's tiles."""
    boxes = []
    for region in sorted({row.region for row in rows}):
        bounds = [row.tile.bounds for row in rows if row.region == region and row.split != BUFFER]
        if bounds:
            low, high = ([f(b[i] for b in bounds) for i in ij] for f, ij in ((min, (0, 1)), (max, (2, 3))))
            boxes.append((low[0], low[1], high[0], high[1]))
    return boxes


def _stamp(catalog: str) -> str:
    """Notices that a catalog on disk was written anew."""
    path = Path(catalog)
    return str(path.stat().st_mtime_ns) if path.is_file() else ""
