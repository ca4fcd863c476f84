"""Materialize: scenes become seasonal composites on the tile grid, label maps become label tiles.

Every result lies in the cache under a name that holds the digest of all it depends on: the scenes and their files, the
part of the recipe, the version of this stage. So a run can be killed and started again, and a changed recipe redoes
only what it changes. A tile's files are renamed into place before its note is, and only the note counts.
"""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from pydantic import ValidationError

from builders.archives import label_source, scene_source
from builders.readers import Pixels
from builders.readers.area import Area
from builders.readers.blocks import keeping_blocks
from builders.readers.scene import Scene
from builders.readers.servers import is_on_server, server_stamps
from builders.recipe import BUFFER, Recipe
from builders.stages._composite import COMPOSITES, MOST
from builders.stages._inputs import check_unchanged, stamps, verify_checksums
from builders.stages._jobs import ImageJob, Job, LabelJob, make_jobs, observations, with_files_read
from builders.stages.plan import Planned
from builders.workspace import Workspace, write_json
from lulcbench._files import Frozen, write_atomic
from lulcbench._parallel import each
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.grid import LABEL_RESOLUTION, Bounds, Tile
from lulcbench.release import ArrayKey
from lulcbench.sensors import sensor

log = logging.getLogger(__name__)
GDAL = {"GDAL_CACHEMAX": 256}


class Note(Frozen):
    """What is known of one tile of one array.

    Attributes:
        file: the ``.npy`` file, relative to the cache.
        valid: share of (season, pixel) that have a value.
        cloud: share of the observed pixels that were not clear; None if no scene has a quality layer.
        sparse: label pixels that the map covers too little to label.
        overlapping: label pixels without a label because polygons of several classes overlap.
        clear: mean number of clear observations of a pixel in a season; None for labels.
        clear_file: the ``.npy`` file of these numbers, uint8 ``(season, y, x)``, relative to the cache.
        scenes: ids of the scenes that contributed.
        dates: YYYY-MM-DD of each step of dated imagery.
        damaged: scenes that are not used because a file of them is damaged there: id, and file with place and fault.
    """

    file: str
    valid: float
    cloud: float | None
    scenes: tuple[str, ...]
    sparse: int = 0
    overlapping: int = 0
    clear: float | None = None
    clear_file: str | None = None
    dates: tuple[str, ...] = ()
    damaged: tuple[tuple[str, str], ...] = ()


Notes = dict[str, dict[ArrayKey, Note]]  # by tile id and array


def materialize(
    recipe: Recipe,
    space: Workspace,
    rows: list[Planned],
    scenes: list[Scene],
    pool: Executor | None,
    report: Callable[[int, int], None] | None = None,
) -> Notes:
    """Fill the cache and write ``tiles.json``.

    Returns:
        Notes by tile and array, for every tile of a split.

    Raises:
        LulcbenchError: a file cannot be read, or a tile has no valid pixel of a required sensor.
    """
    tiles = [row.tile for row in rows if row.split != BUFFER]
    for left in space.cache.glob("*/.*"):  # files that were being written when an earlier run was killed
        left.unlink(missing_ok=True)
    used = with_files_read(recipe, scenes)
    known = stamps(used)
    check_unchanged(used, known)
    verify_checksums(space, used, known)
    jobs = make_jobs(recipe, space, rows, used, known)
    total = sum(len(job.tiles) for job in jobs)
    notes: Notes = {tile.id: {} for tile in tiles}
    todo: list[Job] = []
    done = 0
    for job in jobs:
        missing = []
        for tile, key in zip(job.tiles, job.keys, strict=True):
            note = _cached(job, tile, key)
            if note:
                notes[tile.id][job.array] = note
                done += 1
            else:
                missing.append((tile, key))
        if missing:
            tiles_, keys = zip(*missing, strict=True)
            todo.append(replace(job, tiles=tiles_, keys=keys))
    log.info("%d of %d tiles of arrays are in the cache", done, total)
    if report:
        report(done, total)
    for array, made in each(pool, run_job, todo):
        for tile_id, note in made.items():
            notes[tile_id][array] = note
        done += len(made)
        if report:
            report(done, total)
    shutil.rmtree(space.blocks, ignore_errors=True)
    _check_unchanged(todo, known)
    dropped = _empty(recipe, notes)
    notes = {tile: found for tile, found in notes.items() if tile not in dropped}
    write_json(space.dropped, dropped)
    write_json(
        space.tiles,
        {
            tile: {str(array): note.model_dump(mode="json") for array, note in sorted(found.items())}
            for tile, found in notes.items()
        },
    )
    return notes


def _check_unchanged(done: Sequence[Job], known: Mapping[str, str]) -> None:
    """Files on servers must not be replaced while they are read; what was made from them is removed.

    Raises:
        CorruptFileError: one was.
    """
    images = [job for job in done if isinstance(job, ImageJob)]
    scenes = {id(scene): scene for job in images for season in job.scenes for scene in season}.values()
    hrefs = sorted({a.href for scene in scenes for a in scene.assets.values() if is_on_server(a.href)})
    now = dict(zip(hrefs, server_stamps(hrefs), strict=True))
    replaced = {href for href in hrefs if now[href] != known[href]}
    if not replaced:
        return
    for job in images:
        if any(a.href in replaced for season in job.scenes for scene in season for a in scene.assets.values()):
            for tile, key in zip(job.tiles, job.keys, strict=True):
                (job.cache / f"{tile.id}-{key}.json").unlink(missing_ok=True)
    raise CorruptFileError(
        f"{len(replaced)} files were replaced on their servers while they were read, such as {min(replaced)}.",
        "Delete the lock file and run 'python -m builders search' again, to use the new files.",
    )


def find_damage(notes: Notes) -> list[dict[str, Any]]:
    """Scenes of which parts are not used because a file is damaged: id, what is wrong, and the tiles."""
    tiles: dict[tuple[str, str], set[str]] = {}
    for tile, found in notes.items():
        for note in found.values():
            for damaged in note.damaged:
                tiles.setdefault(damaged, set()).add(tile)
    return [{"id": name, "what": what, "tiles": sorted(where)} for (name, what), where in sorted(tiles.items())]


def count_unlabelled(recipe: Recipe, notes: Notes) -> dict[str, dict[str, int]]:
    """Number of label pixels without a label although the map has a class there, by reason and label array.

    ``sparse_labels`` are those that the map covers too little, ``overlapping_labels`` those under polygons of several
    classes.
    """

    def count(reason: str) -> dict[str, int]:
        return {
            str(label.array): sum(getattr(tile[label.array], reason) for tile in notes.values() if label.array in tile)
            for label in recipe.labels
        }

    return {f"{reason}_labels": count(reason) for reason in ("overlapping", "sparse")}


def run_job(job: Job) -> tuple[ArrayKey, dict[str, Note]]:
    """Do one job in a worker; returns the array and the notes by tile id."""
    with rasterio.Env(**GDAL):
        if isinstance(job, LabelJob):
            return job.array, _labels(job)
        with keeping_blocks(job.blocks):
            return job.array, _images(job)


def _images(job: ImageJob) -> dict[str, Note]:
    instrument = sensor(job.rule.name)
    bands = tuple(instrument.band(name) for name in job.rule.bands)
    source = scene_source(job.rule.archive)
    area = Area.of(job.tiles, instrument.resolution)
    coding = instrument.coding
    seasons = np.full((len(job.scenes), len(bands), *area.shape), coding.fill_value, coding.dtype)
    observed = np.zeros((2, *area.shape), np.uint16)  # by observations with quality layers, and by others
    unclear = np.zeros(area.shape, np.uint16)
    counts = np.zeros((len(job.scenes), *area.shape), np.uint8)
    composite = COMPOSITES[job.rule.composite]
    used: dict[Tile, set[str]] = {tile: set() for tile in job.tiles}
    damaged: dict[Tile, set[tuple[str, str]]] = {tile: set() for tile in job.tiles}
    for season, scenes in enumerate(job.scenes):
        stack = []
        for observation in observations(scenes):
            joint: Pixels | None = None
            for scene in observation:
                if not scene.touches(area.bounds):
                    continue
                pixels = source.read(scene, area, bands)
                for bounds, what in pixels.damage:
                    log.warning("%s is not used in a part of %s: %s", scene.id, job.array, what)
                    for tile in job.tiles:
                        if scene.touches(tile.bounds) and _lies_in(tile.bounds, bounds):
                            damaged[tile].add((scene.id, what))
                for tile in job.tiles:  # a tile depends on the scenes that touch it alone, as its key does
                    if not scene.touches(tile.bounds):
                        rows, columns = area.window(tile)
                        pixels.seen[rows, columns] = pixels.clear[rows, columns] = False
                pixels.stored[:, ~pixels.clear] = coding.fill_value
                good = ~coding.missing(pixels.stored[0])
                if joint is None:
                    joint = pixels
                else:
                    good &= coding.missing(joint.stored[0])
                    joint.stored[:, good] = pixels.stored[:, good]
                    joint = Pixels(joint.stored, joint.seen | pixels.seen, joint.clear | pixels.clear)
                for tile in job.tiles:
                    if good[area.window(tile)].any():
                        used[tile].add(scene.id)
            if joint is None:
                continue
            for tile in job.tiles:
                known = all(source.knows_clouds(scene) for scene in observation if scene.touches(tile.bounds))
                part = area.window(tile)
                observed[(0 if known else 1, *part)] += joint.seen[part]
                if known:
                    unclear[part] += joint.seen[part] & ~joint.clear[part]
            if not coding.missing(joint.stored[0]).all():
                stack.append(joint.stored)
        if stack:
            whole = np.stack(stack)
            counts[season] = np.minimum((~coding.missing(whole[:, 0])).sum(axis=0), MOST)
            seasons[season] = composite(whole, coding)
    notes = {}
    for tile, key in zip(job.tiles, job.keys, strict=True):
        rows, columns = area.window(tile)
        image = seasons[..., rows, columns]
        dates: tuple[str, ...] = ()
        if job.dates:
            # Acquisitions without a clear pixel in the tile are left out; composites are on the same dates in all.
            dated = job.rule.dated
            every = None if dated is None else dated.every
            kept = [i for i in range(len(image)) if every or not coding.missing(image[i, 0]).all()]
            image, dates = image[kept], tuple(job.dates[i].isoformat() for i in kept)
        assessed, unknown = (int(count[rows, columns].sum()) for count in observed)
        notes[tile.id] = _keep(
            job, tile, key, image,
            valid=float((~coding.missing(image[:, 0])).mean()) if len(image) else 0.0,
            cloud=float(unclear[rows, columns].sum() / assessed) if assessed else None if unknown else 0.0,
            scenes=tuple(sorted(used[tile])),
            counts=None if job.array == job.rule.dated_array else counts[:, rows, columns],
            dates=dates,
            damaged=tuple(sorted(damaged[tile])),
        )  # fmt: skip
    return notes


def _lies_in(inner: Bounds, outer: Bounds) -> bool:
    left, bottom, right, top = outer
    return left <= inner[0] and bottom <= inner[1] and inner[2] <= right and inner[3] <= top


def _labels(job: LabelJob) -> dict[str, Note]:
    area = Area.of(job.tiles, LABEL_RESOLUTION)
    labels = label_source(job.rule).read(area)
    notes = {}
    for tile, key in zip(job.tiles, job.keys, strict=True):
        image = labels.codes[area.window(tile)]
        valid = float((image > 0).mean())
        window = area.window(tile)
        unlabelled = (int(labels.sparse[window].sum()), int(labels.overlapping[window].sum()))
        notes[tile.id] = _keep(job, tile, key, image, valid=valid, cloud=0.0, scenes=(), unlabelled=unlabelled)
    return notes


def _cached(job: Job, tile: Tile, key: str) -> Note | None:
    try:
        return Note.model_validate_json((job.cache / f"{tile.id}-{key}.json").read_bytes())
    except (FileNotFoundError, ValidationError):  # not made yet, or cut off by a power failure
        return None


def _keep(
    job: Job,
    tile: Tile,
    key: str,
    image: npt.NDArray[Any],
    valid: float,
    cloud: float | None,
    scenes: tuple[str, ...],
    unlabelled: tuple[int, int] = (0, 0),
    counts: npt.NDArray[np.uint8] | None = None,
    dates: tuple[str, ...] = (),
    damaged: tuple[tuple[str, str], ...] = (),
) -> Note:
    """Put a tile into the cache: the arrays first, then the note that makes them count."""
    final = job.cache / f"{tile.id}-{key}.npy"
    clear = None if counts is None else final.with_suffix(".clear.npy")
    for path, content in ((final, image), (clear, counts)):
        if path is not None and content is not None:
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(content), allow_pickle=False)
            write_atomic(path, buffer.getvalue())
    note = Note(
        file=f"{job.array}/{final.name}",
        valid=round(valid, 6),
        cloud=None if cloud is None else round(cloud, 6),
        scenes=scenes,
        sparse=unlabelled[0],
        overlapping=unlabelled[1],
        clear=None if counts is None else round(float(counts.mean()), 6),
        clear_file=None if clear is None else f"{job.array}/{clear.name}",
        dates=dates,
        damaged=damaged,
    )
    write_atomic(final.with_suffix(".json"), note.model_dump_json().encode())
    return note


def _empty(recipe: Recipe, notes: Notes) -> dict[str, str]:
    """Tiles without one valid pixel of a required sensor: an error, or to be dropped, as the recipe requests.

    Returns:
        Tile id → the array without a valid pixel.
    """
    required = [array for rule in recipe.sensors if rule.required for array in rule.arrays]
    empty = {
        tile: str(next(array for array in required if found[array].valid == 0))
        for tile, found in notes.items()
        if any(found[array].valid == 0 for array in required)
    }
    if empty and recipe.empty_tiles == "error":
        shown = ", ".join(f"{tile} ({array})" for tile, array in list(empty.items())[:5])
        damage = [one for one in find_damage(notes) if set(one["tiles"]) & set(empty)]
        more = f" Scenes that are damaged there: {damage[0]['id']} ({damage[0]['what']})." if damage else ""
        raise LulcbenchError(
            f"{len(empty)} of {len(notes)} tiles have no valid pixel: {shown}{', …' if len(empty) > 5 else ''}.{more}",
            "Add scenes, raise max_cloud, shrink the regions, or set empty_tiles = 'drop' in the recipe.",
        )
    if len(empty) == len(notes):
        raise LulcbenchError("No tile has a valid pixel.", "Check that scenes and regions overlap in space and time.")
    return empty
