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
from lulcbench.sensors import Band, Coding, Sensor

Stored = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a digital number (DN) of an archive means.

    Attributes:
        scale: value = DN · scale + offset.
        offset: see ``scale``.
        nodata: DN of missing pixels; None where the file has no such value.
        power: values are linear power, of which decibels are stored.
        note: how a contradiction was settled.
    """

    scale: float
    offset: float
    nodata: float | None
    power: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RasterSource:
    """An archive whose scenes are rasters, one band or several to a file.

    Attributes:
        sensor: what the scenes are of.
        scaling: meaning of the DN of one channel of an item.
        is_clear: quality values → True where the surface was seen.
        is_seen: quality values → True where there are data at all, clouds or surface.
        quality_fill: quality value outside the scene.
    """

    sensor: Sensor
    scaling: Callable[[pystac.Item, Channel], Scaling]
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
            scaling = self.scaling(item, channel)
            assets[band.asset] = _asset(channel, scaling)
            if scaling.note and scaling.note not in notes:
                notes.append(scaling.note)
        quality = self.sensor.quality_asset
        if quality and quality in found:
            assets[quality] = _asset(found[quality], Scaling(1, 0, None))
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
        whole = Pixels(self._nothing(area, bands), np.zeros(area.shape, bool), np.zeros(area.shape, bool))
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
        quality, coding = self.sensor.quality_asset, self.sensor.coding
        if quality not in scene.assets:
            stored = _joint(read_stored(assets, names, area, scene.crs, coding), coding)
            return Pixels(stored, ~coding.missing(stored[0]), np.ones(area.shape, bool))
        values = read_nearest(scene.assets[quality], area, self.quality_fill, scene.crs)
        seen, clear = self.is_seen(values), self.is_clear(values)
        if not clear.any():
            return Pixels(self._nothing(area, bands), seen, clear)
        if not clear.all():
            # Bilinear weights reach one source pixel far: a mask as wide keeps clouded neighbours out.
            coarsest = max(resolution(_open(asset, scene.crs)) for asset in assets)
            reach = math.ceil(coarsest / area.resolution)
            clear = maximum_filter((~clear).astype(np.uint8), 2 * reach + 1) == 0
        return Pixels(_joint(read_stored(assets, names, area, scene.crs, coding), coding), seen, clear)

    def _nothing(self, area: Area, bands: tuple[Band, ...]) -> Stored:
        coding = self.sensor.coding
        return np.full((len(bands), *area.shape), coding.fill_value, coding.dtype)


def read_stored(assets: list[Asset], names: list[str], area: Area, crs: str | None, coding: Coding) -> Stored:
    """Channels as stored values ``(channel, y, x)`` on the area's grid, bilinear; nodata where there is nothing.

    Channels that share a pixel grid are warped in one go, since most of the work is in the coordinates. Linear power is
    interpolated as such, and brought to decibels afterwards.
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
        # GDAL has a fast path for arrays without gaps, several times quicker.
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


def _joint(stored: Stored, coding: Coding) -> Stored:
    """A pixel that lacks one band lacks them all."""
    stored[:, coding.missing(stored).any(axis=0)] = coding.fill_value
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


def _by_table(asset: Asset, dataset: rasterio.DatasetReader, coding: Coding) -> bool:
    """Whether DN are few enough to be brought to stored values by a table, and may be interpolated as such."""
    return not asset.power and coding.dtype != "float32" and set(dataset.dtypes) <= {"uint8", "uint16"}


def _read(asset: Asset, name: str, window: Window, crs: str | None, coding: Coding | None) -> Stored:
    """A window of a channel as stored values or, without a coding, as float32 values with NaN for nodata.

    For the latter the file's own nodata counts beside the catalog's.
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
        result[~(result > 0)] = np.nan  # has no logarithm, so nothing was measured
    return result


@cache
def _table(scale: float, offset: float, nodata: float | None, coding: Coding) -> Stored:
    """Stored value of every DN there can be."""
    numbers = np.arange(65536)
    table = coding.encode(numbers * scale + offset)
    if nodata is not None:
        table[numbers == nodata] = coding.fill_value
    return table


def _asset(channel: Channel, scaling: Scaling) -> Asset:
    size = file_size(channel.href)
    if channel.size is not None and size is not None and size != channel.size:
        raise LulcbenchError(
            f"{channel.href} has {size} bytes, its catalog says {channel.size}: it is truncated.",
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
        sha256=channel.sha256,
    )
