"""Maps of classes from any source: rasters, maps of ``lulcbench map``, predictions files.

``open_map`` opens one; ``at_points`` and ``count`` read it. Maps are read in windows, so that their size is not limited
by memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.crosswalk import read_crosswalk
from lulcbench.legend import NODATA, corine_raster_codes, legend
from lulcbench.release import Release

NONE = -1  # code of pixels without a class
WINDOW = 512  # px: side of the windows that are read

ClassCodes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MapGrid:
    """The pixels of a map.

    Attributes:
        shape: rows and columns.
        transform: (a, b, c, d, e, f): x = a·column + b·row + c, y = d·column + e·row + f, in the CRS.
        crs: WKT or authority code.
    """

    shape: tuple[int, int]
    transform: tuple[float, ...]
    crs: str

    def positions(self, rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
        """Coordinates in the CRS of the centres of pixels."""
        a, b, c, d, e, f = self.transform
        return a * (columns + 0.5) + b * (rows + 0.5) + c, d * (columns + 0.5) + e * (rows + 0.5) + f


class ClassMap(AbstractContextManager["ClassMap"], Protocol):
    """A map of class codes.

    Attributes:
        name: of the file or folder.
        year: of the map; None if unknown.
        grid: its pixels.
        decisions: decisions in reading it → number of pixels (0: all).
        origin: the file, the band or year in it and the legend; maps with the same origin have the same classes.
        simulated: whether it is known to be of simulated data.
    """

    name: str
    year: int | None
    grid: MapGrid
    decisions: dict[str, int]
    origin: tuple[str, ...]
    simulated: bool

    def locate(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Rows and columns ``(n,)`` of positions ``(n,)`` in EPSG:3035; NaN for unknown ones."""

    def read(self, rows: slice, columns: slice) -> ClassCodes:
        """Codes of a window inside the map, int32; ``NONE`` for pixels without a class."""

    def pixel_areas(self, rows: slice, columns: slice) -> float | Floats:
        """True areas of the pixels of a window in m²: a number, or an array that broadcasts to the window."""


def open_map(
    path: str | os.PathLike[str],
    legend_name: str = "luisa",
    year: int | None = None,
    band: str | None = None,
    release: str | os.PathLike[str] | Release | None = None,
) -> ClassMap:
    """Open a map.

    Args:
        path: a raster that GDAL reads, the folder of a map that ``lulcbench map`` wrote, or a predictions file (.zip).
        legend_name: legend of a raster: ``luisa`` (codes of any level), ``corine`` (CLC codes, or the grid codes 1…44
            of the Copernicus rasters), ``values`` (the values are the classes), or a CSV file with columns ``value``
            and ``code`` that translates values to LUISA codes.
        year: year of the map; required for a map or predictions of several years.
        band: of a raster with several bands, number or description.
        release: the release of a predictions file.

    Raises:
        LulcbenchError: the map cannot be read.
    """
    path = Path(path)
    if path.suffix == ".zip":
        from lulcbench.evaluation._stored_maps import PredictionsMap

        return PredictionsMap(path, _of_predictions(release), year)
    if (path / "zarr.json").is_file():
        from lulcbench.evaluation._stored_maps import ZarrMap

        stored = ZarrMap(path, year)
        if stored.scheme.subset is not None and legend_name != "values":
            numbers = ", ".join(f"{code} {name}" for code, name in enumerate(stored.scheme.names, start=1))
            raise LulcbenchError(
                f"{path} has the classes of a legend subset, not LUISA codes.",
                f"Use the legend 'values': {numbers}.",
            )
        return stored
    from lulcbench.evaluation._raster_map import RasterMap

    return RasterMap(path, value_codes(legend_name), legend_name, year, band)


def years_in(path: str | os.PathLike[str], release: str | os.PathLike[str] | Release | None = None) -> list[int]:
    """The years that a map or a predictions file states; none for rasters.

    Raises:
        LulcbenchError: the file cannot be read.
    """
    from lulcbench.evaluation._stored_maps import years_of_map, years_of_predictions

    path = Path(path)
    if path.suffix == ".zip":
        return years_of_predictions(path, _of_predictions(release))
    return years_of_map(path) if (path / "zarr.json").is_file() else []


def _of_predictions(release: str | os.PathLike[str] | Release | None) -> str | os.PathLike[str] | Release:
    """The release of a predictions file, which must be given."""
    if release is None:
        raise LulcbenchError("Reading predictions requires their release.", "Give its folder with --root.")
    return release


def value_codes(legend_name: str) -> dict[int, int] | None:
    """Raster value → code in a legend (``NONE`` for nodata); None if the values are the codes.

    Raises:
        LulcbenchError: the legend is unknown, or its file is not valid.
    """
    if legend_name == "values":
        return None
    if legend_name == "luisa":
        return {NODATA: NONE} | {code: code for code in legend().classes}
    if legend_name == "corine":
        return {value: code or NONE for value, code in ({NODATA: NODATA} | corine_raster_codes()).items()}
    if Path(legend_name).is_file():
        table = read_crosswalk(legend_name)
        if odd := [value for value in table if not value.lstrip("-").isdigit()]:
            raise LulcbenchError(f"{legend_name} has values that no raster has: {odd[:5]}.", "Values are integers.")
        return {int(value): code or NONE for value, code in table.items()}
    raise LulcbenchError(f"Unknown legend {legend_name!r}.", "Choose luisa, corine, values or a CSV file.")


def at_points(map_: ClassMap, x: Floats, y: Floats) -> ClassCodes:
    """Codes of the 3 × 3 pixels around points, int32 ``(n, 9)``; column 4 is the pixel of the point.

    Args:
        map_: the map.
        x: EPSG:3035 metres ``(n,)``; NaN where unknown.
        y: likewise.
    """
    codes = np.full((len(x), 9), NONE, np.int32)
    rows, columns = map_.locate(x, y)
    height, width = map_.grid.shape
    inside = np.flatnonzero((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width))
    row, column = rows[inside].astype(np.int64), columns[inside].astype(np.int64)
    cell = row // WINDOW * (width // WINDOW + 1) + column // WINDOW
    order = np.argsort(cell, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(cell[order])) + 1):
        if not len(group):
            continue
        first = max(int(row[group].min()) - 1, 0), max(int(column[group].min()) - 1, 0)
        last = min(int(row[group].max()) + 2, height), min(int(column[group].max()) + 2, width)
        window = np.full((last[0] - first[0] + 2, last[1] - first[1] + 2), NONE, np.int32)
        window[1:-1, 1:-1] = map_.read(slice(first[0], last[0]), slice(first[1], last[1]))
        for k in range(9):
            i, j = divmod(k, 3)
            codes[inside[group], k] = window[row[group] - first[0] + i, column[group] - first[1] + j]
    return codes


@dataclass
class MapCount:
    """What a map contains.

    Attributes:
        pixels: code → number of pixels, exact.
        areas: code → true area, m².
        empty: number of pixels without a class.
        digest: SHA-256 of the classes and the grid, independent of format and compression.
    """

    pixels: dict[int, int] = field(default_factory=dict)
    areas: dict[int, float] = field(default_factory=dict)
    empty: int = 0
    digest: str = ""


def windows(shape: tuple[int, int], step: int = WINDOW) -> Iterator[tuple[slice, slice]]:
    """Windows of a map, row by row."""
    for i in range(0, shape[0], step):
        for j in range(0, shape[1], step):
            yield slice(i, min(i + step, shape[0])), slice(j, min(j + step, shape[1]))


def count(map_: ClassMap) -> MapCount:
    """Count the pixels of each class, and their true areas.

    Raises:
        LulcbenchError: the map has no pixel with a class.
    """
    result = MapCount()
    grid = map_.grid
    header = [list(grid.shape), list(grid.transform), grid.crs]
    digest = hashlib.sha256(json.dumps(header).encode())
    for rows, columns in windows(grid.shape):
        codes = map_.read(rows, columns)
        digest.update(np.ascontiguousarray(codes, "<i4").data)
        areas = map_.pixel_areas(rows, columns)
        found, index = np.unique(codes, return_inverse=True) if codes.max() > 65535 else _small(codes)
        number = np.bincount(index.ravel(), minlength=len(found))
        if isinstance(areas, float):
            area = number * areas
        else:
            own = np.broadcast_to(areas, codes.shape)
            if (outside := (codes != NONE) & (own <= 0)).any():
                i, j = np.argwhere(outside)[0]
                raise LulcbenchError(
                    f"{map_.name} has classes in pixels outside the Earth's outline in its projection, "
                    f"such as row {rows.start + i}, column {columns.start + j}.",
                    "Set them to nodata, or project the map to one such as EPSG:3035.",
                )
            area = np.bincount(index.ravel(), own.ravel(), len(found))
        for code, n, size in zip(found.tolist(), number.tolist(), area.tolist(), strict=True):
            if code == NONE:
                result.empty += n
            elif n:
                result.pixels[code] = result.pixels.get(code, 0) + n
                result.areas[code] = result.areas.get(code, 0.0) + size
    if not result.pixels:
        raise LulcbenchError(f"{map_.name} has no pixel with a class.", "Give a map of classes.")
    result.pixels, result.areas = dict(sorted(result.pixels.items())), dict(sorted(result.areas.items()))
    result.digest = digest.hexdigest()
    return result


def _small(codes: ClassCodes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Codes below 65536 as indices: no sorting."""
    shifted = codes - NONE
    return np.arange(NONE, int(codes.max()) + 1), shifted


def at_level(codes: npt.ArrayLike, level: int | None) -> npt.NDArray[np.int64]:
    """Codes of any level at a level, ``NONE`` for coarser ones; unchanged without a level (legend ``values``)."""
    array = np.asarray(codes, np.int64)
    if level is None:
        return array
    remapped = legend().remap(np.where(array == NONE, NODATA, array), level).astype(np.int64)
    return np.where(remapped == NODATA, NONE, remapped)


def totals(table: Mapping[int, float], level: int | None) -> dict[int, float]:
    """Numbers by code, summed at a level; codes coarser than the level are left out."""
    result: dict[int, float] = {}
    codes = list(table)
    for code, at in zip(codes, at_level(codes, level).tolist(), strict=True):
        if at != NONE:
            result[at] = result.get(at, 0) + table[code]
    return dict(sorted(result.items()))
