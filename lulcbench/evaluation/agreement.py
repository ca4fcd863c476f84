"""Where maps of one place agree: how many of them have the same class in each pixel of the first one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._grid_raster import raster_on_grid, write_window
from lulcbench.evaluation.change import check_different
from lulcbench.evaluation.class_maps import NONE, ClassCodes, ClassMap, at_level, at_points, windows
from lulcbench.grid import CRS

BANDS: Final = ("agreeing", "maps", "class")
_MOST = 64  # maps


@dataclass(frozen=True)
class Agreement:
    """Agreement of maps.

    Attributes:
        areas: m² where so many maps have a class (row) and so many of them agree (column): ``(n + 1, n + 1)``.
        pairs: share of the area with a class in both of two maps in which these have the same: ``(n, n)``, NaN
            without such area.
        simulated: whether a map is known to be of simulated data.
    """

    areas: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.float64]
    simulated: bool = False

    @property
    def whole(self) -> float:
        """Share of the area with a class in all maps in which all agree; NaN if there is none."""
        return float(self.areas[-1, -1] / self.areas[-1].sum()) if self.areas[-1].sum() else float("nan")

    @property
    def equal(self) -> list[tuple[int, int]]:
        """Pairs of maps, counted from 1, that agree everywhere: they may be copies."""
        return [(int(i) + 1, int(j) + 1) for i, j in np.argwhere(np.triu(self.pairs == 1, 1))]


def write_agreement(maps: Sequence[ClassMap], path: str | os.PathLike[str], level: int | None) -> Agreement:
    """Compare maps, and write a cloud-optimized GeoTIFF on the grid of the first one.

    Its bands are ``agreeing``, the number of maps with the most frequent class of a pixel (of classes that are equally
    frequent, that of the map that comes first); ``maps``, the number of maps with a class; and ``class``, that class.
    0 is nodata. Other maps are read at the centres of the pixels of the first one. Windows are finished one after
    another.

    Args:
        maps: two or more.
        path: file to write.
        level: legend level; None compares values of maps without a legend.

    Raises:
        LulcbenchError: there are fewer than two maps or more than 64, a map is given twice, a class does not fit into
            16 bits, or there is no pixel with a class in two maps.
    """
    if not 2 <= len(maps) <= _MOST:
        raise LulcbenchError(f"{len(maps)} maps cannot be compared.", f"Give 2 to {_MOST}.")
    check_different(maps)
    n, path = len(maps), Path(path)
    grid = maps[0].grid
    areas, same, both = np.zeros((n + 1, n + 1)), np.zeros((n, n)), np.zeros((n, n))
    simulated = any(own.simulated for own in maps)
    with raster_on_grid(path, grid, BANDS, "uint16", 0) as file:
        if simulated:
            file.update_tags(SIMULATED="true")
        for rows, columns in windows(grid.shape):
            codes = np.stack([at_level(own, level) for own in _read(maps, rows, columns)])
            counted = _frequent(codes)
            write_window(file, counted, rows, columns)
            size = np.broadcast_to(maps[0].pixel_areas(rows, columns), counted.shape[1:])
            index = counted[1].astype(np.int64) * (n + 1) + counted[0]
            areas += np.bincount(index.ravel(), size.ravel(), (n + 1) ** 2).reshape(n + 1, n + 1)
            for i in range(n):
                for j in range(n):
                    known = (codes[i] != NONE) & (codes[j] != NONE)
                    both[i, j] += size[known].sum()
                    same[i, j] += size[known & (codes[i] == codes[j])].sum()
        if not areas[2:].sum():
            raise LulcbenchError("No pixel has a class in two of the maps.", "Give maps of one place and one legend.")
    pairs = np.divide(same, both, out=np.full((n, n), np.nan), where=both > 0)
    return Agreement(areas, pairs, simulated)


def _read(maps: Sequence[ClassMap], rows: slice, columns: slice) -> list[ClassCodes]:
    """Codes of all maps in a window of the first one."""
    from rasterio.warp import transform

    first = maps[0]
    found = [first.read(rows, columns)]
    shape = found[0].shape
    i, j = np.mgrid[rows, columns].reshape(2, -1).astype(np.float64)
    x, y = first.grid.positions(i, j)
    east, north = (np.array(v, np.float64) for v in transform(first.grid.crs, CRS, x, y))
    for other in maps[1:]:
        if other.grid == first.grid:
            found.append(other.read(rows, columns))
        else:
            found.append(at_points(other, east, north)[:, 4].reshape(shape))
    return found


def _frequent(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Number of maps with the most frequent class, with a class, and that class: ``(3, y, x)`` of ``(map, y, x)``."""
    if codes.max(initial=0) > np.iinfo(np.uint16).max:
        raise LulcbenchError(f"The class {codes.max()} does not fit into 16 bits.", "Give smaller codes.")
    known = codes != NONE
    votes = np.stack([((codes == own) & known).sum(axis=0) * (own != NONE) for own in codes])
    best = votes.argmax(axis=0)
    agreeing = np.take_along_axis(votes, best[None], axis=0)[0]
    chosen = np.where(agreeing > 0, np.take_along_axis(codes, best[None], axis=0)[0], 0)
    return np.stack([agreeing, known.sum(axis=0), chosen]).astype(np.uint16)
