"""Maps of a release with a model: windows are predicted, blended, decided and written, row by row of blocks.

A row is written as soon as it is complete, so that memory does not depend on the height of the map. Every window is
predicted by itself, on one thread, from imagery that does not depend on the requested area. Hence the bytes of a map do
not depend on the number of processes, and any part of a map that is requested alone has the same values.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from dataclasses import replace as altered
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lulcbench._files import full_disk_named, write_atomic
from lulcbench.areas import Area
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.geozarr import METADATA
from lulcbench.grid import TILE_SIZE, Bounds
from lulcbench.maps.cog import write_cogs
from lulcbench.maps.conformal import FILE as CALIBRATION
from lulcbench.maps.conformal import Calibration
from lulcbench.maps.dated import open_imagery, years_of
from lulcbench.maps.ensemble import AnyModel, Ensemble, has_members, open_model
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.lattice import Frame, Index, Lattice
from lulcbench.maps.layers import layers
from lulcbench.maps.mapping_unit import CHOSEN, MappingUnit, late_layers, write_generalised
from lulcbench.maps.metadata import tags, write_metadata
from lulcbench.maps.model import MapModel, step_of
from lulcbench.maps.overviews import write_overviews
from lulcbench.maps.pool import Work, predictions
from lulcbench.maps.rows import Rows
from lulcbench.maps.smoothing import Smoothing
from lulcbench.maps.store import Pyramid
from lulcbench.release import Release

WORK = ".work"
_FULL = "Free some space and run the command again: it continues where it stopped."
Progress = Callable[[int, int], None]  # blocks done, blocks in total


@dataclass(frozen=True, slots=True)
class MapOptions:
    """What to map, and how.

    Attributes:
        years: of the imagery; empty takes all years that the release has of the sensors of the model.
        bounds: in EPSG:3035 metres; None is all of the release. Pixels whose centre is outside have no data.
        area: polygons, likewise; with ``bounds``, what is inside both is mapped.
        halo: pixels around a block that the model sees; None takes its reach, at most 160.
        cog: write GeoTIFFs, too.
        smoothing: smooth probabilities; None leaves them as predicted.
        mapping_unit: fill patches of classes that are smaller; None leaves them.
    """

    years: tuple[int, ...] = ()
    bounds: Bounds | None = None
    area: Area | None = None
    halo: int | None = None
    cog: bool = False
    smoothing: Smoothing | None = None
    mapping_unit: MappingUnit | None = None


@dataclass(frozen=True, slots=True)
class MapResult:
    """What was mapped.

    Attributes:
        folder: of the map.
        years: of its groups.
        blocks: number of blocks of the area that have tiles, over all years.
        damaged: tiles that could not be read, which have no data → what is wrong.
        mapped: share of the requested pixels that have a class, by year; the others are outside the tiles of the
            release, or have no imagery.
    """

    folder: Path
    years: tuple[int, ...]
    blocks: int
    damaged: dict[str, str] = field(default_factory=dict)
    mapped: dict[int, float] = field(default_factory=dict)


def map_release(
    model: str | os.PathLike[str] | AnyModel | Ensemble | Sequence[str | os.PathLike[str] | AnyModel],
    root: str | Path,
    out: str | Path,
    options: MapOptions | None = None,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> MapResult:
    """Map a release with a model; a run that was interrupted is resumed.

    Args:
        model: folder of an exported model, a model that is open, or several, whose mean is mapped.
        root: folder or URL of the release.
        out: folder of the map, see ``lulcbench.maps``.
        options: what to map.
        workers: number of processes that predict; 1 predicts in this process.
        scheduler: address of a dask scheduler, whose workers predict instead; they read the model and the release
            themselves, under the same paths.
        replace: replace another map in ``out``.
        progress: is told the numbers of finished blocks and of all blocks.

    Raises:
        LulcbenchError: the model is not valid or does not predict classes of pixels; the release lacks what it
            needs; the area does not overlap the release; ``out`` holds something else; the disk or the memory is full;
            the scheduler cannot be reached.
    """
    opened, options = open_model(model), options or MapOptions()
    info = opened.info
    scheme = info.scheme
    release = Release.open(root)
    years = tuple(sorted(set(options.years or years_of(release, info))))
    smoothing, unit = options.smoothing, options.mapping_unit
    calibration = Calibration.of(opened) if isinstance(opened, MapModel) else None
    if calibration and calibration.smoothing != smoothing:
        raise LulcbenchError(
            f"{info.name} was calibrated {'with' if calibration.smoothing else 'without'} smoothing.",
            f"Calibrate it as it is mapped ('lulcbench calibrate'), or delete {CALIBRATION} in its folder.",
        )
    margin = smoothing.margin if smoothing else 0
    lattice = Lattice.of(info.resolution, info.reach, step_of(info), options.halo, margin)
    imagery = {year: open_imagery(release, info, year) for year in years}
    any_year = imagery[years[0]]
    area = options.area
    bounds = _clip(options.bounds, any_year.bounds)
    bounds = _clip(area.bounds, bounds) if area and bounds else bounds
    wanted = _blocks(any_year, lattice, bounds, area) if bounds else []
    requested = _size(options.bounds, area, any_year)
    if bounds is None or not wanted or not requested:
        raise NotAvailableError(
            f"The area {area.name if area else options.bounds} does not overlap {release.id}.",
            f"Its tiles span {any_year.bounds}: left, bottom, right, top in EPSG:3035 metres.",
        )
    folder = Path(out)
    plan = {
        "model": opened.digest,
        "release": release.digest,
        "years": list(years),
        "bounds": list(bounds),
        "area": area.provenance if area else None,
        "lattice": asdict(lattice),
        "cog": options.cog,
        "smoothing": smoothing.model_dump() if smoothing else None,
        "mapping_unit": unit.model_dump() if unit else None,
        "conformal": calibration.model_dump(mode="json") if calibration else None,
    }
    frame = Frame.over(lattice, bounds)
    stored = layers(
        scheme,
        clear=any_year.has_clear,
        dated=info.of_series,
        ensemble=has_members(opened),
        smoothed=smoothing is not None,
        generalised=unit is not None,
        conformal=calibration.coverage if calibration else None,
    )
    predicted = wanted
    if unit:
        margin = unit.margin(scheme, info.resolution) * info.resolution
        predicted = _blocks(any_year, lattice, _grown(bounds, margin), area, margin)
    done, damaged, mapped = 0, dict[str, str](), dict[int, float]()
    with (
        full_disk_named(folder, _FULL),
        _memory_named(folder),
        _prepared(folder, plan, replace) as work,
        predictions(opened, release, Work.of(opened, release, lattice, smoothing), workers, scheduler) as predict,
    ):
        for year in years:
            pyramid = Pyramid(folder / str(year), frame, stored, scheme)
            pyramid.create()
            first, chosen = _first_pass(pyramid, predicted, work / str(year)) if unit else (pyramid, None)
            run = Rows(first, bounds, calibration, chosen, work / f"{year}.jsonl", partial(predict, year), area)
            for blocks in run.rows(predicted):
                done += blocks
                if progress:
                    progress(done, len(predicted) * len(years))
            damaged |= run.damaged
            mapped[year] = min(1.0, run.mapped * lattice.resolution**2 / requested)
            if unit and chosen:
                write_generalised(pyramid, chosen, wanted, unit)
            write_overviews(pyramid, wanted)
            if options.cog:
                write_cogs(pyramid, folder / "cog" / str(year), wanted, tags(opened, release, year))
        write_metadata(folder, opened, release, years, frame, bounds, damaged, plan, area)
    shutil.rmtree(folder / WORK)
    return MapResult(folder, tuple(years), len(wanted) * len(years), damaged, mapped)


def _size(bounds: Bounds | None, area: Area | None, imagery: ReleaseImagery) -> float:
    """Size of what is requested, m²; of all of the release, that of its tiles."""
    import shapely

    if area is None:
        return shapely.box(*bounds).area if bounds else len(imagery.tiles(imagery.bounds)) * float(TILE_SIZE**2)
    return float(shapely.intersection(area.geometry, shapely.box(*(bounds or area.bounds))).area)


def _grown(bounds: Bounds, margin: float) -> Bounds:
    """Bounds with a margin on all sides."""
    left, bottom, right, top = bounds
    return (left - margin, bottom - margin, right + margin, top + margin)


def is_map(folder: Path) -> bool:
    """Whether a complete map is in a folder; releases, too, have a ``zarr.json``."""
    try:
        content = json.loads((folder / METADATA).read_bytes())
    except (OSError, ValueError):
        return False
    attributes = content.get("attributes") if isinstance(content, dict) else None
    stated = attributes.get("lulcbench:format") if isinstance(attributes, dict) else None
    return str(stated).startswith("lulcbench-map/")


def _first_pass(pyramid: Pyramid, blocks: list[Index], folder: Path) -> tuple[Pyramid, Pyramid]:
    """The layers that do not depend on other blocks, and temporary arrays of the decided classes of all blocks.

    The class layers themselves are written afterwards, so that a row that was written once never changes: otherwise a
    run that is resumed could not recognise it.
    """
    lattice = pyramid.frame.lattice
    left, bottom, right, top = zip(*(lattice.block(index) for index in blocks), strict=True)
    extent = (min(left), min(bottom), max(right), max(top))
    chosen = Pyramid(folder, Frame.over(lattice, extent), (CHOSEN,), pyramid.scheme)
    chosen.create()
    own = tuple(layer for layer in pyramid.layers if layer.name not in late_layers(pyramid.scheme))
    return altered(pyramid, layers=own), chosen


def _clip(bounds: Bounds | None, extent: Bounds) -> Bounds | None:
    """The part of an area inside an extent; None if there is none.

    Raises:
        LulcbenchError: the area is empty.
    """
    if bounds is None:
        return extent
    left, bottom, right, top = bounds
    if not (all(map(math.isfinite, bounds)) and left < right and bottom < top):
        raise LulcbenchError(f"Bounds {bounds} are empty.", "Give left, bottom, right, top in EPSG:3035 metres.")
    left, bottom = max(left, extent[0]), max(bottom, extent[1])
    right, top = min(right, extent[2]), min(top, extent[3])
    return (left, bottom, right, top) if left < right and bottom < top else None


def _blocks(
    imagery: ReleaseImagery, lattice: Lattice, bounds: Bounds, area: Area | None = None, margin: float = 0
) -> list[Index]:
    """Blocks in which bounds and tiles of the release overlap and that are near an area, row by row."""
    found: set[Index] = set()
    for tile in imagery.tiles(bounds):
        if (part := _clip(bounds, tile.bounds)) is not None:
            found.update(lattice.blocks(part))
    if area is not None:
        found = {index for index in found if area.touches(_grown(lattice.block(index), margin))}
    return sorted(found)


@contextmanager
def _memory_named(folder: Path) -> Iterator[None]:
    """Turn the error of full memory, here or in another process, into a ``LulcbenchError``."""
    try:
        yield
    except MemoryError as error:
        raise LulcbenchError(
            f"Memory ran out while {folder} was made: {error or 'no details'}.",
            "Lower --workers or --halo, or free memory, and run the command again: it continues where it stopped.",
        ) from error


@contextmanager
def _prepared(folder: Path, plan: dict[str, Any], replace: bool) -> Iterator[Path]:
    """The folder of what a map needs while it is made; taken up again if it is of the same map.

    Raises:
        LulcbenchError: the folder holds something else, or another process works in it.
    """
    work, own = folder / WORK, folder / WORK / "plan.json"
    text = json.dumps(plan, indent=1, sort_keys=True) + "\n"
    same = own.is_file() and own.read_text(encoding="utf-8") == text
    if folder.is_dir() and any(folder.iterdir()) and not same:
        complete, ours = is_map(folder), own.is_file()
        if not replace or not (complete or ours):
            what = "holds a map already" if complete else "holds a part of another map" if ours else "is not empty"
            remedy = "Give another --out, or --replace." if complete or ours else "Give another --out."
            raise LulcbenchError(f"{folder} {what}.", remedy)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LulcbenchError(
            f"Another process makes the map in {folder}.", "Wait for it, or give another --out."
        ) from error
    try:
        if not same:  # only now: no other process is writing there
            for path in (*folder.iterdir(), *work.iterdir()):
                if path not in (work, work / "lock"):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for left in sorted(folder.rglob("*.partial")):  # by zarr, when it was killed
            left.unlink()
        write_atomic(own, text.encode())
        yield work
    finally:
        lock.release()
