"""Label rasters: any categorical raster whose codes a table brings to LUISA."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.errors import RasterioError
from rasterio.warp import Resampling, reproject, transform_bounds
from rasterio.windows import bounds as window_bounds
from rasterio.windows import transform as window_transform

from builders.readers.area import Area
from builders.readers.raster import area_window, broken, open_raster, resolution
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds

Codes = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class RasterLabels:
    """A categorical raster.

    Attributes:
        path: the file, in any projection and pixel size.
        codes: source code → LUISA code; anything else is an error, except the file's nodata.
        legend: name of the source's legend, for the error message.
    """

    path: Path
    codes: dict[int, int] = field(hash=False)
    legend: str

    def bounds(self) -> Bounds:
        """See ``LabelSource.bounds``."""
        dataset = _open(str(self.path))
        return label_box(transform_bounds(dataset.crs, CRS, *dataset.bounds))

    def read(self, area: Area) -> Codes:
        """See ``LabelSource.read``: nearest neighbour from coarser or equal pixels, area majority from finer ones."""
        dataset = _open(str(self.path))
        window = area_window(dataset, area)
        if window is None:
            return np.zeros(area.shape, np.uint16)
        try:
            values = dataset.read(1, window=window)
        except RasterioError as error:
            raise broken(str(self.path), error) from error
        transform = window_transform(window, dataset.transform)
        source = self._to_luisa(values, dataset.nodata, window_bounds(window, dataset.transform))
        return on_grid(source, transform, dataset.crs, resolution(dataset), area)

    def _to_luisa(self, values: npt.NDArray[Any], nodata: float | None, box: Bounds) -> Codes:
        found = np.unique(values)
        known = {code: target for code, target in (self.codes | {0: 0}).items() if code != nodata}
        unknown = [int(v) for v in found if v not in known and v != nodata]
        if unknown:
            raise unknown_codes(unknown, self.legend, f"{self.path} (within {tuple(round(b) for b in box)})")
        table = np.array([known.get(int(v), 0) for v in found], np.uint16)
        return table[np.searchsorted(found, values)]


def on_grid(codes: Codes, transform: Affine, crs: Any, pixel: float, area: Area) -> Codes:
    """Codes ``(y, x)`` on an area's grid: nearest neighbour, or area majority from pixels finer than the grid's.

    Args:
        codes: LUISA codes; 0 does not vote.
        transform: of ``codes``.
        crs: of ``codes``.
        pixel: size of a pixel of ``codes`` in metres.
        area: the grid.
    """
    # Class numbers fit into a byte, for which GDAL's majority is many times quicker.
    classes, numbers = np.unique(np.append(codes.ravel(), np.uint16(0)), return_inverse=True)
    out = np.zeros(area.shape, np.uint8)
    reproject(
        numbers[:-1].reshape(codes.shape).astype(np.uint8),
        out,
        src_transform=transform,
        src_crs=crs,
        dst_transform=area.transform,
        dst_crs=CRS,
        src_nodata=0,
        dst_nodata=0,
        resampling=Resampling.mode if pixel < 0.75 * area.resolution else Resampling.nearest,
    )
    return classes[out]


def unknown_codes(codes: list[int], legend: str, where: str) -> LulcbenchError:
    """The error for codes that the legend of a label map lacks."""
    shown = ", ".join(map(str, codes[:8])) + (f" and {len(codes) - 8} more" if len(codes) > 8 else "")
    return LulcbenchError(
        f"{where} holds codes that are not in the {legend} legend: {shown}.",
        "Check that the recipe's 'source' (luisa or corine) fits the file, and that its nodata value is set.",
    )


@lru_cache(maxsize=16)
def _open(path: str) -> rasterio.DatasetReader:
    return open_raster(path)


def label_box(values: Any) -> Bounds:
    """Four numbers as bounds."""
    left, bottom, right, top = (float(v) for v in values)
    return (left, bottom, right, top)
