"""Label maps: any raster or polygon layer whose codes a table brings to LUISA."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyogrio
import rasterio
import shapely
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.warp import Resampling, reproject, transform_bounds
from rasterio.windows import bounds as window_bounds
from rasterio.windows import transform as window_transform

from builders.area import Area
from builders.sources.raster import area_window, broken, open_raster, resolution
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds

Codes = npt.NDArray[np.uint16]
FINE = 10  # m; polygons are burnt at this pixel size and then put to the vote


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
        return _box(transform_bounds(dataset.crs, CRS, *dataset.bounds))

    def read(self, area: Area) -> Codes:
        """See ``LabelSource.read``: nearest neighbour from coarser or equal pixels, area majority from finer ones."""
        dataset = _open(str(self.path))
        out = np.zeros(area.shape, np.uint16)
        window = area_window(dataset, area)
        if window is None:
            return out
        try:
            values = dataset.read(1, window=window)
        except RasterioError as error:
            raise broken(str(self.path), error) from error
        transform = window_transform(window, dataset.transform)
        source = self._to_luisa(values, dataset.nodata, window_bounds(window, dataset.transform))
        finer = resolution(dataset) < 0.75 * area.resolution
        reproject(
            source,
            out,
            src_transform=transform,
            src_crs=dataset.crs,
            dst_transform=area.transform,
            dst_crs=CRS,
            src_nodata=0,
            dst_nodata=0,
            resampling=Resampling.mode if finer else Resampling.nearest,
        )
        return out

    def _to_luisa(self, values: npt.NDArray[Any], nodata: float | None, box: Bounds) -> Codes:
        found = np.unique(values)
        known = {code: target for code, target in (self.codes | {0: 0}).items() if code != nodata}
        unknown = [int(v) for v in found if v not in known and v != nodata]
        if unknown:
            raise unknown_codes(unknown, self.legend, f"{self.path} (within {tuple(round(b) for b in box)})")
        table = np.array([known.get(int(v), 0) for v in found], np.uint16)
        return table[np.searchsorted(found, values)]


@dataclass(frozen=True)
class VectorLabels:
    """A polygon layer with a code in one column; other attributes as in ``RasterLabels``."""

    path: Path
    codes: dict[int, int] = field(hash=False)
    legend: str
    layer: str | None
    column: str | None

    def bounds(self) -> Bounds:
        """See ``LabelSource.bounds``."""
        return _box(self._polygons().total_bounds)

    def read(self, area: Area) -> Codes:
        """See ``LabelSource.read``: the majority of each pixel's area, counted on 10 m cells."""
        frame = self._polygons()
        inside = frame.iloc[frame.sindex.query(shapely.box(*area.bounds), predicate="intersects")]
        fine = Area(area.bounds, FINE)
        out = np.zeros(area.shape, np.uint16)
        if inside.empty:
            return out
        burnt = rasterize(
            zip(inside.geometry, inside["luisa"], strict=True), fine.shape, transform=fine.transform, dtype="uint16"
        )
        reproject(
            burnt,
            out,
            src_transform=fine.transform,
            src_crs=CRS,
            dst_transform=area.transform,
            dst_crs=CRS,
            src_nodata=0,
            dst_nodata=0,
            resampling=Resampling.mode,
        )
        return out

    def _polygons(self) -> gpd.GeoDataFrame:
        return _polygons(self.path, self.layer, self.column, tuple(self.codes.items()), self.legend)


def unknown_codes(codes: list[int], legend: str, where: str) -> LulcbenchError:
    """The error for codes that the legend of a label map lacks."""
    shown = ", ".join(map(str, codes[:8])) + (f" and {len(codes) - 8} more" if len(codes) > 8 else "")
    return LulcbenchError(
        f"{where} holds codes that are not in the {legend} legend: {shown}.",
        "Check that the recipe's 'source' (luisa or corine) fits the file, and that its nodata value is set.",
    )


@lru_cache(maxsize=4)
def _polygons(
    path: Path, layer: str | None, column: str | None, codes: tuple[tuple[int, int], ...], legend: str
) -> gpd.GeoDataFrame:
    try:
        frame = gpd.read_file(path, layer=layer or str(pyogrio.list_layers(path)[0][0]))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "It is missing, damaged or has no such layer.") from error
    if frame.crs is None:
        raise LulcbenchError(f"{path} has no coordinate reference system.", "Add one, for instance with ogr2ogr.")
    if column not in frame.columns:
        names = ", ".join(c for c in frame.columns if c != "geometry")
        raise LulcbenchError(f"{path} has no column {column!r}.", f"Set 'field' of the labels to one of {names}.")
    values = frame[column].astype(int)
    unknown = sorted(set(values) - set(dict(codes)))
    if unknown:
        raise unknown_codes(unknown, legend, f"{path} ({column})")
    return frame.assign(luisa=values.map(dict(codes))).to_crs(CRS)


@lru_cache(maxsize=16)
def _open(path: str) -> rasterio.DatasetReader:
    return open_raster(path)


def _box(values: Any) -> Bounds:
    left, bottom, right, top = (float(v) for v in values)
    return (left, bottom, right, top)
