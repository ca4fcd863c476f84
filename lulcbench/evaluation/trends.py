"""Mapped areas of classes over years: their trends, and how often pixels change.

These are areas in the maps: errors of the maps are part of them, and errors that come and go look like change. Areas
and areas of change that hold for the ground require a sample (``map_areas``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._grid_raster import raster_on_grid, write_window
from lulcbench.evaluation.change import check_different, check_same_pixels
from lulcbench.evaluation.class_maps import NONE, ClassMap, at_level, windows
from lulcbench.evaluation.intervals import t_quantiles
from lulcbench.evaluation.series import count_changes, trend
from lulcbench.legend import IGNORE_INDEX, NODATA, LegendSubset

_MOST = 128  # maps
_UNKNOWN = 255  # number of changes of pixels without a class in some year


class ClassTrend(Frozen):
    """Mapped area of one class over the years.

    Attributes:
        code: of the class.
        areas: m² in each year.
        slope: m² per year, by ordinary least squares.
        se: standard error of the slope; None for two years.
        low, high: ends of its 95 % interval (Student's t, independent years); None for two years.
        r2: share of the variance that the line explains; None for constant areas and for two years.
        stays: share of the area with the class in a year that has it in the next one as well, over all pairs of
            consecutive years; None for a class that only the last year has.
        stays_by_pair: the same for each pair of consecutive years.
    """

    code: int
    areas: tuple[float, ...]
    slope: float
    se: float | None
    low: float | None
    high: float | None
    r2: float | None
    stays: float | None
    stays_by_pair: tuple[float | None, ...]


class Trends(Frozen):
    """Maps of several years.

    Attributes:
        maps: their names.
        simulated: whether one of them is known to be of simulated data.
        years: in ascending order.
        level: legend level; None if the values of the maps, or those of ``names``, are the classes.
        names: of study classes, whose codes are 1, 2, …; empty for others.
        total: area of the pixels with a class in all years, m²; all other figures are of these pixels.
        left_out: pixels with a class in some of the years.
        classes: by code.
        changes: number of pixels without a change between consecutive years, with one, with two, …
        returning: pixels that take a class again that they had lost.
        agreement: share of the area with the same class, for each pair of consecutive years.
    """

    maps: tuple[str, ...]
    simulated: bool = False
    years: tuple[int, ...]
    level: int | None
    names: tuple[str, ...] = ()
    total: float
    left_out: int
    classes: tuple[ClassTrend, ...]
    changes: tuple[int, ...]
    returning: int
    agreement: tuple[float, ...]


def class_trends(
    maps: Sequence[ClassMap],
    level: int | None = None,
    path: str | os.PathLike[str] | None = None,
    subset: LegendSubset | None = None,
) -> Trends:
    """Compare maps of several years.

    Only pixels with a class in all years count, so that a gap of one year does not look like a loss.

    Args:
        maps: of the same pixels, one per year, in any order.
        level: legend level; None compares the codes of the maps.
        path: GeoTIFF of the number of changes of each pixel to write (255 where a year has no class); None without.
        subset: classes of a study that are compared in place of those of a level; pixels of others have no class.

    Raises:
        LulcbenchError: there are fewer than two maps, a year is unknown or occurs twice, two years are read from one
            band, the maps have different pixels, codes of the maps are not of LUISA and there is a subset, or no pixel
            has a class in all years.
    """
    if not 2 <= len(maps) <= _MOST:
        raise LulcbenchError(f"{len(maps)} maps have no trend.", f"Give 2 to {_MOST}, one per year.")
    if unknown := [map_.name for map_ in maps if map_.year is None]:
        raise LulcbenchError(f"The year of {unknown[0]} is unknown.", "State the year of each map (--year).")
    maps = sorted(maps, key=lambda map_: map_.year or 0)
    years = [map_.year or 0 for map_ in maps]
    if double := sorted({year for year in years if years.count(year) > 1}):
        raise LulcbenchError(f"Two maps are of {double[0]}.", "Give one map per year.")
    check_different(maps)
    for other in maps[1:]:
        check_same_pixels(maps[0], other)
    sums = _Sums(len(maps))
    grid = maps[0].grid
    with ExitStack() as stack:
        names, kind = ("changes",), "uint8"
        file = None if path is None else stack.enter_context(raster_on_grid(Path(path), grid, names, kind, _UNKNOWN))
        simulated = any(map_.simulated for map_ in maps)
        if file is not None and simulated:
            file.update_tags(SIMULATED="true")
        for rows, columns in windows(grid.shape):
            read = [map_.read(rows, columns) for map_ in maps]
            codes = np.stack([at_level(own, level) if subset is None else _of_subset(own, subset) for own in read])
            number = sums.add(codes, maps[0].pixel_areas(rows, columns))
            if file is not None:
                write_window(file, number[None], rows, columns)
        if not sums.changes.sum():
            raise LulcbenchError("No pixel has a class in all years.", "Give maps of one place, or a coarser level.")
    return Trends(
        maps=tuple(map_.name for map_ in maps),
        simulated=simulated,
        years=tuple(years),
        level=None if subset else level,
        names=subset.names if subset else (),
        total=float(sum(areas[0] for areas in sums.areas.values())),
        left_out=sums.left_out,
        classes=tuple(_class_trend(code, years, sums) for code in sorted(sums.areas)),
        changes=tuple(int(n) for n in np.trim_zeros(sums.changes, "b")),
        returning=sums.returning,
        agreement=tuple(float(value) for value in sums.same / sum(areas[0] for areas in sums.areas.values())),
    )


def _of_subset(codes: npt.ArrayLike, subset: LegendSubset) -> npt.NDArray[np.int64]:
    array = np.asarray(codes, np.int64)
    classes = subset.encode(np.where(array == NONE, NODATA, array), "a map").astype(np.int64)
    return np.where(classes == IGNORE_INDEX, NONE, classes + 1)


class _Sums:
    """Sums over the windows of the maps."""

    def __init__(self, years: int) -> None:
        self.years = years
        self.areas: dict[int, npt.NDArray[np.float64]] = {}  # by code: area in each year
        self.stayed: dict[int, npt.NDArray[np.float64]] = {}  # by code: area that has the class in both years of a pair
        self.same = np.zeros(years - 1)
        self.changes = np.zeros(years, np.int64)
        self.left_out = self.returning = 0

    def add(self, codes: npt.NDArray[np.int64], pixel_areas: float | npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """Add a window ``(year, y, x)``; returns the number of changes of its pixels ``(y, x)``."""
        known = (codes != NONE).all(axis=0)
        self.left_out += int(((codes != NONE).any(axis=0) & ~known).sum())
        number = np.full(known.shape, _UNKNOWN, np.uint8)
        if not known.any():
            return number
        own = codes[:, known]
        size = np.broadcast_to(pixel_areas, known.shape)[known]
        found, index = np.unique(own, return_inverse=True)
        index = index.reshape(own.shape)
        same = own[1:] == own[:-1]
        self.same += same @ size
        by_year = np.stack([np.bincount(row, size, len(found)) for row in index], axis=1)
        pairs = zip(index[:-1], same, strict=True)
        stayed = np.stack([np.bincount(row, size * kept, len(found)) for row, kept in pairs], axis=1)
        for code, areas, kept in zip(found.tolist(), by_year, stayed, strict=True):
            self.areas[code] = self.areas.get(code, np.zeros(self.years)) + areas
            self.stayed[code] = self.stayed.get(code, np.zeros(self.years - 1)) + kept
        changes = count_changes(own)
        self.changes += np.bincount(changes, minlength=self.years)
        different = 1 + (np.diff(np.sort(own, axis=0), axis=0) != 0).sum(axis=0)
        self.returning += int((changes + 1 > different).sum())
        number[known] = changes
        return number


def _class_trend(code: int, years: Sequence[int], sums: _Sums) -> ClassTrend:
    areas = sums.areas[code]
    line = trend(years, areas.tolist())
    several, constant = len(years) > 2, bool((areas == areas[0]).all())
    reach = float(t_quantiles(len(years) - 2)) * line.error if several else 0.0
    before = float(areas[:-1].sum())
    return ClassTrend(
        code=code,
        areas=tuple(areas.tolist()),
        slope=line.slope,
        se=line.error if several else None,
        low=line.slope - reach if several else None,
        high=line.slope + reach if several else None,
        r2=line.r2 if several and not constant else None,
        stays=float(sums.stayed[code].sum()) / before if before else None,
        stays_by_pair=tuple(
            float(kept / area) if area else None for kept, area in zip(sums.stayed[code], areas[:-1], strict=True)
        ),
    )
