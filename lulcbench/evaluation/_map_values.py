"""Values of a map raster at points."""

from __future__ import annotations

import math
import os
import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS


class MapValues(NamedTuple):
    """Values ``(n,)`` of a raster at ``n`` points, mask of valid values ``(n,)``, and the band that was read."""

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]
    band: str


def values_at(
    path: str | os.PathLike[str],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    band: str | None = None,
    year: int | None = None,
) -> MapValues:
    """Sample a raster at points, in its own CRS; nodata value, mask, alpha band and NaN mark invalid values.

    Args:
        path: a raster that GDAL reads.
        x: EPSG:3035 metres, float64 ``(n,)``, NaN where unknown.
        y: likewise.
        band: number or description of the band. Without it, of a raster with several bands, the only band whose
            description contains ``year`` is read.
        year: year of the map.

    Raises:
        LulcbenchError: the raster cannot be read or has no georeference, the band is ambiguous, or rasterio is not
            installed.
    """
    try:
        import rasterio
        import rasterio.errors
        import rasterio.warp
        from rasterio.enums import ColorInterp
    except ImportError as error:
        raise LulcbenchError("Reading map rasters requires rasterio.", "Run: pip install 'lulcbench[geo]'.") from error
    valid = np.isfinite(x) & np.isfinite(y)
    try:
        with rasterio.open(path) as raster:
            if raster.crs is None or raster.transform.is_identity:
                lacking = "CRS" if raster.crs is None else "geotransform"
                only = f"only ground control points, no {lacking}" if raster.gcps[0] else f"no {lacking}"
                raise LulcbenchError(f"{path} has {only}.", "Assign one with gdal_edit.py, or warp it with gdalwarp.")
            number = _band(path, raster, band, year)
            xs, ys = rasterio.warp.transform(CRS, raster.crs, x[valid], y[valid])
            columns, rows = ~raster.transform @ (np.array(xs, float), np.array(ys, float))
            inside = (columns >= 0) & (columns < raster.width) & (rows >= 0) & (rows < raster.height)
            valid[valid] = inside
            # In the order of the blocks of the file, so that each block is decoded once.
            height, width = raster.block_shapes[number - 1]
            order = np.flatnonzero(inside)
            order = order[np.lexsort((columns[order] // width, rows[order] // height))]
            coordinates = [(xs[i], ys[i]) for i in order]
            # GDAL does not use an alpha band if there is a nodata value or a mask as well.
            alpha = [i for i in raster.indexes if raster.colorinterp[i - 1] == ColorInterp.alpha]
            sampled = list(raster.sample(coordinates, indexes=[number, *alpha], masked=True))
            back = np.argsort(order)
            dtype, description = raster.dtypes[number - 1], raster.descriptions[number - 1]
            bands = raster.count
            if (raster.scales[number - 1], raster.offsets[number - 1]) != (1.0, 0.0):
                raise LulcbenchError(
                    f"{path} has a scale or an offset, so that its numbers are not class codes.",
                    "Store the class codes themselves, without scale and offset.",
                )
    except rasterio.errors.RasterioError as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a raster of class codes.") from error
    values = np.zeros(len(x), dtype)
    values[valid] = read = np.array([value.data[0] for value in sampled], dtype)[back]
    masked = np.array([np.ma.getmaskarray(value)[0] or not np.ma.getdata(value)[1:].all() for value in sampled], bool)[
        back
    ]
    valid[valid] = ~masked & ~np.isnan(read)
    return MapValues(values, valid, "" if bands == 1 else f"{number} ({description or 'not described'})")


def _band(path: str | os.PathLike[str], raster: Any, band: str | None, year: int | None) -> int:
    from rasterio.enums import ColorInterp

    described = {i: text or "" for i, text in enumerate(raster.descriptions, start=1)}
    maps = [i for i in described if raster.colorinterp[i - 1] != ColorInterp.alpha]
    if band is not None:
        matches = [i for i in maps if band in (str(i), described[i])]
    elif len(maps) > 1 and year is not None:
        matches = [i for i in maps if re.search(rf"(?<!\d){year}(?!\d)", described[i])]
    else:
        matches = maps
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(f"{i} ({described[i] or 'not described'})" for i in maps[:20])
    raise LulcbenchError(
        f"{path} has {len(maps)} bands, and the band of the map is ambiguous: {names}.",
        "Choose it by number or description with --band.",
    )


def class_codes(values: npt.NDArray[Any], path: str | os.PathLike[str]) -> npt.NDArray[np.int64]:
    """Convert values to int64.

    Raises:
        LulcbenchError: a value is not an integer.
    """
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
