"""Reading scenes from GeoTIFFs and COGs: windows, codings, warping. Every archive is one ``RasterSource``."""

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
from builders.readers.scene import Asset, Scene, file_size
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds
from lulcbench.sensors import Band, Sensor, to_stored

UInt16 = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Coding:
    """What a DN means: reflectance = DN · scale + offset; ``note`` tells how a contradiction was settled."""

    scale: float
    offset: float
    nodata: float | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RasterSource:
    """An archive whose scenes are rasters, one band or several to a file.

    Attributes:
        sensor: what the scenes are of.
        coding: meaning of the DN of one channel of an item.
        is_clear: quality values → True where the surface was seen.
        is_seen: quality values → True where there are data at all, clouds or surface.
        quality_fill: quality value outside the scene.
    """

    sensor: Sensor
    coding: Callable[[pystac.Item, Channel], Coding]
    is_clear: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]
    is_seen: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]
    quality_fill: int

    def scene(self, item: pystac.Item) -> Scene:
        """See ``SceneSource.scene``."""
        found = channels(item)
        assets: dict[str, Asset] = {}
        notes: list[str] = []
        for band in self.sensor.bands:
            channel = found.get(band.asset) or found.get(band.name.lower())
            if channel is None:
                continue
            coding = self.coding(item, channel)
            assets[band.asset] = _asset(channel, coding)
            if coding.note and coding.note not in notes:
                notes.append(coding.note)
        quality = self.sensor.quality_asset
        if quality and quality in found:
            assets[quality] = _asset(found[quality], Coding(1, 0, None))
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
        whole = Pixels(
            np.zeros((len(bands), *area.shape), np.uint16), np.zeros(area.shape, bool), np.zeros(area.shape, bool)
        )
        part = area.clip(scene.bounds)
        if part is not None:
            pixels = self._read(scene, part[0], bands)
            whole.stored[(slice(None), *part[1])] = pixels.stored
            whole.seen[part[1]] = pixels.seen
            whole.clear[part[1]] = pixels.clear
        return whole

    def _read(self, scene: Scene, area: Area, bands: tuple[Band, ...]) -> Pixels:
        assets = [scene.asset(band.asset) for band in bands]
        names = [band.asset for band in bands]
        quality = self.sensor.quality_asset
        if quality not in scene.assets:
            stored = _joint(read_stored(assets, names, area, scene.crs))
            return Pixels(stored, stored[0] > 0, np.ones(area.shape, bool))
        values = read_nearest(scene.assets[quality], area, self.quality_fill, scene.crs)
        seen, clear = self.is_seen(values), self.is_clear(values)
        if not clear.any():
            return Pixels(np.zeros((len(bands), *area.shape), np.uint16), seen, clear)
        if not clear.all():
            # Bilinear weights reach one source pixel far: a mask as wide keeps clouded neighbours out.
            coarsest = max(resolution(_open(asset, scene.crs)) for asset in assets)
            reach = math.ceil(coarsest / area.resolution)
            clear = maximum_filter((~clear).astype(np.uint8), 2 * reach + 1) == 0
        return Pixels(_joint(read_stored(assets, names, area, scene.crs)), seen, clear)


def read_stored(assets: list[Asset], names: list[str], area: Area, crs: str | None) -> UInt16:
    """Channels as stored reflectance ``(channel, y, x)`` on the area's grid, bilinear; 0 where there is nothing.

    Channels that share a pixel grid are warped in one go, since most of the work is in the coordinates.
    """
    out = np.zeros((len(assets), *area.shape), np.uint16)
    grids: dict[Any, list[int]] = {}
    for i, asset in enumerate(assets):
        dataset = _open(asset, crs)
        grids.setdefault((dataset.transform, dataset.shape, dataset.crs), []).append(i)
    for members in grids.values():
        first = _open(assets[members[0]], crs)
        window = area_window(first, area)
        if window is None:
            continue
        source = np.stack([_read(assets[i], names[i], window, crs) for i in members])
        ratio = area.resolution / resolution(first)
        target = np.zeros((len(members), *area.shape), np.uint16)
        # GDAL has a fast path for arrays without gaps, several times quicker.
        nodata = 0 if (source == 0).any() else None
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
        )
        out[members] = target
    return out


def read_nearest(asset: Asset, area: Area, fill: int, crs: str | None = None) -> npt.NDArray[Any]:
    """A categorical channel ``(y, x)`` on the area's grid, nearest neighbour; ``fill`` outside the file."""
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
    """Open a raster and check that it lies somewhere.

    Args:
        href: path or URL.
        crs: the projection that the catalog states, if any.
        size: the bytes that it had when it was searched, if known.

    Raises:
        LulcbenchError: it is missing, damaged, without georeference, changed, or in another projection.
    """
    if size is not None and file_size(href) != size:
        raise LulcbenchError(
            f"{href} has {file_size(href)} bytes, the search saw {size}: it is truncated or was replaced.",
            "Fetch it again, or run 'python -m builders search' again if the new file is meant.",
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
            f"{href} is in {dataset.crs.to_string()}, its catalog says {crs}.",
            "Correct proj:code of the item, or replace the file by the one that the item describes.",
        )
    return dataset


def broken(href: str, error: Exception) -> LulcbenchError:
    """The error for a file that cannot be read."""
    return LulcbenchError(
        f"Cannot read {href}: {error}.", "It is missing, truncated or no raster; fetch it again and rerun."
    )


@lru_cache(maxsize=512)
def _cached(href: str, crs: str | None, size: int | None) -> rasterio.DatasetReader:
    return open_raster(href, crs, size)


def _open(asset: Asset, crs: str | None) -> rasterio.DatasetReader:
    return _cached(asset.href, crs, asset.bytes)


def resolution(dataset: rasterio.DatasetReader) -> float:
    """Pixel size in the units of the file's projection."""
    return float(abs(dataset.transform.a))


def area_window(dataset: rasterio.DatasetReader, area: Area) -> Window | None:
    """The part of a file that an area needs, with a margin for the interpolation."""
    box = _project(area.bounds, dataset.crs)
    margin = 2 * max(resolution(dataset), area.resolution)
    box = (box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin)
    exact = from_bounds(*box, transform=dataset.transform)
    row, column = max(0, math.floor(exact.row_off)), max(0, math.floor(exact.col_off))
    bottom = min(dataset.height, math.ceil(exact.row_off + exact.height))
    right = min(dataset.width, math.ceil(exact.col_off + exact.width))
    return Window(column, row, right - column, bottom - row) if bottom > row and right > column else None


def _joint(stored: UInt16) -> UInt16:
    """A pixel that lacks one band lacks them all."""
    stored[:, (stored == 0).any(axis=0)] = 0
    return stored


@lru_cache(maxsize=4096)
def _project(bounds: Bounds, crs: rasterio.CRS) -> Bounds:
    """Bounds of an area in a file's projection; kept, because working it out costs as much as a warp."""
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
    """Position of a channel that the catalog does not give: the file's own band descriptions decide."""
    if dataset.count == 1:
        return 1
    described = [(text or "").lower() for text in dataset.descriptions]
    if name.lower() in described:
        return described.index(name.lower()) + 1
    raise LulcbenchError(
        f"{dataset.name} has {dataset.count} bands and none is described as {name!r} (it has {described}).",
        "Name the bands in the file or in the item's 'bands'; their order is never guessed.",
    )


def _read(asset: Asset, name: str, window: Window, crs: str | None) -> UInt16:
    values = _values(asset, window, crs, name)
    if values.dtype in (np.uint8, np.uint16):
        return _table(asset.scale, asset.offset, asset.nodata)[values]
    values = values.astype(np.float32)
    reflectance = values * np.float32(asset.scale) + np.float32(asset.offset)
    if asset.nodata is not None:
        reflectance[values == asset.nodata] = np.nan
    return to_stored(reflectance)


@cache
def _table(scale: float, offset: float, nodata: float | None) -> UInt16:
    """Stored value of every DN there can be."""
    table = to_stored(np.arange(65536) * scale + offset)
    if nodata is not None:
        table[int(nodata)] = 0
    return table


def _asset(channel: Channel, coding: Coding) -> Asset:
    size = file_size(channel.href)
    if channel.size is not None and size is not None and size != channel.size:
        raise LulcbenchError(
            f"{channel.href} has {size} bytes, its catalog says {channel.size}: it is truncated.",
            "Fetch the scene again.",
        )
    return Asset(
        href=channel.href,
        band=channel.band,
        scale=coding.scale,
        offset=coding.offset,
        nodata=coding.nodata,
        bytes=size,
        sha256=channel.sha256,
    )
