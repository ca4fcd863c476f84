"""Search: the one stage that looks into a catalog. Its result is frozen; later stages read only the lock file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import pystac
from pydantic import ValidationError
from rasterio.warp import transform_bounds

from builders.archives import scene_source
from builders.readers.scene import Scene
from builders.recipe import Recipe, SensorRule
from builders.stages.plan import BUFFER, Planned
from builders.workspace import Workspace, read_json, write_json
from lulcbench.errors import LulcbenchError, NetworkError
from lulcbench.grid import CRS, Bounds
from lulcbench.remote.retry import retrying

STAGE = "search/2"
TIMEOUT = 60  # seconds that a STAC API may stay silent

log = logging.getLogger(__name__)


def search(recipe: Recipe, space: Workspace, rows: list[Planned]) -> list[Scene]:
    """Find the scenes of a recipe and freeze them in ``scenes.lock.json``.

    A lock of the same recipe and catalog is kept as it is; delete it to search again. A recipe with ``lock`` uses that.

    Raises:
        LulcbenchError: the catalog is missing or damaged, or a sensor's year has no scene at all.
    """
    where = places(recipe, space)
    if recipe.lock:
        return read(recipe.lock, where)
    stamp = _stamp(recipe.catalog)
    key = recipe.key("regions", "seasons", "sensors", "catalog", "simulate", "ingest")
    if space.lock.is_file():
        locked = read_json(space.lock, "search")
        if (locked.get("stage"), locked.get("key"), locked.get("catalog_stamp")) == (STAGE, key, stamp):
            return read(space.lock, where)
    boxes = _boxes(rows)
    found: dict[str, Scene] = {}
    for rule in recipe.sensors:
        source = scene_source(rule.name)
        spans = [span for year in rule.years for span in rule.spans(recipe.seasons, year)]
        scenes = []
        for item in _items(recipe.catalog, rule, boxes):
            cloud = item.properties.get("eo:cloud_cover")
            if cloud is not None and cloud > rule.max_cloud:
                log.debug("%s is left out: %g %% cloud", item.id, cloud)
                continue
            scene = source.scene(item)
            if any(scene.falls_in(span) for span in spans) and any(scene.touches(box) for box in boxes):
                scenes.append(scene)
        for year in rule.years:
            wanted = rule.spans(recipe.seasons, year)
            if rule.required and not any(scene.falls_in(span) for scene in scenes for span in wanted):
                raise LulcbenchError(
                    f"{recipe.catalog} has no {rule.name} scene of {rule.collection!r} for {year} over the regions "
                    f"with at most {rule.max_cloud:g} % cloud.",
                    "Check collection, years, regions and max_cloud of the recipe.",
                )
        log.info("%s: %d scenes of %s", rule.name, len(scenes), rule.collection)
        found |= {scene.id: scene for scene in scenes}
    scenes = [_moved(found[name], lambda href: _portable(href, where)) for name in sorted(found)]
    content = {
        "stage": STAGE,
        "key": key,
        "catalog": _portable(recipe.catalog, where),
        "catalog_stamp": stamp,
        "scenes": [scene.model_dump(mode="json") for scene in scenes],
    }
    write_json(space.lock, content)
    return read(space.lock, where)


def read(path: Path, places: Mapping[str, str] | None = None) -> list[Scene]:
    """The scenes of a lock file.

    Args:
        path: the lock file; folders stand in it by name, as in ``${SCENES}/…``, so that it is the same everywhere.
        places: folder by name; None knows ``LULCBENCH_REAL_DATA`` alone, and leaves other names as they are.
    """
    content = read_json(path, "search")
    known = _environment() if places is None else places
    try:
        scenes = [Scene.model_validate(entry) for entry in content["scenes"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise LulcbenchError(f"{path} is not a lock file: {error}", "Run 'python -m builders search' again.") from error
    return [_moved(scene, lambda href: Template(href).safe_substitute(known)) for scene in scenes]


def publish(lock: Path, out: Path) -> None:
    """Write the lock file for a release: what was found, without what only this workspace needs to know."""
    content = read_json(lock, "search")
    write_json(out, {key: content[key] for key in ("stage", "catalog", "scenes") if key in content})


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("LULCBENCH_REAL_DATA",) if os.environ.get(name)}


def places(recipe: Recipe, space: Workspace) -> dict[str, str]:
    """Folders that lock files name: scenes made by the recipe, real data, and what lies beside the catalog."""
    known = {"SCENES": str(space.scenes)} | _environment()
    return known if "://" in recipe.catalog else known | {"CATALOG": str(Path(recipe.catalog).parent)}


def _portable(href: str, places: Mapping[str, str]) -> str:
    for name, folder in places.items():
        if Path(href).is_relative_to(folder):
            return f"${{{name}}}/{Path(href).relative_to(folder).as_posix()}"
    return href


def _moved(scene: Scene, move: Callable[[str], str]) -> Scene:
    assets = {name: asset.model_copy(update={"href": move(asset.href)}) for name, asset in scene.assets.items()}
    return scene.model_copy(update={"assets": assets})


def _items(catalog: str, rule: SensorRule, boxes: list[Bounds]) -> Iterator[pystac.Item]:
    """Items of the sensor's collection: from an API by space, from a catalog on disk all of them."""
    if catalog.startswith(("http://", "https://")):
        yield from _found(catalog, rule, boxes)
        return
    try:
        items = list(pystac.Catalog.from_file(catalog).get_items(recursive=True))
    except FileNotFoundError as error:
        raise LulcbenchError(
            f"The catalog {catalog} or an item of it is missing: {error}.",
            "Correct 'catalog' of the recipe, or make it with 'python -m builders scenes' or 'ingest'.",
        ) from error
    except (pystac.errors.STACError, ValueError, KeyError) as error:
        raise LulcbenchError(f"The catalog {catalog} is damaged: {error}.", "Fetch or make it again.") from error
    yield from sorted((item for item in items if item.collection_id == rule.collection), key=lambda item: item.id)


def _found(catalog: str, rule: SensorRule, boxes: list[Bounds]) -> Iterator[pystac.Item]:
    """Items that a STAC API finds for the sensor, each once."""
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO

    class RetryingIO(StacApiIO):
        """The project's retries in place of those of urllib3, which repeat broken connections only."""

        def request(self, *args: Any, **kwargs: Any) -> str:
            return retrying(catalog)(super().request, *args, **kwargs)

    seen: set[str] = set()
    try:
        client = Client.open(catalog, stac_io=RetryingIO(timeout=TIMEOUT, max_retries=None))
        for box in boxes:
            bbox = transform_bounds(CRS, "EPSG:4326", *box)
            for item in client.search(collections=[rule.collection], bbox=bbox, datetime=_span(rule)).items():
                if item.id not in seen:
                    seen.add(item.id)
                    yield item
    except APIError as error:
        raise NetworkError(
            f"The search of {catalog} for {rule.collection} failed: {' '.join(str(error).split())[:300]}.",
            "Is it a STAC API with item search, and is it up? Nothing was written; run again.",
        ) from error


def _span(rule: SensorRule) -> str:
    """All days that the rule's seasons may need; a season may begin in the year before."""
    first, last = rule.acquired or (f"{min(rule.years) - 1}-01-01", f"{max(rule.years)}-12-31")
    return f"{first}/{last}"


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
    """Changes when a catalog on disk is written again."""
    path = Path(catalog)
    return str(path.stat().st_mtime_ns) if path.is_file() else ""
