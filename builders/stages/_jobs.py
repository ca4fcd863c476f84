"""Jobs of materialize: groups of neighbouring tiles, the scenes near them, and the key of each tile's result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import shapely

from builders.readers.area import Area
from builders.readers.locators import companion_digests
from builders.readers.scene import Scene
from builders.recipe import BUFFER, DatedRule, LabelRule, Recipe, SensorRule
from builders.stages.plan import Planned
from builders.workspace import Workspace
from lulcbench._files import hash_file
from lulcbench.grid import Bounds, Tile
from lulcbench.legend import legend
from lulcbench.release import ArrayKey, label_shape
from lulcbench.sensors import sensor

STAGE = "materialize/12"
GROUP = 960  # px; neighbouring tiles are read and warped together up to this side, since COG blocks are large
STRIP = 4  # squares of tiles
FAR = 1e9  # m; in place of infinite bounds, of scenes that have no extent in EPSG:3035


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One group of tiles of one array of a sensor.

    Attributes:
        keys: cache key of each tile.
        scenes: those of each step: of each season, or of each date of dated imagery.
        blocks: folder of the blocks of files on servers.
        dates: of the steps of dated imagery.
    """

    array: ArrayKey
    rule: SensorRule
    tiles: tuple[Tile, ...]
    keys: tuple[str, ...]
    scenes: tuple[tuple[Scene, ...], ...]
    cache: Path
    blocks: Path
    dates: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelJob:
    """One group of tiles of one label map."""

    array: ArrayKey
    rule: LabelRule
    tiles: tuple[Tile, ...]
    keys: tuple[str, ...]
    cache: Path


Job = ImageJob | LabelJob


def with_files_read(recipe: Recipe, scenes: list[Scene]) -> list[Scene]:
    """The scenes with those of their files that are read."""
    rules = {rule.name: rule for rule in recipe.sensors}
    out = []
    for scene in scenes:
        if scene.sensor in rules:
            instrument = sensor(scene.sensor)
            names = {*(instrument.band(band).asset for band in rules[scene.sensor].bands), instrument.quality_asset}
            assets = {name: asset for name, asset in scene.assets.items() if name in names}
            out.append(scene.model_copy(update={"assets": assets}))
    return out


class Nearby:
    """Scenes in a spatial index.

    A scan of all scenes for each group of tiles takes 80 times as long for a continent (``benchmarks/nearby.py``).
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self._scenes = tuple(scenes)
        boxes = np.clip(np.array([scene.bounds for scene in scenes]).reshape(-1, 4), -FAR, FAR)
        self._tree = shapely.STRtree(shapely.box(*boxes.T))

    def touching(self, bounds: Bounds) -> tuple[Scene, ...]:
        """The scenes that overlap an area, in their order."""
        found = sorted(self._tree.query(shapely.box(*bounds)).tolist())
        return tuple(self._scenes[i] for i in found if self._scenes[i].touches(bounds))


def make_jobs(
    recipe: Recipe, space: Workspace, rows: list[Planned], scenes: list[Scene], known: dict[str, str]
) -> list[Job]:
    """All jobs of a build.

    Args:
        recipe: the recipe.
        space: its workspace.
        rows: the plan.
        scenes: to use, with the files that are read.
        known: what identifies the content of each file.
    """
    jobs: list[Job] = []
    prints = {id(scene): _print(scene, known) for scene in scenes}
    tiles = [row.tile for row in rows if row.split != BUFFER]
    labelled = [row.tile for row in rows if row.split != BUFFER and recipe.labelled(row.split)]
    for rule in recipe.sensors:
        mine = [scene for scene in scenes if scene.sensor == rule.name]
        for year in rule.years:
            array = ArrayKey(rule.name, year)
            spans = rule.spans(recipe.seasons, year)
            seasons = [Nearby([scene for scene in mine if scene.falls_in(span)]) for span in spans]
            resolution = sensor(rule.name).resolution
            for group in _groups(tiles, GROUP // tiles[0].shape(resolution)[0]):
                area = Area.of(group, resolution)
                near = tuple(season.touching(area.bounds) for season in seasons)
                keys = tuple(_image_key(rule, tile, near, prints) for tile in group)
                jobs.append(ImageJob(array, rule, group, keys, near, space.cache / str(array), space.blocks))
        if rule.dated:
            jobs += _dated_jobs(rule, rule.dated, space, tiles, mine, prints)
    for label in recipe.labels:
        content = [hash_file(label.path), companion_digests(label.path)]
        # Everything that determines the pixels; names in the release do not.
        options = label.model_dump(mode="json", exclude={"path", "name", "required", "licence", "sha256", "edition"})
        for group in _groups(labelled, GROUP // label_shape()[0]):
            keys = tuple(_digest(options, content, legend().digest, tile.id) for tile in group)
            jobs.append(LabelJob(label.array, label, group, keys, space.cache / str(label.array)))
    return jobs


def _dated_jobs(
    rule: SensorRule,
    dated: DatedRule,
    space: Workspace,
    tiles: Sequence[Tile],
    scenes: Sequence[Scene],
    prints: dict[int, str],
) -> list[Job]:
    """Jobs of single tiles, since a tile of dated imagery takes as much memory as many composites."""
    array = ArrayKey(rule.name, dated.first, dated.last)
    nearby = Nearby([scene for scene in scenes if dated.first <= _day(scene).year <= dated.last])
    jobs: list[Job] = []
    for tile in tiles:
        by_day: dict[date, list[Scene]] = {}
        for scene in nearby.touching(tile.bounds):
            by_day.setdefault(_day(scene), []).append(scene)
        if dated.every is None:
            steps = [(day, tuple(by_day[day])) for day in sorted(by_day)]
        else:
            steps = [
                (middle, tuple(scene for day in sorted(by_day) if first <= day <= last for scene in by_day[day]))
                for middle, (first, last) in dated.periods()
            ]
        dates, taken = tuple(day for day, _ in steps), tuple(found for _, found in steps)
        key = _digest(_image_key(rule, tile, taken, prints), [str(day) for day in dates], dated.every)
        jobs.append(ImageJob(array, rule, (tile,), (key,), taken, space.cache / str(array), space.blocks, dates))
    return jobs


def _day(scene: Scene) -> date:
    """Day of acquisition, UTC; the middle one where only an interval is known."""
    start, end = (datetime.fromisoformat(moment) for moment in (scene.start, scene.end))
    return (start + (end - start) / 2).date()


def _groups(tiles: Sequence[Tile], side: int) -> list[tuple[Tile, ...]]:
    """Neighbouring tiles together, in squares of ``side`` tiles (at least one).

    They follow strips of ``STRIP`` squares from west to east, so that neighbours are read soon after each other.
    """
    side = max(1, side)
    groups: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.iy // side, tile.ix // side), []).append(tile)
    return [tuple(groups[y, x]) for y, x in sorted(groups, key=lambda place: (place[0] // STRIP, place[1], place[0]))]


def _print(scene: Scene, known: dict[str, str]) -> str:
    """Digest of a scene and of the content of its files."""
    stamps = [known[asset.href] for asset in scene.assets.values()]
    return _digest(scene.model_dump(mode="json", exclude={"observation"}), stamps)


def _image_key(rule: SensorRule, tile: Tile, seasons: tuple[tuple[Scene, ...], ...], prints: dict[int, str]) -> str:
    """Digest of all that a tile's composite depends on: only the scenes that touch it, and what is done with them."""
    scenes = [
        [
            [prints[id(scene)] for scene in observation]
            for observation in observations([scene for scene in season if scene.touches(tile.bounds)])
        ]
        for season in seasons
    ]
    coding = asdict(sensor(rule.name).coding)
    return _digest(rule.archive, rule.bands, rule.composite, coding, tile.id, scenes)


def observations(scenes: Sequence[Scene]) -> Iterator[list[Scene]]:
    """Scenes by observation; a lock file keeps those of one together."""
    for _, group in groupby(scenes, key=lambda scene: scene.observation or scene.id):
        yield list(group)


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps([STAGE, *content], sort_keys=True).encode()).hexdigest()[:32]
