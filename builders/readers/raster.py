"""Reading scenes from GeoTIFFs and COGs: windows, coding, warping. Every archive is a ``RasterSource``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import Resampling, reproject, transform_bounds
from rasterio.windows import Window, from_bounds
from rasterio.windows import transform as window_transform
from scipy.ndimage import maximum_filter

from builders.readers import Pixels
from builders.readers.area import Area
from builders.readers.items import Channel, channels, extent, interval
from builders.readers.scene import Asset, Scene, file_size, file_stamp
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds
from lulcbench.sensors import Band, Coding, Sensor

Stored = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Conversion of the digital numbers (DN) of an archive to values.

    Attributes:
        scale: value = DN · scale + offset.
        offset: see ``scale``.
        nodata: DN of missing pixels; None if the file has no such value.
        power: whether values are linear power, to be stored in decibels.
        note: how a contradiction in the metadata was resolved, or None.
    """

    scale: float
    offset: float
    nodata: float | None
    power: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RasterSource:
    """An archive whose scenes are rasters with one or several bands per file.

    Attributes:
        sensor: sensor of the scenes.
        scaling: function that gives the scaling of a channel of an item.
        is_clear: function of quality values, True where the surface was observed.
        is_seen: function of quality values, True where there are data, cloudy or not.
        quality_fill: quality value outside the scene.
    """

    sensor: Sensor
    scaling: Callable[[pystac.Item, Channel], Scaling]
    is_clear: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]
    is_seen: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]
    quality_fill: int

    def scene(self, item: pystac.Item) -> Scene:
        """See ``SceneSource.scene``."""
        available = channels(item)
        assets: dict[str, Asset] = {}
        notes: list[str] = []
        for band in self.sensor.bands:
            channel = available.get(band.asset) or available.get(band.name.lower())
            if channel is None:
                continue
            scaling = self.scaling(item, channel)
            assets[band.asset] = _asset(channel, scaling)
            if scaling.note and scaling.note not in notes:
                notes.append(scaling.note)
        quality = self.sensor.quality_asset
        if quality and quality in available:
            assets[quality] = _asset(available[quality], Scaling(1, 0, None))
        start, end = interval(item)
        properties = item.properties
        return Scene(
            id=item.id,
            sensor=self.sensor.name,
            collection=item.collection_id or "",
            start=start,
            end=end,
            cloud=properties.get("eo:cloud_cover"),
            baseline=properties.get("s2:processing_baseline"),
            crs=properties.get("proj:code"),
            bounds=extent(item),
            platform=properties.get("platform"),
            licence=properties.get("license"),
            assets=assets,
            notes=tuple(notes),
        )

    def read(self, scene: Scene, area: Area, bands: tuple[Band, ...]) -> Pixels:
        """See ``SceneSource.read``. A scene without a quality layer counts as clear."""
        out = Pixels(self._nodata(area, bands), np.zeros(area.shape, bool), np.zeros(area.shape, bool))
        clipped = area.clip(scene.bounds)
        if clipped is not None:
            inner, window = clipped
            pixels = self._read(scene, inner, bands)
            out.stored[(slice(None), *window)] = pixels.stored
            out.seen[window] = pixels.seen
            out.clear[window] = pixels.clear
        return out

    def _read(self, scene: Scene, area: Area, bands: tuple[Band, ...]) -> Pixels:
        assets = [scene.asset(band.asset) for band in bands]
        names = [band.asset for band in bands]
        quality, coding = self.sensor.quality_asset, self.sensor.coding
        if quality not in scene.assets:
            stored = _joint(read_stored(assets, names, area, scene.crs, coding), coding)
            return Pixels(stored, ~coding.missing(stored[0]), np.ones(area.shape, bool))
        values = read_nearest(scene.assets[quality], area, self.quality_fill, scene.crs)
        seen, clear = self.is_seen(values), self.is_clear(values)
        if not clear.any():
            return Pixels(self._nodata(area, bands), seen, clear)
        if not clear.all():
            # Bilinear interpolation uses neighbours up to one source pixel away: widening the mask by that distance
            # keeps cloudy ones out.
            coarsest = max(resolution(_open(asset, scene.crs)) for asset in assets)
            reach = math.ceil(coarsest / area.resolution)
            clear = maximum_filter((~clear).astype(np.uint8), 2 * reach + 1) == 0
        return Pixels(_joint(read_stored(assets, names, area, scene.crs, coding), coding), seen, clear)

    def _nodata(self, area: Area, bands: tuple[Band, ...]) -> Stored:
        coding = self.sensor.coding
        return np.full((len(bands), *area.shape), coding.fill_value, coding.dtype)


def read_stored(assets: list[Asset], names: list[str], area: Area, crs: str | None, coding: Coding) -> Stored:
    """Channels as stored values ``(channel, y, x)`` on the area's grid: averaged from finer pixels, else bilinear.

    Channels that share a pixel grid are warped in one call, since most of the time goes into transforming coordinates.
    Linear power is interpolated as such, and converted to decibels afterwards.
    """
    out = np.full((len(assets), *area.shape), coding.fill_value, coding.dtype)
    grids: dict[Any, list[int]] = {}
    for i, asset in enumerate(assets):
        dataset = _open(asset, crs)
        by_table = _by_table(asset, dataset, coding)
        grids.setdefault((dataset.transform, dataset.shape, dataset.crs, by_table, asset.power), []).append(i)
    for (*_, by_table, power), members in grids.items():
        first = _open(assets[members[0]], crs)
        window = area_window(first, area)
        if window is None:
            continue
        source = np.stack([_read(assets[i], names[i], window, crs, coding if by_table else None) for i in members])
        missing = coding.missing(source) if by_table else np.isnan(source)
        fill = coding.fill_value if by_table else np.nan
        ratio = area.resolution / resolution(first)
        target = np.full((len(members), *area.shape), fill, source.dtype)
        # GDAL is several times faster for arrays without nodata.
        nodata = float(fill) if missing.any() else None
        reproject(
            source,
            target,
            src_transform=window_transform(window, first.transform),
            src_crs=first.crs,
            dst_transform=area.transform,
            dst_crs=CRS,
            src_nodata=nodata,
            dst_nodata=nodata,
            resampling=Resampling.average if ratio > 1.5 else Resampling.bilinear,
            init_dest_nodata=False,
        )
        if power:
            target = 10 * np.log10(target)
        out[members] = target if by_table else coding.encode(target)
    return out


def read_nearest(asset: Asset, area: Area, fill: int, crs: str | None = None) -> npt.NDArray[Any]:
    """A categorical channel ``(y, x)`` on the area's grid, by nearest neighbour; ``fill`` outside the file."""
    dataset = _open(asset, crs)
    out = np.full(area.shape, fill, dataset.dtypes[0])
    window = area_window(dataset, area)
    if window is not None:
        reproject(
            _values(asset, window, crs),
            out,
            src_transform=window_transform(window, dataset.transform),
            src_crs=dataset.crs,
            dst_transform=area.transform,
            dst_crs=CRS,
            resampling=Resampling.nearest,
            init_dest_nodata=False,
        )
    return out


def open_raster(href: str, crs: str | None = None, size: int | None = None) -> rasterio.DatasetReader:
    """Open a raster and check its georeference.

    Args:
        href: path or URL.
        crs: projection stated by the catalog, if any.
        size: size in bytes at the time of the search, if known.

    Raises:
        LulcbenchError: it is missing, damaged, without georeference, changed, or in another projection.
    """
    if size is not None and file_size(href) != size:
        raise LulcbenchError(
            f"{href} has {file_size(href)} bytes, but had {size} when searched: it is truncated or was replaced.",
            "Fetch it again, or run 'python -m builders search' again to use the new file.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(href)
    except RasterioError as error:
        raise broken(href, error) from error
    if dataset.crs is None or dataset.transform.is_identity:
        raise LulcbenchError(
            f"{href} has no georeference.", "Give it a projection and a transform, for instance with gdal_translate."
        )
    if crs is not None and dataset.crs != rasterio.CRS.from_user_input(crs):
        raise LulcbenchError(
            f"{href} is in {dataset.crs.to_string()}, but its catalog states {crs}.",
            "Correct proj:code of the item, or replace the file by the one that the item describes.",
        )
    return dataset


def broken(href: str, error: Exception) -> LulcbenchError:
    """The error for a file that cannot be read."""
    return LulcbenchError(
        f"Cannot read {href}: {error}.", "It is missing, truncated or not a raster; fetch it again and rerun."
    )


@lru_cache(maxsize=512)
def _cached(href: str, crs: str | None, size: int | None, stamp: object) -> rasterio.DatasetReader:
    return open_raster(href, crs, size)


def _open(asset: Asset, crs: str | None) -> rasterio.DatasetReader:
    return _cached(asset.href, crs, asset.bytes, file_stamp(asset.href))


def resolution(dataset: rasterio.DatasetReader) -> float:
    """Pixel size in the units of the file's projection."""
    return float(abs(dataset.transform.a))


def area_window(dataset: rasterio.DatasetReader, area: Area) -> Window | None:
    """The window of a file that an area needs, with a margin for interpolation; None if they do not overlap."""
    box = _project(area.bounds, dataset.crs)
    margin = 2 * max(resolution(dataset), area.resolution)
    box = (box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin)
    exact = from_bounds(*box, transform=dataset.transform)
    row, column = max(0, math.floor(exact.row_off)), max(0, math.floor(exact.col_off))
    bottom = min(dataset.height, math.ceil(exact.row_off + exact.height))
    right = min(dataset.width, math.ceil(exact.col_off + exact.width))
    return Window(column, row, right - column, bottom - row) if bottom > row and right > column else None


def _joint(stored: Stored, coding: Coding) -> Stored:
    """Set all bands of pixels with nodata in any band to nodata, in place."""
    stored[:, coding.missing(stored).any(axis=0)] = coding.fill_value
    return stored


@lru_cache(maxsize=4096)
def _project(bounds: Bounds, crs: rasterio.CRS) -> Bounds:
    """Bounds of an area in a file's projection; cached, because computing them takes as long as a warp."""
    left, bottom, right, top = transform_bounds(CRS, crs, *bounds)
    return (left, bottom, right, top)


def _values(asset: Asset, window: Window, crs: str | None, name: str = "") -> npt.NDArray[Any]:
    dataset = _open(asset, crs)
    try:
        values: npt.NDArray[Any] = dataset.read(asset.band or _band(dataset, name), window=window)
    except RasterioError as error:
        raise broken(asset.href, error) from error
    return values


def _band(dataset: rasterio.DatasetReader, name: str) -> int:
    """Band number of a channel, from the band descriptions of the file, if the catalog does not give it."""
    if dataset.count == 1:
        return 1
    described = [(text or "").lower() for text in dataset.descriptions]
    if name.lower() in described:
        return described.index(name.lower()) + 1
    raise LulcbenchError(
        f"{dataset.name} has {dataset.count} bands and none is described as {name!r} (it has {described}).",
        "Name the bands in the file or in the item's 'bands'; their order is never guessed.",
    )


def _by_table(asset: Asset, dataset: rasterio.DatasetReader, coding: Coding) -> bool:
    """Whether DN can be converted to stored values with a lookup table, and interpolated afterwards."""
    return not asset.power and coding.dtype != "float32" and set(dataset.dtypes) <= {"uint8", "uint16"}


def _read(asset: Asset, name: str, window: Window, crs: str | None, coding: Coding | None) -> Stored:
    """A window of a channel as stored values or, without a coding, as float32 values with NaN for nodata.

    The float32 values are NaN for the nodata value of the file as well as that of the catalog.
    """
    values = _values(asset, window, crs, name)
    if coding is not None:
        stored: Stored = _table(asset.scale, asset.offset, asset.nodata, coding)[values]
        return stored
    result = values.astype(np.float32) * np.float32(asset.scale) + np.float32(asset.offset)
    for nodata in (asset.nodata, _open(asset, crs).nodata):
        if nodata is not None:
            result[values == nodata] = np.nan
    if asset.power:
        result[~(result > 0)] = np.nan  # has no logarithm; treated as not observed
    return result


@cache
def _table(scale: float, offset: float, nodata: float | None, coding: Coding) -> Stored:
    """Stored value of every possible DN."""
    numbers = np.arange(65536)
    table = coding.encode(numbers * scale + offset)
    if nodata is not None:
        table[numbers == nodata] = coding.fill_value
    return table


def _asset(channel: Channel, scaling: Scaling) -> Asset:
    size = file_size(channel.href)
    if channel.size is not None and size is not None and size != channel.size:
        raise LulcbenchError(
            f"{channel.href} has {size} bytes, but its catalog states {channel.size}: it is truncated.",
            "Fetch the scene again.",
        )
    return Asset(
        href=channel.href,
        band=channel.band,
        scale=scaling.scale,
        offset=scaling.offset,
        nodata=scaling.nodata,
        power=scaling.power,
        bytes=size,
        checksum=channel.checksum,
    )
