"""Archives of rasters: a STAC item becomes a scene, and a scene becomes pixels. Every archive is a ``RasterSource``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
import rasterio
from scipy.ndimage import maximum_filter

from builders.readers import Damage, Pixels
from builders.readers.area import Area
from builders.readers.items import Channel, channels, choose, meaning, plain_names, quality_channel
from builders.readers.locators import file_size
from builders.readers.opening import name_of, open_asset, opened
from builders.readers.radiometry import Scalings, sample
from builders.readers.scene import Asset, Scene, UnusableSceneError
from builders.readers.statements import baseline, cloud_cover, extent, interval
from builders.readers.warp import place, read_classes, read_stored
from builders.readers.windows import UnreadableError, Values, data_bands, footprint
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL2, Band, Sensor

# Names of the satellites of each sensor, without punctuation.
PLATFORMS = {
    "sentinel2": r"s(?:entinel)?2[a-d]?$",
    "landsat": r"l(?:andsat|[coetm]0)\d",
    "sentinel1": r"s(?:entinel)?1[a-d]?$",
}
USABLE = "clear"  # description of a band of Planet's usable data mask: 1 where the ground is seen, else 0
OUTSIDE = 255  # in its place, beyond the file
CLEAR, UNCLEAR, UNSEEN = 0, 1, 2  # in the order in which one of them prevails over others under one pixel


@dataclass(frozen=True, slots=True)
class RasterSource:
    """An archive whose scenes are rasters with one or several bands per file.

    Attributes:
        sensor: sensor of the scenes.
        scalings: function of an item and its channels by band, which settles what their numbers mean.
        is_clear: function of quality values, True where the surface was observed.
        is_seen: function of quality values, True where there are data, cloudy or not.
        quality_fill: quality value outside the scene.
        cloudless: whether a scene has no clouds for other reasons than its quality layer, which it may then lack.
        check: raises ``UnusableSceneError`` for items of another product than the archive's.
        check_quality: function of a sample of quality values, what is wrong with them; empty if nothing is.
        quality_names: other names of the quality layer, found in its key or in the name of its file.
    """

    sensor: Sensor
    scalings: Callable[[pystac.Item, Mapping[Band, Channel]], Scalings]
    is_clear: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]
    is_seen: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]]
    quality_fill: int
    cloudless: Callable[[Scene], bool] = lambda scene: False
    check: Callable[[pystac.Item], None] = lambda item: None
    check_quality: Callable[[npt.NDArray[Any]], str] | None = None
    quality_names: re.Pattern[str] | None = None

    def scene(self, item: pystac.Item, bands: Sequence[Band] | None = None) -> Scene:
        """See ``SceneSource.scene``."""
        self.check(item)
        available = channels(item)
        quality = self.sensor.quality_asset
        layer = quality_channel(available, quality, self.quality_names, USABLE) if quality else None
        overruled = _check_platform(item, self.sensor, layer is not None)
        wanted = self.sensor.bands if bands is None else bands
        chosen = self._channels(item, available, wanted)
        lacking = [band.name for band in wanted if band not in chosen] if bands is not None else []
        if lacking:
            held = ", ".join(sorted({channel.key for channel in available})) or "none"
            raise UnusableSceneError(
                "a band is missing",
                f"Item {item.id} has no asset for {', '.join(lacking)}; its assets: {held}.",
                "Name the band in the asset's key, in its 'bands' or in the file's band descriptions.",
            )
        for channel in chosen.values():
            _check_size(channel)
        for band, channel in chosen.items():
            dataset = opened(channel.href, channel.crs)
            number = band_number(dataset, channel.band, band, self.sensor.bands, channel.count)
            chosen[band] = replace(channel, band=number)
            _check_transform(item, channel, dataset)
        _check_distinct(item, chosen)
        _check_place(item, next(iter(chosen.values()), None))
        settled = self.scalings(item, chosen)
        assets: dict[str, Asset] = {}
        for band, channel in chosen.items():
            scaling = settled.by_band[band]
            assets[band.asset] = _asset(item, channel, scaling.scale, scaling.offset, scaling.nodata, scaling.power)
        if quality and layer:
            self._check_codes(item, layer)
            nodata = () if layer.nodata is None else (layer.nodata,)
            assets[quality] = _asset(item, layer, 1, 0, nodata, False)
        start, end = interval(item)
        known = baseline(item) if self.sensor == SENTINEL2 else None
        properties = item.properties
        return Scene(
            id=item.id,
            sensor=self.sensor.name,
            collection=item.collection_id or "",
            start=start,
            end=end,
            cloud=cloud_cover(item),
            baseline=known[0] if known else None,
            crs=properties.get("proj:code"),
            bounds=extent(item),
            platform=properties.get("platform"),
            licence=properties.get("license"),
            assets=assets,
            notes=(*overruled, *settled.notes),
        )

    def knows_clouds(self, scene: Scene) -> bool:
        """See ``SceneSource.knows_clouds``."""
        return self.sensor.quality_asset in scene.assets or self.cloudless(scene)

    def _check_codes(self, item: pystac.Item, layer: Channel) -> None:
        """The quality layer must hold codes of the archive."""
        if self.check_quality is None:
            return
        number = layer.band or only_band(opened(layer.href), self.sensor.quality_asset or "")
        if fault := self.check_quality(sample(replace(layer, band=number))):
            raise LulcbenchError(
                f"Item {item.id}: {layer.href} {fault}.", "Correct the address of its quality layer, or leave it out."
            )

    def _channels(self, item: pystac.Item, available: list[Channel], wanted: Sequence[Band]) -> dict[Band, Channel]:
        chosen = {band: choose(item.id, available, band, self.sensor.bands) for band in wanted}
        if not any(chosen.values()):
            # The item names no band: its files may describe theirs.
            described = [self._described(channel) for channel in available if channel.alone and not channel.names]
            chosen = {band: channel for bands in described for band, channel in bands.items() if band in chosen}
        return {band: channel for band, channel in chosen.items() if channel is not None}

    def _described(self, channel: Channel) -> dict[Band, Channel]:
        if spelled_quality(channel.key, self.sensor):
            return {}
        try:
            dataset = opened(channel.href)
        except LulcbenchError:  # metadata, archives and other files that are not rasters
            return {}
        named = {meaning(text, self.sensor.bands) for text in plain_names(list(data_bands(dataset).values()))}
        return {band: channel for band in named if band is not None}

    def read(self, scene: Scene, area: Area, bands: tuple[Band, ...]) -> Pixels:
        """See ``SceneSource.read``. A scene without a quality layer counts as clear; a damaged cell is not seen.

        The area is read in cells of a fixed lattice, so that a pixel does not depend on what it is read with.
        """
        coding = self.sensor.coding
        stored = np.full((len(bands), *area.shape), coding.fill_value, coding.dtype)
        out = Pixels(stored, np.zeros(area.shape, bool), np.zeros(area.shape, bool))
        damage = []
        for cell, target, part in area.cells():
            try:
                pixels = self._read(scene, cell, bands)
            except UnreadableError as error:
                damage.append(Damage(cell.bounds, error.part))
                continue
            if pixels is not None:
                out.stored[(slice(None), *target)] = pixels.stored[(slice(None), *part)]
                out.seen[target] = pixels.seen[part]
                out.clear[target] = pixels.clear[part]
        return replace(out, damage=tuple(damage))

    def _read(self, scene: Scene, cell: Area, bands: tuple[Band, ...]) -> Pixels | None:
        """The pixels of a cell; None if the scene's files do not reach it."""
        coding = self.sensor.coding
        assets = [scene.asset(band.asset) for band in bands]
        files = [open_asset(asset, scene.crs) for asset in assets]
        numbers = [
            band_number(file, asset.band, band, self.sensor.bands)
            for file, asset, band in zip(files, assets, bands, strict=True)
        ]
        places = [where for where in (place(file, cell) for file in files) if where is not None]
        if not places:
            return None
        layer, usable = scene.assets.get(self.sensor.quality_asset or ""), False
        if layer is None:
            seen, clear = None, np.ones(cell.shape, bool)
        else:
            # Interpolation uses neighbours up to one source pixel away: widening the mask by that distance keeps cloudy
            # ones out. The mask is read with that margin, so that clouds beyond the cell count as well.
            margin = max(1, math.ceil(max(where[2].reach for where in places) - 0.05))
            dataset = open_asset(layer, scene.crs)
            number = layer.band or only_band(dataset, self.sensor.quality_asset or "")
            usable = (dataset.descriptions[number - 1] or "").lower() == USABLE
            fill, function = (OUTSIDE, _usable_state) if usable else (self.quality_fill, self._state)
            state = read_classes(layer, number, cell.grown(margin), fill, scene.crs, function)
            inside = (slice(margin, -margin), slice(margin, -margin))
            seen = state[inside] != UNSEEN
            unclear = (state != CLEAR).astype(np.uint8)
            clear = (maximum_filter(unclear, 2 * margin + 1) if unclear.any() else unclear)[inside] == 0
        if not clear.any():
            stored = np.full((len(bands), *cell.shape), coding.fill_value, coding.dtype)
        else:
            stored = read_stored(assets, numbers, cell, scene.crs, coding)
            stored[:, coding.missing(stored).any(axis=0)] = coding.fill_value
            if seen is not None and usable:  # the layer does not tell clouds from ground that was not observed
                seen &= ~clear | ~coding.missing(stored[0])
        return Pixels(stored, ~coding.missing(stored[0]) if seen is None else seen, clear)

    def _state(self, quality: Values) -> Values:
        if quality.dtype.kind == "f":
            whole = np.where(quality == np.floor(quality), quality, -1)  # a fraction is not a class, nor are bits
            quality = np.nan_to_num(whole, nan=self.quality_fill, posinf=-1, neginf=-1).astype(np.int64)
        return np.where(self.is_seen(quality), np.where(self.is_clear(quality), CLEAR, UNCLEAR), UNSEEN).astype(
            np.uint8
        )


def _usable_state(usable: Values) -> Values:
    return np.where(usable == OUTSIDE, UNSEEN, np.where(usable == 1, CLEAR, UNCLEAR)).astype(np.uint8)


def spelled_quality(key: str, sensor: Sensor) -> bool:
    """Whether an asset key is that of the sensor's quality layer."""
    return sensor.quality_asset is not None and key.lower().startswith(sensor.quality_asset)


def band_number(
    dataset: rasterio.DatasetReader, number: int | None, band: Band, bands: Sequence[Band], count: int = 0
) -> int:
    """Number of a band in a file, by the item and by the file's own descriptions, which must agree.

    Args:
        dataset: the file.
        number: the band number that the item gives, if any.
        band: the wanted band.
        bands: all bands that descriptions may stand for.
        count: number of bands that the item lists for the file, if any.

    Raises:
        LulcbenchError: item and file contradict each other, or neither identifies the band.
    """
    texts = data_bands(dataset)
    described = {i: meaning(text, bands) for i, text in zip(texts, plain_names(list(texts.values())), strict=True)}
    fitting = [i for i, other in described.items() if other == band]
    listed = ", ".join(f"{i} ({text or 'not described'})" for i, text in texts.items())
    if number is None and len(described) == 1:
        number = next(iter(described))
    if number is None and len(fitting) == 1:
        return fitting[0]
    if number is None:
        raise LulcbenchError(
            f"{name_of(dataset)} has {len(described)} bands and none is described as {band.asset!r}: {listed}."
            if not fitting
            else f"{name_of(dataset)} describes several bands as {band.name}: {listed}.",
            "Name the bands in the file or in the item's 'bands'; their order is never guessed.",
        )
    if count > 1 and count != len(described) and not fitting:  # some are not listed, perhaps the first
        raise LulcbenchError(
            f"The catalog lists {count} bands of {name_of(dataset)}, but the file has {len(described)}: {listed}.",
            "List all bands in the order of the file, or describe them in the file.",
        )
    if number not in described or (described[number] or band) != band or (fitting and number not in fitting):
        raise LulcbenchError(
            f"The catalog has {band.name} ({band.asset}) in band {number} of {name_of(dataset)}, but the file has "
            f"the bands {listed}.",
            "Correct the item's 'bands' or the file's band descriptions, so that they agree.",
        )
    return number


def only_band(dataset: rasterio.DatasetReader, name: str) -> int:
    """Number of the band of a quality layer: the only one, or the one that is described by ``name``.

    Of Planet's usable data mask (UDM2), which has a band for each reason, that of usable pixels.
    """
    described = data_bands(dataset)
    numbers = [i for i, text in described.items() if len(described) == 1 or text.lower() in (name, USABLE)]
    if len(numbers) != 1:
        raise LulcbenchError(
            f"{name_of(dataset)} has {dataset.count} bands, and none is described as {name!r}.",
            "Give the quality layer in a file of its own, or describe its band.",
        )
    return numbers[0]


def _check_platform(item: pystac.Item, sensor: Sensor, has_quality: bool) -> tuple[str, ...]:
    """The item must not be of the satellites of another sensor, whose bands may have the same names.

    The platform is overruled if both the collection's name and the quality layer, which only this sensor has, say that
    the item is of the sensor; returns a note on that.

    Raises:
        UnusableSceneError: it is of another sensor.
    """
    name, collection = (_letters(text) for text in (item.properties.get("platform"), item.collection_id))
    own = next((own for own, spelling in PLATFORMS.items() if re.match(spelling, name)), sensor.name)
    if own != sensor.name and sensor.name in PLATFORMS:
        if has_quality and sensor.name in collection:
            return (
                f"the platform {item.properties['platform']} is not one of {sensor.name}, unlike the collection and "
                "the quality layer, which are believed",
            )
        raise UnusableSceneError(
            "another sensor",
            f"Item {item.id} is of {item.properties['platform']}, not of {sensor.name}.",
            f"Name a collection of {sensor.name} in the recipe, or correct the item.",
        )
    return ()


def _letters(text: object) -> str:
    """A name without punctuation, in lower case."""
    return re.sub(r"[^a-z0-9]", "", str(text or "").lower())


def _check_transform(item: pystac.Item, channel: Channel, dataset: rasterio.DatasetReader) -> None:
    """The item and the file must agree on where the pixels are.

    Half a pixel is allowed: items of Landsat state corners of pixels where the files state centres, or the reverse. A
    transform of the whole item may be that of files of another pixel size.
    """
    stated, own = channel.transform, dataset.transform
    if stated is None:
        return
    size = max(abs(own.a), abs(own.b), abs(own.d), abs(own.e))
    scales = [abs(x - y) for x, y in zip(stated[:6], own[:6], strict=True)]
    same_size = max(scales[i] for i in (0, 1, 3, 4)) <= 1e-3 * size
    by_item = "proj:transform" not in item.assets[channel.key].extra_fields
    if (same_size and max(scales[2], scales[5]) <= 0.5 * size * (1 + 1e-6)) or (by_item and not same_size):
        return
    raise LulcbenchError(
        f"Item {item.id} states the transform {tuple(stated)[:6]} of {channel.href}, but the file has "
        f"{tuple(own)[:6]}.",
        "Correct proj:transform of the item or the georeference of the file.",
    )


def _check_distinct(item: pystac.Item, chosen: Mapping[Band, Channel]) -> None:
    """Two bands must not be the same numbers."""
    known: dict[tuple[str, int | None], Band] = {}
    for band, channel in chosen.items():
        other = known.setdefault((channel.href, channel.band), band)
        if other is not band:
            raise LulcbenchError(
                f"Item {item.id} has {other.name} and {band.name} both in band {channel.band} of {channel.href}.",
                "Correct the address of one of the assets.",
            )


def _check_place(item: pystac.Item, channel: Channel | None) -> None:
    """The item and its files must be in one place: the item decides which tiles a scene is read for."""
    if channel is None:
        return
    dataset = opened(channel.href)
    left, bottom, right, top = footprint(dataset.crs, dataset.transform, dataset.shape)
    box = extent(item)
    if not (left < box[2] and box[0] < right and bottom < box[3] and box[1] < top):
        raise LulcbenchError(
            f"Item {item.id} has the bbox {item.bbox}, but {channel.href} is elsewhere: its transform is "
            f"{tuple(dataset.transform)[:6]} in {dataset.crs.to_string()[:40]}.",
            "Correct the bbox of the item or the georeference of the file.",
        )


def _check_size(channel: Channel) -> None:
    size = file_size(channel.href)
    if channel.size is not None and size is not None and size != channel.size:
        raise LulcbenchError(
            f"{channel.href} has {size} bytes, but its catalog states {channel.size}: it is truncated.",
            "Fetch the scene again.",
        )


def _asset(
    item: pystac.Item, channel: Channel, scale: float, offset: float, nodata: tuple[float, ...], power: bool
) -> Asset:
    _check_size(channel)
    return Asset(
        href=channel.href,
        band=channel.band,
        scale=scale,
        offset=offset,
        nodata=nodata,
        power=power,
        bytes=file_size(channel.href),
        checksum=channel.checksum,
        crs=channel.crs if channel.crs != item.properties.get("proj:code") else None,
    )
