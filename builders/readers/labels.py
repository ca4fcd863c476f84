"""Label rasters: any categorical raster with a crosswalk to LUISA."""

from __future__ import annotations

from collections.abc import Sequence
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
from builders.readers.scene import file_stamp
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds

Codes = npt.NDArray[np.uint16]

VECTOR = (".gpkg", ".shp", ".fgb", ".geojson", ".parquet")


@dataclass(frozen=True)
class RasterLabels:
    """A categorical raster.

    Attributes:
        path: the file, with any projection and pixel size.
        codes: source code → LUISA code; other values are an error, except for the file's nodata value.
        legend: name of the source's legend, for error messages.
    """

    path: Path
    codes: dict[int, int] = field(hash=False)
    legend: str

    def bounds(self) -> Bounds:
        """See ``LabelSource.bounds``."""
        dataset = _open(str(self.path))
        return label_box(transform_bounds(dataset.crs, CRS, *dataset.bounds))

    def read(self, area: Area) -> Codes:
        """See ``LabelSource.read``: nearest neighbour, or the majority if the pixels of the file are finer."""
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
        present = np.unique(values)
        known = {code: target for code, target in (self.codes | {0: 0}).items() if code != nodata}
        unknown = [int(v) for v in present if v not in known and v != nodata]
        if unknown:
            raise unknown_codes(unknown, self.legend, f"{self.path} (within {tuple(round(b) for b in box)})")
        table = np.array([known.get(int(v), 0) for v in present], np.uint16)
        return table[np.searchsorted(present, values)]


def on_grid(codes: Codes, transform: Affine, crs: Any, pixel: float, area: Area) -> Codes:
    """Resample codes to the grid of an area: majority if their pixels are clearly finer, else nearest neighbour.

    Args:
        codes: LUISA codes ``(y, x)``; 0 (nodata) does not count for the majority.
        transform: affine transform of ``codes``.
        crs: projection of ``codes``.
        pixel: pixel size of ``codes`` in metres.
        area: the target grid.

    Returns:
        LUISA codes ``(y, x)``, uint16; 0 where there are none.
    """
    # Indices of the classes fit into a byte, for which GDAL computes the majority many times faster.
    classes, indices = np.unique(np.append(codes.ravel(), np.uint16(0)), return_inverse=True)
    out = np.zeros(area.shape, np.uint8)
    reproject(
        indices[:-1].reshape(codes.shape).astype(np.uint8),
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


def unknown_codes(codes: Sequence[int | str], legend: str, where: str) -> LulcbenchError:
    """The error for codes that are not in the legend of a label map."""
    shown = ", ".join(map(str, codes[:8])) + (f" and {len(codes) - 8} more" if len(codes) > 8 else "")
    return LulcbenchError(
        f"{where} holds codes that are not in the {legend} legend: {shown}.",
        "Check that the recipe's 'source' (luisa, corine or own) matches the file, and that its nodata value is set.",
    )


def _open(path: str) -> rasterio.DatasetReader:
    return _cached(path, file_stamp(path))


@lru_cache(maxsize=16)
def _cached(path: str, stamp: object) -> rasterio.DatasetReader:
    return open_raster(path)


def label_box(values: Any) -> Bounds:
    """Convert four numbers to bounds."""
    left, bottom, right, top = (float(v) for v in values)
    return (left, bottom, right, top)
