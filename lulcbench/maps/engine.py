"""Maps of a release with a model: windows are predicted, blended, decided and written, row by row of blocks.

A row is written as soon as it is complete, so that memory does not depend on the height of the map. Every window is
predicted by itself, on one thread, from imagery that does not depend on the requested area. Hence the bytes of a map do
not depend on the number of processes, and any part of a map that is requested alone has the same values.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from dataclasses import replace as altered
from functools import partial
from pathlib import Path

from lulcbench._files import full_disk_named
from lulcbench.areas import Area
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.grid import TILE_SIZE, Bounds
from lulcbench.maps.cog import write_cogs
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
from lulcbench.maps.prepared import WORK, prepared, versions
from lulcbench.maps.rows import Rows
from lulcbench.maps.smoothing import Smoothing
from lulcbench.maps.store import Pyramid
from lulcbench.release import Release

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
    margin = smoothing.margin if smoothing else 0
    lattice = Lattice.of(info.resolution, info.reach, step_of(info), options.halo, margin)
    if calibration and isinstance(opened, MapModel):
        calibration.check(opened, lattice, smoothing)
    imagery = {year: open_imagery(release, info, year) for year in years}
    area = options.area
    bounds = _bounds(options, imagery, release)
    margin = unit.margin(scheme, info.resolution) * info.resolution if unit else 0  # m
    grown = _grown(bounds, margin)
    # Years may have different tiles here.
    wanted = {year: _blocks(own, lattice, bounds, area) for year, own in imagery.items()}
    predicted = {
        year: _blocks(own, lattice, grown, area, margin) if unit else wanted[year] for year, own in imagery.items()
    }
    requested = {year: _size(options.bounds, area, own) for year, own in imagery.items()}
    for year, own in imagery.items():
        if not wanted[year]:
            raise _not_here(options, release, own.bounds, year)
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
        "tiles": [own.present(_grown(grown, lattice.side * lattice.resolution)) for own in imagery.values()],
        "versions": versions(opened),
    }
    frame = Frame.over(lattice, bounds)
    stored = layers(
        scheme,
        clear=all(own.has_clear for own in imagery.values()),
        dated=info.of_series,
        ensemble=has_members(opened),
        smoothed=smoothing is not None,
        generalised=unit is not None,
        conformal=calibration.coverage if calibration else None,
    )
    total = sum(map(len, predicted.values()))
    done, damaged, mapped = 0, dict[str, str](), dict[int, float]()
    with (
        full_disk_named(folder, _FULL),
        _memory_named(folder),
        prepared(folder, plan, replace) as work,
        predictions(opened, release, Work.of(opened, release, lattice, smoothing), workers, scheduler) as predict,
    ):
        for year in years:
            pyramid = Pyramid(folder / str(year), frame, stored, scheme)
            pyramid.create()
            first, chosen = _first_pass(pyramid, grown, work / str(year)) if unit else (pyramid, None)
            run = Rows(first, bounds, calibration, chosen, work / f"{year}.jsonl", partial(predict, year), area)
            for blocks in run.rows(predicted[year]):
                done += blocks
                if progress:
                    progress(done, total)
            damaged |= run.damaged
            mapped[year] = min(1.0, run.mapped * lattice.resolution**2 / requested[year])
            if unit and chosen:
                write_generalised(pyramid, chosen, wanted[year], unit)
            write_overviews(pyramid, wanted[year])
            if options.cog:
                write_cogs(pyramid, folder / "cog" / str(year), wanted[year], tags(opened, release, year))
        write_metadata(folder, opened, release, years, frame, bounds, damaged, plan, area)
    shutil.rmtree(folder / WORK)
    return MapResult(folder, tuple(years), sum(map(len, wanted.values())), damaged, mapped)


def _bounds(options: MapOptions, imagery: Mapping[int, ReleaseImagery], release: Release) -> Bounds:
    """The part of the requested area that is inside the tiles of any year.

    Raises:
        LulcbenchError: bounds and area do not overlap each other, or do not overlap the tiles.
    """
    area = options.area
    left, bottom, right, top = zip(*(own.bounds for own in imagery.values()), strict=True)
    extent = (min(left), min(bottom), max(right), max(top))
    inside = _clip(options.bounds, extent)
    if options.bounds and area and not _size(options.bounds, area, imagery[next(iter(imagery))]):
        raise NotAvailableError(
            f"The area {area.name} does not overlap the bounds {options.bounds}.",
            f"It spans {area.bounds}: left, bottom, right, top in EPSG:3035 metres. Leave out one of the two.",
        )
    inside = _clip(area.bounds, inside) if area and inside else inside
    if inside is None:
        raise _not_here(options, release, extent)
    return inside


def _not_here(options: MapOptions, release: Release, extent: Bounds, year: int | None = None) -> NotAvailableError:
    """The error of an area without tiles, in one year or in all."""
    return NotAvailableError(
        f"The area {options.area.name if options.area else options.bounds} does not overlap {release.id}"
        f"{f' in {year}' if year else ''}.",
        f"Its tiles that are here span {extent}: left, bottom, right, top in EPSG:3035 metres.",
    )


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


def _first_pass(pyramid: Pyramid, bounds: Bounds, folder: Path) -> tuple[Pyramid, Pyramid]:
    """The layers that do not depend on other blocks, and temporary arrays of the decided classes within bounds.

    The class layers themselves are written afterwards, so that a row that was written once never changes: otherwise a
    run that is resumed could not recognise it.
    """
    chosen = Pyramid(folder, Frame.over(pyramid.frame.lattice, bounds), (CHOSEN,), pyramid.scheme)
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
