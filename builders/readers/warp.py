"""Warping windows of rasters to the pixel grid of an area. GDAL computes; holes of one band stay in that band."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject
from rasterio.windows import transform as window_transform

from builders.readers.area import Area
from builders.readers.opening import open_asset
from builders.readers.scene import Asset
from builders.readers.windows import UNDECLARED, Mask, Values, View, footprint, read_window, view
from lulcbench.grid import CRS
from lulcbench.sensors import Coding

AVERAGE = 1.5  # pixels of the raster per pixel of the area from which on they are averaged, not interpolated
SAME = 0.95  # sides of pixels, in pixels of the area, from which on interpolation uses the four nearest pixels
PARTS = 10  # of a pixel of the area along a side, at which a turned raster is looked up for means and majorities
LOST = 2**0.5  # sides of pixels, in pixels of the area, below which some have no centre of the area if they are turned
STRIP = 2**24  # parts that are in memory at once
Place = tuple[Area, tuple[slice, slice], View]


def place(dataset: rasterio.DatasetReader, area: Area) -> Place | None:
    """The part of an area that a raster covers, its rows and columns, and its window; None without an overlap."""
    clipped = area.clip(footprint(dataset.crs, dataset.transform, dataset.shape))
    if clipped is None:
        return None
    inner, part = clipped
    seen = view(dataset.crs, dataset.transform, dataset.shape, inner)
    return None if seen is None else (inner, part, seen)


def read_stored(
    assets: Sequence[Asset], numbers: Sequence[int], area: Area, crs: str | None, coding: Coding
) -> npt.NDArray[Any]:
    """Channels as stored values ``(channel, y, x)`` on the area's grid: averaged from finer pixels, else bilinear.

    Channels that share a pixel grid are warped in one call, since most of the time goes into transforming coordinates;
    those with missing pixels are warped alone, since GDAL would take a hole in one band of several for a value. Missing
    pixels have no weight. Linear power is interpolated as such, and converted to decibels afterwards.

    Args:
        assets: the channels.
        numbers: band number of each in its file.
        area: the target grid.
        crs: projection that the files must have, if the catalog states one.
        coding: of the result.
    """
    out = np.full((len(assets), *area.shape), coding.fill_value, coding.dtype)
    grids: dict[Any, list[int]] = {}
    for i, asset in enumerate(assets):
        dataset = open_asset(asset, crs)
        key = (dataset.transform, dataset.shape, dataset.crs, _by_table(asset, dataset, coding), asset.power)
        grids.setdefault(key, []).append(i)
    for (*_, by_table, power), members in grids.items():
        first = open_asset(assets[members[0]], crs)
        where = place(first, area)
        if where is None:
            continue
        inner, part, seen = where
        read = [_read(assets[i], numbers[i], seen, crs, coding if by_table else None) for i in members]
        fill = coding.fill_value if by_table else np.float32(np.nan)
        target = np.full((len(members), *inner.shape), fill, read[0][0].dtype)
        resampling = Resampling.average if seen.ratio > AVERAGE else Resampling.bilinear
        # The parts of pixels that lie beside a turned raster have no value, and must not count for the mean.
        edged = seen.turned and resampling == Resampling.average
        whole = [k for k, (_, holes) in enumerate(read) if not (holes or edged)]
        at = window_transform(seen.window, first.transform)
        if whole:  # GDAL is several times faster without nodata
            block = np.stack([target[k] for k in whole])
            warp(np.stack([read[k][0] for k in whole]), at, first.crs, inner, block, resampling, seen)
            target[whole] = block
        for k in set(range(len(members))) - set(whole):
            warp(read[k][0], at, first.crs, inner, target[k], resampling, seen, fill)
        if power:
            target = 10 * np.log10(target)
        out[(members, *part)] = target if by_table else coding.encode(target)
    return out


def read_nearest(asset: Asset, number: int, area: Area, fill: int, crs: str | None = None) -> Values:
    """A categorical channel ``(y, x)`` on the area's grid, by nearest neighbour; ``fill`` where it is missing."""
    return read_classes(asset, number, area, fill, crs, lambda values: values)


def read_classes(
    asset: Asset, number: int, area: Area, fill: int, crs: str | None, function: Callable[[Values], Values]
) -> Values:
    """A function of the values of a categorical channel ``(y, x)`` on the area's grid, by nearest neighbour.

    Where pixels of the raster are clearly finer than those of the area, the highest result counts; so it does where
    they are as fine and turned, since the nearest neighbours of all pixels would leave some of them out. Missing
    pixels have the value ``fill``.
    """
    dataset = open_asset(asset, crs)
    outside = function(np.array([[fill]], dataset.dtypes[number - 1]))
    out = np.full(area.shape, outside[0, 0], outside.dtype)
    where = place(dataset, area)
    if where is not None:
        inner, part, seen = where
        values, missing = read_window(dataset, number, seen.window, asset.nodata)
        if missing is not None:
            values[missing] = fill
        block = out[part].copy()
        at = window_transform(seen.window, dataset.transform)
        highest = seen.ratio > AVERAGE or (seen.turned and min(seen.sides) < LOST)
        resampling = Resampling.max if highest else Resampling.nearest
        warp(function(values), at, dataset.crs, inner, block, resampling, seen)
        out[part] = block
    return out


def warp(
    source: Values,
    at: Affine,
    crs: rasterio.CRS,
    area: Area,
    out: Values,
    resampling: Resampling,
    seen: View | None = None,
    nodata: Any = None,
) -> None:
    """Warp into ``out``, which keeps its values where the source has none.

    GDAL takes sizes and shapes of pixels from rectangles along both grids. Those of turned grids, as of UTM far from
    10° E, differ: by itself it would blur what it interpolates as if pixels became 1.3 times as large, and take means,
    majorities and maxima over too narrow rectangles. It is therefore told the sizes, and pixels of a turned raster are
    first looked up at parts of the pixels of the area.

    Args:
        source: ``(y, x)`` or ``(channel, y, x)``.
        at: affine transform of ``source``.
        crs: projection of ``source``.
        area: the grid of ``out``.
        out: array of the type of ``source`` and the shape of the area.
        resampling: of GDAL.
        seen: how the pixels of the source lie on the area; None is parallel to it.
        nodata: value of missing pixels, which have no weight; None if there are none, so that ``out`` counts around
            the source.
    """
    options: dict[str, float] = {}
    # Those of parallel grids are nearly right; GDAL's own keep every byte of releases that were built with them.
    if seen is not None and seen.turned and resampling == Resampling.bilinear:
        scales = (1.0 if side > SAME else side for side in seen.sides)
        options = dict(zip(("XSCALE", "YSCALE"), scales, strict=True))
    if seen is None or not seen.turned or resampling in (Resampling.bilinear, Resampling.nearest):
        _reproject(source, at, crs, area, out, resampling, nodata, options)
        return
    # For the highest value, each pixel of the raster must have a part in it.
    parts = max(3, math.ceil(1.5 / min(seen.sides))) if resampling == Resampling.max else PARTS
    height, width = area.shape
    step = max(1, STRIP // (width * parts**2))
    for row in range(0, height, step):
        rows = slice(row, min(row + step, height))
        left, _, right, top = area.bounds
        box = (left, top - rows.stop * area.resolution, right, top - rows.start * area.resolution)
        fine = Area(box, area.resolution / parts)
        looked_up = np.repeat(np.repeat(out[..., rows, :], parts, axis=-2), parts, axis=-1)
        _reproject(source, at, crs, fine, looked_up, Resampling.nearest, None, {})
        block = out[..., rows, :].copy()
        _reproject(looked_up, fine.transform, CRS, Area(box, area.resolution), block, resampling, nodata, {})
        out[..., rows, :] = block


def _reproject(
    source: Values,
    at: Affine,
    crs: rasterio.CRS | str,
    area: Area,
    out: Values,
    resampling: Resampling,
    nodata: Any,
    options: dict[str, float],
) -> None:
    mark = None if nodata is None else float(nodata)
    reproject(
        source,
        out,
        src_transform=at,
        src_crs=crs,
        dst_transform=area.transform,
        dst_crs=CRS,
        src_nodata=mark,
        dst_nodata=mark,
        resampling=resampling,
        init_dest_nodata=False,
        **options,
    )


def _by_table(asset: Asset, dataset: rasterio.DatasetReader, coding: Coding) -> bool:
    """Whether DN can be converted to stored values with a lookup table, and interpolated afterwards."""
    return not asset.power and coding.dtype != "float32" and set(dataset.dtypes) <= {"uint8", "uint16"}


def _read(asset: Asset, number: int, seen: View, crs: str | None, coding: Coding | None) -> tuple[Values, bool]:
    """A window of a channel as stored values or, without a coding, as float32 values; and whether it has holes.

    Missing pixels are the coding's nodata, or NaN.
    """
    values, missing = read_window(open_asset(asset, crs), number, seen.window, asset.nodata)
    if coding is not None:
        result = _table(asset.scale, asset.offset, coding)[values]
        fill = coding.fill_value
    else:
        missing = _either(missing, values <= UNDECLARED)
        result = values.astype(np.float32) * np.float32(asset.scale) + np.float32(asset.offset)
        fill = np.nan
        if asset.power:  # a value that is not positive has no logarithm: treated as not observed
            missing = _either(missing, ~(result > 0))
    if missing is not None:
        result[missing] = fill
    return result, missing is not None


def _either(a: Mask | None, b: Mask) -> Mask | None:
    if b.any():
        return b if a is None else a | b
    return a


@cache
def _table(scale: float, offset: float, coding: Coding) -> Values:
    """Stored value of every possible DN."""
    table: Values = coding.encode(np.arange(65536) * scale + offset)
    return table
