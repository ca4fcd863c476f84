"""Areas of a recipe's regions: the tiles of their polygons, and the record of the files in the plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from builders.readers.locators import companion_digests, file_stamp
from builders.recipe import AreaRule, Recipe, Region
from builders.stages._pins import check_pin
from lulcbench.areas import Area
from lulcbench.grid import Bounds, Tile, tiles_over

STATED = "# area "  # begins a line of splits.csv: region and record follow


def candidates(region: Region, bounds: Bounds, extents: Sequence[Bounds]) -> list[Tile]:
    """Tiles of a region, row by row.

    Args:
        region: with an area, or without.
        bounds: of the region, or of what it is a part of.
        extents: of the scenes; if the region is ``covered``, only tiles that they touch count.

    Raises:
        LulcbenchError: the area cannot be read, or extends beyond the tile grid.
    """
    if region.area:
        own = read_area(region.area).tiles(region.area.margin, region.bounds)
        tiles = [tile for tile in own if region.bounds is None or _lies(tile, bounds, region.whole)]
    else:
        tiles = tiles_over(bounds, region.whole)
    if not region.covered or not tiles:
        return tiles
    # Extents are cut to these tiles: that of a scene of the world has as many as there are.
    lefts, bottoms, rights, tops = zip(*(tile.bounds for tile in tiles), strict=True)
    edge = (min(lefts), min(bottoms), max(rights), max(tops))
    cut = {(max(edge[0], box[0]), max(edge[1], box[1]), min(edge[2], box[2]), min(edge[3], box[3])) for box in extents}
    covered = {tile for box in cut if box[0] < box[2] and box[1] < box[3] for tile in tiles_over(box)}
    return [tile for tile in tiles if tile in covered]


def read_area(rule: AreaRule) -> Area:
    """The polygons of a rule.

    Raises:
        LulcbenchError: see ``lulcbench.areas.Area``; the file is not the one that is pinned.
    """
    return _read(rule, file_stamp(rule.path))


@lru_cache(maxsize=4)
def _read(rule: AreaRule, stamp: object) -> Area:
    area = Area.read(rule.path, rule.codes, rule.column, rule.layer)
    check_pin(rule.path, None, rule.sha256)
    return area


def digests(recipe: Recipe) -> list[str]:
    """What a plan depends on: the content of the files with areas, and what is taken of them."""
    if recipe.split.file:  # is the plan
        return []
    parts = []
    for rule in dict.fromkeys(region.area for region in recipe.regions if region.area):
        area, companions = read_area(rule), companion_digests(rule.path)
        parts.append(json.dumps([rule.model_dump(mode="json", exclude={"path"}), area.sha256, companions]))
    return parts + [f"{region.name} {region.area.path.name}" for region in recipe.regions if region.area]


def lines(recipe: Recipe, planned: set[str]) -> list[str]:
    """Lines of the plan that state the areas of the regions with tiles."""
    found = []
    for region in recipe.regions:
        if region.area and region.name in planned:
            rule = region.area
            record = rule.model_dump(mode="json", include={"column", "codes"}) if rule.codes else {}
            record |= {"layer": rule.layer} if rule.layer else {}
            content = {"file": rule.path.name, "sha256": read_area(rule).sha256, "margin": rule.margin, **record}
            found.append(f"{STATED}{region.name}: {json.dumps(content, ensure_ascii=False)}")
    return found


def stated_areas(path: Path) -> dict[str, dict[str, Any]]:
    """The areas that a list of splits states: region → file, its SHA-256, codes, margin."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if line.startswith(STATED):
            name, _, record = line.removeprefix(STATED).partition(": ")
            found[name] = json.loads(record)
    return found


def _lies(tile: Tile, bounds: Bounds, whole: bool) -> bool:
    """Whether a tile touches bounds, or (``whole``) lies entirely inside."""
    left, bottom, right, top = bounds
    west, south, east, north = tile.bounds
    if whole:
        return left <= west and east <= right and bottom <= south and north <= top
    return left < east and west < right and bottom < north and south < top
