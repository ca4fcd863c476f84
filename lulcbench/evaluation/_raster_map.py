"""Map rasters that GDAL reads, as class maps."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lulcbench._attribute_tables import has_table, recoded, sampled_values
from lulcbench._coordinates import coordinate_fault
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._pixel_areas import PixelAreas
from lulcbench.evaluation.class_maps import NONE, ClassCodes, Floats, MapGrid
from lulcbench.grid import CRS
from lulcbench.legend import corine_doubt

INSTALL = "Run: pip install 'lulcbench[geo]'."
_CORINE = ("CORINE grid codes (1…44)", "CLC codes (111…523)")


class RasterMap:
    """A band of class codes of a raster, in any CRS and orientation.

    Nodata value, mask, alpha and NaN mark pixels without a class. A context manager; implements ``ClassMap``.

    Args:
        path: the raster.
        codes: raster value → class code; None keeps the values.
        legend_name: of the legend, for messages.
        year: of the map, if known.
        band: number or description of the band; required if there are several and no description contains the year.

    Raises:
        LulcbenchError: the raster cannot be read, has no CRS or no invertible georeference, has a scale or an offset,
            or the band is ambiguous; or rasterio is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        codes: Mapping[int, int] | None,
        legend_name: str,
        year: int | None = None,
        band: str | None = None,
    ) -> None:
        try:
            import rasterio
            import rasterio.enums
            import rasterio.errors
        except ImportError as error:
            raise LulcbenchError("Reading map rasters requires rasterio.", INSTALL) from error
        self._path, self._codes, self._legend, self.year = path, codes, legend_name, year
        self.name = Path(path).name
        self.decisions: dict[str, int] = {}
        self._error: type[Exception] = rasterio.errors.RasterioError
        try:
            self._raster = rasterio.open(path)
        except rasterio.errors.RasterioError as error:
            raise self._unreadable(error) from error
        try:
            self._check()
            self._band = self._choose(band)
            self.origin: tuple[str, ...] = (str(Path(path).resolve()), str(self._band), legend_name)
            colors = self._raster.colorinterp
            self._alpha = [i for i in self._raster.indexes if colors[i - 1] == rasterio.enums.ColorInterp.alpha]
            flags = self._raster.mask_flag_enums[self._band - 1]
            self._all_valid = flags == [rasterio.enums.MaskFlags.all_valid]
            self.grid = self._read_grid()
            self.simulated = self._raster.tags().get("SIMULATED", "").lower() == "true"
        except BaseException:
            self._raster.close()
            raise
        self._areas: PixelAreas | None = None
        self._table = None if codes is None else _table(codes)
        self._systems: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raster.close()

    def locate(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Rows and columns of EPSG:3035 positions, NaN for unknown ones."""
        import rasterio.warp

        rows, columns = np.full(len(x), np.nan), np.full(len(x), np.nan)
        known = np.isfinite(x) & np.isfinite(y)
        xs, ys = rasterio.warp.transform(CRS, self._raster.crs, x[known], y[known])
        columns[known], rows[known] = ~self._raster.transform @ (np.array(xs, float), np.array(ys, float))
        for values in (rows, columns):
            values[~np.isfinite(values)] = np.nan
        return rows, columns

    def read(self, rows: slice, columns: slice) -> ClassCodes:
        """Class codes of a window."""
        from rasterio.windows import Window

        window = Window.from_slices(rows, columns)
        try:
            values = self._raster.read(self._band, window=window)
            masked = not self._all_valid
            valid = self._raster.read_masks(self._band, window=window) > 0 if masked else None
            # GDAL does not use an alpha band if there is a nodata value or a mask as well.
            for alpha in self._alpha:
                shown = self._raster.read(alpha, window=window) > 0
                valid = shown if valid is None else valid & shown
        except self._error as error:
            raise self._unreadable(error) from error
        if np.issubdtype(values.dtype, np.inexact):
            valid = ~np.isnan(values) if valid is None else valid & ~np.isnan(values)
        if not np.issubdtype(values.dtype, np.integer):
            values = class_values(values if valid is None else np.where(valid, values, 0), self._path)
        codes = self._translated(values, valid)
        return codes if valid is None else np.where(valid, codes, np.int32(NONE))

    def _translated(self, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> ClassCodes:
        used = values if valid is None else np.where(valid, values, 0)
        low, high = (int(used.min()), int(used.max())) if used.size else (0, 0)
        if self._table is None:
            if low < 0 or high > 2**31 - 1:
                raise LulcbenchError(f"{self._path} contains negative or very large values.", "Give class codes.")
            return used.astype(np.int32)
        if low >= 0 and high <= 65535:
            codes: ClassCodes = self._table[used]
            if self._legend == "corine":
                self._note_corine(np.unique(used if valid is None else used[valid]))
            if codes.min(initial=0) >= NONE or (valid is not None and codes[valid].min(initial=0) >= NONE):
                return codes
        some = np.unique(used if valid is None else used[valid])
        unknown = some[(some < 0) | (some > 65535) | (self._table[np.clip(some, 0, 65535)] < NONE)]
        raise LulcbenchError(
            f"{self._path} contains codes that are not in the {self._legend} legend: {unknown[:8].tolist()}.",
            "Choose the legend of the map (--legend luisa, corine or a CSV file with columns value and code).",
        )

    def pixel_areas(self, rows: slice, columns: slice) -> float | Floats:
        """True areas of the pixels of a window in m²: a number, or an array that broadcasts to it."""
        if self._areas is None:
            transform = self._raster.transform
            self._areas = PixelAreas(self._raster.crs.to_wkt(), tuple(transform)[:6], self._raster.shape)
        return self._areas.window(rows, columns)

    def _note_corine(self, values: npt.NDArray[np.int64]) -> None:
        for low, high, name in ((1, 44, _CORINE[0]), (111, 523, _CORINE[1])):
            if ((values >= low) & (values <= high)).any():
                self._systems.add(name)
        if len(self._systems) == 2:
            raise LulcbenchError(
                f"{self._path} contains both {_CORINE[0]} and {_CORINE[1]}.", "Give a map with only one of the two."
            )
        if _CORINE[0] in self._systems:
            self.decisions[f"map values read as {_CORINE[0]}"] = 0

    def _check(self) -> None:
        if self._raster.crs is None or self._raster.transform.is_identity:
            lacking = "CRS" if self._raster.crs is None else "geotransform"
            only = f"only ground control points, no {lacking}" if self._raster.gcps[0] else f"no {lacking}"
            raise LulcbenchError(f"{self._path} has {only}.", "Assign one with gdal_edit.py, or warp it with gdalwarp.")
        if not self._raster.transform.determinant:
            raise LulcbenchError(f"{self._path} has pixels without area.", "Correct its georeference.")
        if fault := coordinate_fault(self._raster.crs, self._raster.bounds):
            raise LulcbenchError(f"{self._path} {fault[0]}", fault[1])

    def _read_grid(self) -> MapGrid:
        raster, number = self._raster, self._band
        if (raster.scales[number - 1], raster.offsets[number - 1]) != (1.0, 0.0):
            raise LulcbenchError(
                f"{self._path} has a scale or an offset, so that its numbers are not class codes.",
                "Store the class codes themselves, without scale and offset.",
            )
        if self._legend in ("luisa", "corine") and (found := recoded(Path(self._path), dict(self._codes or {}))):
            raise LulcbenchError(
                f"{self._path} has an attribute table that translates {found[1]} to {found[2]} (column {found[0]}): "
                f"its pixels are not codes of the {self._legend} legend.",
                "Give a legend of your own that translates the values of the pixels (--legend FILE.csv).",
            )
        if (
            self._legend == "corine"
            and not has_table(Path(self._path))
            and (doubt := corine_doubt(sampled_values(raster, number)))
        ):
            raise LulcbenchError(
                f"{self._path} could be coded in several ways: {doubt}.",
                "Give CLC codes of level 3 (111…523), grid codes with the attribute table of Copernicus (.vat.dbf) "
                "beside the file, or a legend of your own that translates the values (--legend FILE.csv).",
            )
        nodata = raster.nodatavals[number - 1]
        if nodata is not None and dict(self._codes or {}).get(nodata, NONE) > 0:  # 255.0 finds 255
            told = f"pixels of {nodata:g} left out: the map's nodata value, and a class of the {self._legend} legend"
            self.decisions[told] = 0
        if raster.count > 1:
            described = raster.descriptions[number - 1] or "not described"
            self.decisions[f"map read from band {number} ({described})"] = 0
        return MapGrid(raster.shape, tuple(raster.transform)[:6], raster.crs.to_wkt())

    def _choose(self, band: str | None) -> int:
        from rasterio.enums import ColorInterp

        raster = self._raster
        described = {i: text or "" for i, text in enumerate(raster.descriptions, start=1)}
        maps = [i for i in described if raster.colorinterp[i - 1] != ColorInterp.alpha]
        if band is not None:
            matches = [i for i in maps if band in (str(i), described[i])]
        elif len(maps) > 1 and self.year is not None:
            matches = [i for i in maps if re.search(rf"(?<!\d){self.year}(?!\d)", described[i])]
        else:
            matches = maps
        if len(matches) == 1:
            return matches[0]
        names = ", ".join(f"{i} ({described[i] or 'not described'})" for i in maps[:20])
        raise LulcbenchError(
            f"{self._path} has {len(maps)} bands, and the band of the map is ambiguous: {names}.",
            "Choose it by number or description with --band.",
        )

    def _unreadable(self, error: Exception) -> LulcbenchError:
        return LulcbenchError(f"Cannot read {self._path}: {error}.", "Give a raster of class codes.")


def _table(codes: Mapping[int, int]) -> ClassCodes:
    """Lookup table of the values 0 … 65535; −2 marks values that are not in the legend."""
    table = np.full(65536, NONE - 1, np.int32)
    for value, code in codes.items():
        if not 0 <= value <= 65535:
            raise LulcbenchError(f"The legend has the value {value}.", "Values of classes are 0 to 65535.")
        table[value] = code
    return table


def class_values(values: npt.NDArray[Any], path: str | os.PathLike[str]) -> npt.NDArray[np.int64]:
    """Convert values to int64.

    Raises:
        LulcbenchError: a value is not an integer.
    """
    if not np.issubdtype(values.dtype, np.integer):
        odd = [
            value
            for value in np.unique(values).tolist()
            if isinstance(value, complex) or not math.isfinite(value) or value != int(value)
        ]
        if odd:
            raise LulcbenchError(
                f"{path} contains values that are not class codes: {odd[:8]}.",
                "Give a raster of class codes, not of probabilities or averages.",
            )
    return values.astype(np.int64)
