"""Other ways of making the composites of ``builder.py``, as their documentation recommends.

A peer composites a group of tiles from the items of the scenes. All warp bilinearly to the same grid, mask by the scene
classification (by nearest neighbour), subtract the offset of each scene and take the median of what is clear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from rasterio.warp import Resampling, reproject, transform_bounds

from builders.archives.sentinel2 import OFFSET_BASELINE, UNCLEAR
from builders.readers.area import Area
from lulcbench.grid import CRS
from lulcbench.sensors import SENTINEL2

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
ASSETS = [SENTINEL2.band(name).asset for name in BANDS]
QUALITY = "scl"
Floats = npt.NDArray[np.float32]


def gdal_numpy(items: Sequence[pystac.Item], area: Area) -> Floats:
    """One warp of each band and scene with the settings of ``gdalwarp``, and a median by sorting in NumPy."""
    west, south, east, north = transform_bounds(CRS, "EPSG:4326", *area.bounds)
    by_time: dict[str, Floats] = {}  # scenes of one pass are mosaicked
    with rasterio.Env(GDAL_CACHEMAX=256):
        for item in items:
            left, bottom, right, top = item.bbox or (0, 0, 0, 0)
            if not (left < east and west < right and bottom < north and south < top):
                continue
            image = by_time.setdefault(str(item.datetime), np.full((len(BANDS), *area.shape), np.nan, np.float32))
            clear = ~np.isin(_warped(item.assets[QUALITY].href, area, Resampling.nearest), UNCLEAR)
            for band, asset in zip(image, ASSETS, strict=True):
                values = _warped(item.assets[asset].href, area, Resampling.bilinear)
                np.copyto(band, values.astype(np.float32) - _offset(item), where=clear & (values > 0))
    stack = np.sort(np.stack(list(by_time.values())), axis=0)  # NaN is last
    count = np.isfinite(stack).sum(axis=0, keepdims=True)
    lower, upper = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(stack) - 1)
    middle: Floats = (np.take_along_axis(stack, lower, axis=0)[0] + np.take_along_axis(stack, upper, axis=0)[0]) / 2
    return middle


def odc_stac(items: Sequence[pystac.Item], area: Area) -> Floats:
    """``odc.stac.load`` and the median of xarray."""
    import odc.stac
    import xarray as xr
    from odc.geo.geobox import GeoBox

    data = odc.stac.load(
        items,
        bands=[*ASSETS, QUALITY],
        geobox=GeoBox(area.shape, area.transform, CRS),
        groupby="solar_day",
        resampling={"*": "bilinear", QUALITY: "nearest"},
    )
    offsets = {str(item.datetime)[:10]: _offset(item) for item in items}
    days = [str(day)[:10] for day in data.time.values]
    offset = xr.DataArray(np.array([offsets[day] for day in days], np.float32), dims="time", coords={"time": data.time})
    bands = data[ASSETS]
    clear = ~data[QUALITY].isin(UNCLEAR)
    median = (bands.where(clear & (bands > 0)).astype("float32") - offset).median("time")
    values: Floats = median.to_array().values
    return values


PEERS: dict[str, Callable[[Sequence[pystac.Item], Area], Floats]] = {"gdal_numpy": gdal_numpy, "odc_stac": odc_stac}


def _offset(item: pystac.Item) -> int:
    """What is subtracted from the DN of a scene."""
    return 1000 if float(item.properties["s2:processing_baseline"]) >= OFFSET_BASELINE else 0


def _warped(href: str, area: Area, resampling: Resampling) -> npt.NDArray[Any]:
    with rasterio.open(href) as file:
        out = np.zeros(area.shape, file.dtypes[0])
        reproject(
            rasterio.band(file, 1),
            out,
            dst_transform=area.transform,
            dst_crs=CRS,
            dst_nodata=0,
            resampling=resampling,
            tolerance=0.125,  # pixels, the default of gdalwarp
        )
    return out
