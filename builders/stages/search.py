"""Search: the one stage that looks into a catalog. Its result is frozen; later stages read only the lock file."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pystac
from pydantic import ValidationError

from builders.archives import lister, scene_source
from builders.readers.access import unsigned_text
from builders.readers.opening import states_simulated
from builders.readers.scene import Scene, UnusableSceneError
from builders.readers.statements import cloud_cover, extent, interval
from builders.recipe import BUFFER, Recipe, SensorRule
from builders.stages._areas import stated_areas
from builders.stages._catalogs import canonical, found_items, merged, stored_items
from builders.stages._inputs import with_stamps
from builders.stages._observations import separate
from builders.stages.left_out import LeftOut, count_reasons
from builders.stages.plan import Planned
from builders.workspace import Workspace, read_json, write_json
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Bounds
from lulcbench.seasons import Days
from lulcbench.sensors import sensor

STAGE = "search/9"

log = logging.getLogger(__name__)


def search(recipe: Recipe, space: Workspace, rows: list[Planned]) -> list[Scene]:
    """Find the scenes of a recipe and freeze them in ``scenes.lock.json``.

    What a server lists is kept until the recipe or its tiles change; delete the lock file to search again. A catalog on
    disk is read each time, so that a corrected item or a replaced file is noticed. A recipe with ``lock`` uses that
    file.

    Raises:
        LulcbenchError: the catalog is missing or damaged, or a sensor's year has no scene at all.
        NetworkError: the STAC API cannot be reached.
    """
    where = places(recipe, space)
    if recipe.lock:
        return _of_lock(recipe, recipe.lock, where)
    boxes = _boxes(rows)
    targets = _targets(recipe, rows, boxes)
    key = _key(recipe, boxes, targets)
    stored = _stored(recipe, boxes)
    kept = _kept(space, key)
    scenes: list[Scene] = []
    left_out: list[LeftOut] = []
    for rule in recipe.sensors:
        if rule.name not in stored and kept is not None:
            scenes += [scene for scene in kept.scenes if scene.sensor == rule.name]
            left_out += [one for one in kept.left_out if one.collection == rule.collection]
            continue
        mine = stored[rule.name] if rule.name in stored else _listed(recipe, rule, boxes)
        taken, dropped = _choose(recipe, rule, mine, targets)
        taken = with_stamps(taken)
        log.info("%s: %d scenes of %s, %d left out", rule.name, len(taken), rule.collection, len(dropped))
        scenes += [_moved(scene, lambda href: _portable(href, where)) for scene in taken]
        left_out += dropped
    content: dict[str, Any] = {
        "stage": STAGE,
        "key": key,
        "catalogs": {rule.name: _portable(recipe.catalog_of(rule), where) for rule in recipe.sensors},
        "items": _digest(stored),
        "scenes": [scene.model_dump(mode="json") for scene in scenes],
        "left_out": [asdict(item) for item in sorted(left_out, key=lambda item: (item.collection, item.id))],
    }
    if areas := stated_areas(space.splits):
        content["areas"] = areas
    if not space.lock.is_file() or read_json(space.lock, "search") != content:
        write_json(space.lock, content)
    return read(space.lock, where)


class _Locked(NamedTuple):
    """The result of an earlier search, with folders by name."""

    scenes: list[Scene]
    left_out: list[LeftOut]


def _stored(recipe: Recipe, boxes: Sequence[Bounds]) -> dict[str, list[pystac.Item]]:
    """Items of each sensor whose catalog is on this machine."""
    read = cache(stored_items)
    found: dict[str, list[pystac.Item]] = {}
    for rule in recipe.sensors:
        catalog = recipe.catalog_of(rule)
        if "://" not in catalog:
            known = _listed(recipe, rule, boxes) if lister(rule.archive) else read(catalog)
            found[rule.name] = [item for item in known if item.collection_id == rule.collection]
    return found


def _listed(recipe: Recipe, rule: SensorRule, boxes: Sequence[Bounds]) -> list[pystac.Item]:
    """Items of a sensor that a STAC API finds, or whose files exist under an address template."""
    catalog, spans = recipe.catalog_of(rule), _spans(recipe, rule)
    if names := lister(rule.archive):
        bands = tuple(sensor(rule.name).band(name) for name in rule.bands)
        return names(catalog, rule.collection, bands, spans, boxes)
    return found_items(catalog, rule, boxes, spans)


def requests(recipe: Recipe, rule: SensorRule) -> list[Days]:
    """The spans of days that are requested from a STAC API, for each region."""
    return merged(_spans(recipe, rule))


def _spans(recipe: Recipe, rule: SensorRule) -> list[Days]:
    return rule.days(recipe.seasons)


def found(recipe: Recipe, space: Workspace, rows: list[Planned]) -> list[Scene]:
    """The scenes of the lock file, without a search.

    Raises:
        LulcbenchError: there is no lock file, or it is of another recipe, other tiles or other items.
    """
    where = places(recipe, space)
    if recipe.lock:
        return _of_lock(recipe, recipe.lock, where)
    boxes = _boxes(rows)
    stamp = _digest(_stored(recipe, boxes))
    if space.lock.is_file() and (
        _kept(space, _key(recipe, boxes, _targets(recipe, rows, boxes))) is None
        or read_json(space.lock, "search")["items"] != stamp
    ):
        raise LulcbenchError(
            f"{space.lock} is the result of another recipe, or the catalog has changed since.",
            "Run 'python -m builders search' again.",
        )
    return read(space.lock, where)


def _choose(
    recipe: Recipe, rule: SensorRule, items: Sequence[pystac.Item], targets: Sequence[Bounds]
) -> tuple[list[Scene], list[LeftOut]]:
    """The scenes of a sensor to use, and the items that are left out.

    Raises:
        LulcbenchError: an item is malformed, or a year has no scene.
    """
    source, quality = scene_source(rule.archive), sensor(rule.name).quality_asset
    bands = tuple(sensor(rule.name).band(name) for name in rule.bands)
    spans, boxes = _spans(recipe, rule), np.array(targets, np.float64)
    chosen: list[tuple[pystac.Item, Scene]] = []
    left_out: list[LeftOut] = []
    for item in items:
        try:
            reason, detail = _formed(item, lambda item: _unwanted(item, rule, spans, boxes))
            if not reason:
                scene = _formed(item, lambda item: source.scene(item, bands))
                if rule.quality == "optional" or source.knows_clouds(scene):
                    chosen.append((item, scene))
                    continue
                reason, detail = "no quality layer", str(quality)
        except UnusableSceneError as error:
            reason, detail = error.reason, error.what
        left_out.append(LeftOut(rule.collection, item.id, reason, detail))
    simulated = [item.id for item, _ in chosen if item.properties.get("lulcbench:simulated") is True]
    _refuse_simulated(recipe, simulated)
    scenes, repeated = separate([item for item, _ in chosen], [scene for _, scene in chosen])
    left_out += repeated
    of_years = [(year, rule.spans(recipe.seasons, year)) for year in rule.years]
    of_years += [(year, [(date(year, 1, 1), date(year, 12, 31))]) for year in (rule.dated.years if rule.dated else ())]
    for year, wanted in of_years:
        if rule.required and not any(scene.falls_in(span) for scene in scenes for span in wanted):
            raise LulcbenchError(
                f"{recipe.catalog_of(rule)} has no {rule.name} scene of {rule.collection!r} for {year} over the "
                f"regions with at most {100 * rule.max_cloud:g} % cloud; {_summary(left_out)}.",
                "Check collection, years, regions, max_cloud and quality of the recipe.",
            )
    return scenes, left_out


def _refuse_simulated(recipe: Recipe, simulated: Sequence[str]) -> None:
    if simulated and not recipe.simulated:
        raise LulcbenchError(
            f"Item {simulated[0]} is simulated, but the recipe {recipe.name} states simulated = false.",
            "State simulated = true, which the release, its scores and its maps then state too.",
        )


def _of_lock(recipe: Recipe, lock: Path, where: Mapping[str, str]) -> list[Scene]:
    """The scenes of the lock file that a recipe names. It does not state what is simulated, but local files do."""
    scenes = read(lock, where)
    if not recipe.simulated:
        first = {scene.id: next(iter(scene.assets.values())).href for scene in scenes}
        local = {name: href for name, href in first.items() if "://" not in href}
        _refuse_simulated(recipe, [name for name, href in local.items() if states_simulated(href)])
    return scenes


def _unwanted(
    item: pystac.Item, rule: SensorRule, spans: Sequence[Days], boxes: npt.NDArray[np.float64]
) -> tuple[str, str]:
    """Why an item is not used, according to its metadata, and details; empty if it is. Its files are not opened."""
    start, end = (datetime.fromisoformat(moment).date() for moment in interval(item))
    if not any(start <= last and end >= first for first, last in spans):
        return "acquired outside the seasons", f"{start}"
    left, bottom, right, top = extent(item)
    west, south, east, north = boxes.T
    if not ((left < east) & (west < right) & (bottom < north) & (south < top)).any():
        return "outside the tiles", ""
    cloud = cloud_cover(item)
    if cloud is not None and cloud / 100 > rule.max_cloud:
        return "cloud cover above max_cloud", f"{cloud:g} %"
    return "", ""


def _formed[T](item: pystac.Item, function: Callable[[pystac.Item], T]) -> T:
    """The value of a function of an item.

    Raises:
        LulcbenchError: its metadata have another form than STAC prescribes.
    """
    try:
        return function(item)
    except LulcbenchError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LulcbenchError(
            f"Item {item.id} of {item.collection_id!r} is malformed: {error}.", "Correct the catalog."
        ) from error


def _summary(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "it holds no item of the collection there"
    first = left_out[0]
    shown = f"{first.id}: {first.detail.rstrip('.') or first.reason}"
    return f"left out: {count_reasons(item.reason for item in left_out)}; the first is {shown}"


def _kept(space: Workspace, key: str) -> _Locked | None:
    """The content of the lock file, if it is the result of this recipe."""
    if not space.lock.is_file():
        return None
    locked = read_json(space.lock, "search")
    if (locked.get("stage"), locked.get("key")) != (STAGE, key):
        return None
    return _Locked(read(space.lock, {}), [LeftOut(**entry) for entry in locked["left_out"]])


def _key(recipe: Recipe, boxes: Sequence[Bounds], targets: Sequence[Bounds]) -> str:
    """What a search depends on, apart from the catalogs' items."""
    parts = [recipe.key("seasons", "sensors", "catalog", "simulate", "ingest"), repr(list(boxes))]
    parts += [repr(list(targets))] if targets is not boxes else []
    parts += ["simulated"] if recipe.simulated else []  # items are refused otherwise
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _digest(stored: Mapping[str, Sequence[pystac.Item]]) -> str | None:
    """SHA-256 of the items of catalogs on this machine; None if there is no such catalog."""
    if not stored:
        return None
    texts = [canonical(item) for name in sorted(stored) for item in stored[name]]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


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


def published(lock: Path) -> dict[str, Any]:
    """The content of a lock file for a release: without keys that concern this workspace only, and without secrets.

    A catalog may hold signed addresses. Their signatures are needed to read the scenes here, not in a release, whose
    digest would be another one with every signature.
    """
    content = read_json(lock, "search")
    kept = {key: content[key] for key in ("stage", "catalogs", "areas", "scenes", "left_out") if key in content}
    return {key: _unsigned(value) for key, value in kept.items()}


def _unsigned(value: Any) -> Any:
    """A JSON value whose addresses have no signatures."""
    if isinstance(value, dict):
        return {key: _unsigned(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_unsigned(own) for own in value]
    return unsigned_text(value) if isinstance(value, str) else value


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("LULCBENCH_REAL_DATA",) if os.environ.get(name)}


def places(recipe: Recipe, space: Workspace) -> dict[str, str]:
    """Folders that lock files name: scenes made by the recipe, real data, and what lies beside the catalog."""
    known = {"SCENES": str(space.scenes)} | _environment()
    own = {f"CATALOG_{rule.name}": rule.catalog for rule in recipe.sensors} | {"CATALOG": recipe.catalog}
    return known | {name: _folder(catalog) for name, catalog in own.items() if catalog and "://" not in catalog}


def _folder(catalog: str) -> str:
    """The folder of a catalog, or of the files of an address template."""
    return str(Path(catalog.partition("{")[0] + "-").parent if "{" in catalog else Path(catalog).parent)


def _portable(href: str, places: Mapping[str, str]) -> str:
    for name, folder in places.items():
        if Path(href).is_relative_to(folder):
            return f"${{{name}}}/{Path(href).relative_to(folder).as_posix()}"
    return href


def _moved(scene: Scene, move: Callable[[str], str]) -> Scene:
    assets = {name: asset.model_copy(update={"href": move(asset.href)}) for name, asset in scene.assets.items()}
    return scene.model_copy(update={"assets": assets})


def _boxes(rows: list[Planned]) -> list[Bounds]:
    """Extent of each region's tiles."""
    boxes = []
    for region in sorted({row.region for row in rows}):
        bounds = [row.tile.bounds for row in rows if row.region == region and row.split != BUFFER]
        if bounds:
            low, high = ([f(b[i] for b in bounds) for i in ij] for f, ij in ((min, (0, 1)), (max, (2, 3))))
            boxes.append((low[0], low[1], high[0], high[1]))
    return boxes


def _targets(recipe: Recipe, rows: list[Planned], boxes: list[Bounds]) -> list[Bounds]:
    """Where scenes are used: in the extents of regions, or, if a region has an area, in the tiles themselves."""
    if not any(region.area for region in recipe.regions):
        return boxes
    return [row.tile.bounds for row in rows if row.split != BUFFER]
