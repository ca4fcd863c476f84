"""Pack: cached tiles become a release: sharded Zarr arrays, statistics, index, descriptions, and last the manifest.

A release grows in a staging folder of the workspace and is renamed to its place when it is complete, so that a folder
that has a ``release.json`` is whole. A shard is written by one worker to a temporary store and renamed; a note beside
it says that it is done, so that packing too can be killed and started again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builders.archives.luisa import ATTRIBUTION, edition_of
from builders.recipe import BUFFER, LabelRule, Recipe, SensorRule
from builders.stages._areas import stated_areas
from builders.stages._hierarchy import (
    TileAxis,
    clear_array,
    image_array,
    label_array,
    list_files,
    write_arrays,
    write_coordinates,
)
from builders.stages._index import write_index
from builders.stages._shards import Array, ShardJob, write_shard
from builders.stages._sums import statistics
from builders.stages._thumbnails import write_thumbnails
from builders.stages.materialize import Note, Notes, count_unlabelled, find_damage
from builders.stages.plan import Planned, read_omitted
from builders.stages.report import FILE as REPORT
from builders.stages.report import content as report_content
from builders.stages.report import empty_seasons
from builders.stages.search import published
from builders.workspace import Workspace, read_json, write_json
from lulcbench._files import hash_file
from lulcbench._parallel import each
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from lulcbench.release import (
    MANIFEST,
    TRAIN,
    ArrayKey,
    LabelInfo,
    Manifest,
    SensorInfo,
    Source,
    split_order,
)
from lulcbench.sensors import sensor

STAGE = "pack/8"


def pack(
    recipe: Recipe,
    space: Workspace,
    rows: list[Planned],
    pool: Executor | None,
    replace: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Write the release to ``space.root``; a release of the same inputs that is there already is kept.

    Raises:
        LulcbenchError: a split has no tile left, or another release lies at the place and ``replace`` is not set.
    """
    notes: Notes = {
        tile: {ArrayKey.parse(array): Note.model_validate(note) for array, note in found.items()}
        for tile, found in read_json(space.tiles, "materialize").items()
    }
    lock = published(recipe.lock or space.lock)
    dropped = read_json(space.dropped, "materialize")
    unlabelled, damaged, empty = (
        count_unlabelled(recipe, notes),
        find_damage(notes),
        empty_seasons(recipe, lock["scenes"]),
    )
    told = report_content(lock, rows, read_omitted(space.splits), dropped, unlabelled, damaged, empty)
    told |= {"areas": areas} if (areas := stated_areas(space.splits)) else {}
    key = _key(recipe, rows, notes, lock, told)
    present = _present(space, key, replace)
    if present:
        return present
    planned = split_order(row.split for row in rows if row.split != BUFFER)
    order = {split: [row for row in rows if row.split == split and row.tile.id in notes] for split in planned}
    for split, found in order.items():
        if not found:
            raise LulcbenchError(
                f"Split {split!r} is empty: all its tiles were dropped because they have no valid pixel.",
                "Add scenes, or change regions, blocks or fractions of the recipe.",
            )
    staging = _staging(space, key)
    axis = TileAxis(order, min(recipe.pack.shard_tiles, max(map(len, order.values()))))
    totals = _shards(recipe, space, axis, notes, staging, pool, report)
    write_index(recipe, axis, notes, space.cache, staging, pool)
    write_thumbnails(recipe, axis, notes, space.cache, staging, pool)
    shutil.copyfile(space.splits, staging / "splits.csv")
    write_json(staging / "scenes.lock.json", lock)
    write_json(staging / REPORT, told)
    draft = _manifest(recipe, axis, totals)
    from builders.stages._describe import describe  # mlcroissant takes seconds to import

    describe(draft, staging)
    licences = {key.name: rule.licence for rule in recipe.sensors for key in _arrays_of(rule)}
    licences |= {label.name: recipe.licence_of(label) for label in recipe.labels}
    files = list_files(
        staging, arrays_of(recipe, notes), axis, lambda array: licences[array.name] if array else recipe.label_licence
    )
    release = draft.model_copy(update={"files": files})
    release.write(staging)
    # Before the release is at its place: a build that is killed in between recognizes it.
    write_json(space.work / "packed.json", {"key": key, "digest": release.digest})
    _install(staging, space.root, replace)
    return release


def arrays_of(recipe: Recipe, notes: Notes) -> list[Array]:
    """All arrays of a release; dated ones have as many steps as the tile with the most dates."""
    arrays = []
    for rule in recipe.sensors:
        instrument = sensor(rule.name)
        bands = [instrument.band(band) for band in rule.bands]
        for year in rule.years:
            key = ArrayKey(rule.name, year)
            arrays.append(image_array(key, instrument.resolution, bands, len(recipe.seasons), clear_counts=True))
            arrays.append(clear_array(key, instrument.resolution, len(recipe.seasons)))
        if rule.dated_array:
            steps = _steps(notes, rule.dated_array)
            arrays.append(image_array(rule.dated_array, instrument.resolution, bands, steps, axis="time"))
    return arrays + [label_array(label.array) for label in recipe.labels]


def _shards(
    recipe: Recipe,
    space: Workspace,
    axis: TileAxis,
    notes: Notes,
    staging: Path,
    pool: Executor | None,
    report: Callable[[int, int], None] | None,
) -> list[dict[str, Any]]:
    arrays, codec, size = arrays_of(recipe, notes), recipe.pack.codec, axis.shard_tiles
    labels = {label.array for label in recipe.labels}
    write_arrays(staging, arrays, axis, codec)
    cached = {tile: _files(found) for tile, found in notes.items()}
    jobs = []
    for split, rows in axis.splits.items():
        for array in arrays:
            if array.key in labels and not recipe.labelled(split):
                continue
            for start in range(0, len(rows), size):
                files = tuple(space.cache / cached[row.tile.id][array.key] for row in rows[start : start + size])
                first = axis.first_rows[split] + start
                note = staging.with_name("shards") / f"{array.key}-{first}.json"
                jobs.append(ShardJob(array, split, axis.size, size, codec, first, files, staging, note))
    results = []
    for sums in each(pool, write_shard, jobs):
        results.append(sums)
        if report:
            report(len(results), len(jobs))
    bands = {rule.name: [sensor(rule.name).band(band) for band in rule.bands] for rule in recipe.sensors}
    dates = {rule.dated_array: _dates(axis, notes, rule.dated_array) for rule in recipe.sensors if rule.dated_array}
    write_coordinates(staging, arrays, axis, bands, recipe.seasons, _attributes(recipe), dates)
    return results


def _steps(notes: Notes, array: ArrayKey) -> int:
    """Length of the time axis of a dated array."""
    return max(1, *(len(found[array].dates) for found in notes.values()))


def _dates(axis: TileAxis, notes: Notes, array: ArrayKey) -> npt.NDArray[np.datetime64]:
    """Dates of an array, datetime64 ``(row, time)``, NaT where a tile has fewer or a row is padding."""
    dates = np.full((axis.size, _steps(notes, array)), np.datetime64("NaT", "D"))
    for split, first in axis.first_rows.items():
        for row, planned in enumerate(axis.splits[split], start=first):
            own = notes[planned.tile.id][array].dates
            dates[row, : len(own)] = np.array(own, "datetime64[D]")
    return dates


def _arrays_of(rule: SensorRule) -> list[ArrayKey]:
    """The arrays of a sensor: imagery and numbers of clear observations."""
    return [*rule.arrays, *(ArrayKey(rule.name, year).clear for year in rule.years)]


def _files(notes: dict[ArrayKey, Note]) -> dict[ArrayKey, str]:
    """File of each array of a tile, relative to the cache."""
    files = {key: note.file for key, note in notes.items()}
    return files | {key.clear: note.clear_file for key, note in notes.items() if note.clear_file}


def _attributes(recipe: Recipe) -> dict[str, Any]:
    """Attributes of the hierarchy."""
    title = f"{recipe.title} (SIMULATED DATA)" if recipe.simulated else recipe.title
    return {
        "title": title,
        "summary": recipe.description,
        "id": f"{recipe.name}-{recipe.version}",
        "simulated": recipe.simulated,
    }


def _manifest(recipe: Recipe, axis: TileAxis, totals: list[dict[str, Any]]) -> Manifest:
    train = [sums for sums in totals if sums["split"] == "train"]
    sensors = {}
    for rule in recipe.sensors:
        arrays = {str(array) for array in rule.arrays}
        instrument = sensor(rule.name)
        found = statistics([sums for sums in train if sums["array"] in arrays], instrument.coding)
        if train and found is None:
            raise LulcbenchError(
                f"The train split has no valid pixel of {rule.name}.", "Take the sensor out, or add scenes."
            )
        sensors[rule.name] = SensorInfo(
            resolution=instrument.resolution,
            bands=tuple(instrument.band(band) for band in rule.bands),
            years=rule.years,
            spans=((rule.dated.first, rule.dated.last),) if rule.dated else (),
            licence=rule.licence,
            statistics=found,
            composite=rule.composite if rule.years or (rule.dated and rule.dated.every) else None,
            clear_counts=bool(rule.years),
        )
    return Manifest(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        description=recipe.description,
        simulated=recipe.simulated,
        seasons=recipe.seasons,
        sensors=sensors,
        labels=_labels(recipe, list(axis.splits), train),
        regions=tuple(region.name for region in recipe.regions),
        splits={split: len(rows) for split, rows in axis.splits.items()},
        first_rows=axis.first_rows,
        sources=_sources(recipe),
        files=(),
        builder=STAGE,
    )


def _labels(recipe: Recipe, order: list[str], train: list[dict[str, Any]]) -> dict[str, LabelInfo]:
    splits = tuple(split for split in order if recipe.labelled(split))
    labels: dict[str, LabelInfo] = {}
    for name in dict.fromkeys(label.name for label in recipe.labels if splits):
        rules = [label for label in recipe.labels if label.name == name]
        counts: dict[int, dict[int, int]] = {}
        for label in rules if TRAIN in splits else ():
            total = counts.setdefault(label.year, {})
            for sums in train:
                if sums["array"] == str(label.array):
                    for code, n in sums["counts"].items():
                        total[int(code)] = total.get(int(code), 0) + n
        labels[name] = LabelInfo(
            years=tuple(label.year for label in rules),
            splits=splits,
            legend_digest=legend().digest,
            licence=recipe.licence_of(rules[0]),
            class_counts={year: dict(sorted(found.items())) for year, found in counts.items()},
        )
    return labels


def _sources(recipe: Recipe) -> tuple[Source, ...]:
    """The recipe's sources and its label maps, each with its edition and SHA-256."""
    return recipe.sources + tuple(_label_source(label, recipe.licence_of(label)) for label in recipe.labels)


def _label_source(rule: LabelRule, licence: str) -> Source:
    sha256 = hash_file(rule.path)
    known = edition_of(sha256)
    name = rule.edition or (known[0] if known else rule.path.name)
    title = known[1].title if known else rule.source.upper().replace("-", " ")
    return Source(
        id=f"labels-{rule.name}-{rule.year}",
        title=f"Labels of {rule.year}: {title}, edition {name}",
        licence=licence,
        attribution=ATTRIBUTION if known else "",  # others are sources of the recipe
        sha256=sha256,
    )


# Parts of a recipe that the release does not depend on, or only by what they lead to.
_ELSEWHERE: Any = dict.fromkeys(("simulate", "ingest", "catalog", "lock", "labels", "downloads"), True) | {
    "sensors": {"__all__": {"catalog"}},
    "regions": {"__all__": {"area"}},
}


def _key(recipe: Recipe, rows: list[Planned], notes: Notes, *texts: dict[str, Any]) -> str:
    """Digest of all that the release depends on."""
    content = [
        STAGE,
        recipe.model_dump(mode="json", exclude=_ELSEWHERE),
        [label.model_dump(mode="json") | {"path": label.path.name} for label in recipe.labels],
        texts,
        [(row.tile.id, row.region, row.block, row.split) for row in rows],
        {
            tile: {str(array): note.model_dump(mode="json") for array, note in found.items()}
            for tile, found in notes.items()
        },
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _present(space: Workspace, key: str, replace: bool) -> Manifest | None:
    """The release at the place, if it is the one that would be made."""
    if not space.root.exists() or not any(space.root.iterdir()):
        return None
    made = space.work / "packed.json"
    if (space.root / MANIFEST).is_file():
        release = Manifest.load(space.root)
        if made.is_file() and read_json(made, "pack") == {"key": key, "digest": release.digest}:
            for left in space.root.glob(".audit.*"):  # temporary files of an audit that was killed
                left.unlink()
            return release
        if replace:
            return None
        raise LulcbenchError(
            f"{space.root} holds another release ({release.id}, {release.digest[:12]}…); releases are immutable.",
            "Choose another --out, or give --replace to put the new one in its place.",
        )
    raise LulcbenchError(f"{space.root} is not empty and holds no release.", "Choose an empty or new folder for --out.")


def _staging(space: Workspace, key: str) -> Path:
    """The staging folder, emptied unless it was begun with the same key."""
    home = space.work / "pack"
    mark = home / "key.json"
    staging = home / "release"
    if not (mark.is_file() and read_json(mark, "pack") == key):
        _clear(home)
        write_json(mark, key)
    staging.mkdir(parents=True, exist_ok=True)
    for left in sorted(staging.rglob("*"), reverse=True):
        # Written when an earlier run was killed: our temporary files begin with a dot, those of zarr end in .partial.
        if left.name.startswith(".") or left.suffix == ".partial":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return staging


def _clear(home: Path) -> None:
    """Delete what was staged, its key first: the rest is not complete any more."""
    (home / "key.json").unlink(missing_ok=True)
    shutil.rmtree(home, ignore_errors=True)


def _install(staging: Path, root: Path, replace: bool) -> None:
    """Move the finished folder to its place; an older release there is moved away just before.

    Raises:
        LulcbenchError: another build has put a release there in the meantime.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    old = root.with_name(f".{root.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if root.exists() and replace:
        root.rename(old)
    try:
        staging.rename(root)  # an empty folder is replaced, any other is an error
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise LulcbenchError(
            f"{root} has been filled by another build in the meantime.", "Give each build its own --out."
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    _clear(staging.parent)
