"""Channels of STAC items. STAC 1.0 and 1.1 are both supported."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pystac
from affine import Affine

from builders.readers.locators import locate
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import Band

_PICTURE_ROLES = {"visual", "overview", "thumbnail"}
_PICTURE_TYPES = {"image/png", "image/jpeg", "image/webp"}
_PICTURES = {"visual", "tci", "preview", "rendered_preview", "thumbnail", "overview"}
FORMS = ("eo:bands", "raster:bands", "bands")  # of STAC 1.0, and of STAC 1.1
SHIFT = 0.1  # share by which centre wavelengths of one band differ between instruments of a sensor, at most
NANOMETRES = 100.0  # wavelengths above this are in nanometres
_FORCE = {"broadnir": "B08", "nir": "B8A", "swir1": "B11", "swir2": "B12"}
_SAMPLING = re.compile(r"[_-](\d+)m$")


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an item.

    Attributes:
        key: key of its asset.
        href: absolute path or URL of its file.
        band: band number in the file, from 1; None if the item does not give it.
        count: number of bands that the item lists for the file; 0 if it lists none.
        alone: whether the asset has no other channel.
        names: names that the item gives to it: band name, common name.
        spellings: band names by all forms of STAC in which the item describes it.
        resolution: pixel size in metres, infinite if the item does not state it.
        scale: scale stated by the item, or None; ``offset``, ``nodata`` and ``unit`` likewise.
        size: size of the file in bytes stated by the item, or None.
        checksum: checksum of the file stated by the item (a multihash), or None.
        crs: projection of the file stated by the asset or the item, or None.
        transform: affine transform of the file stated by the asset, or by the item for its files of that pixel size;
            None if neither does.
        conflict: what the item states of it in two ways that differ; empty if there is no such thing.
        wavelength: centre wavelength in µm stated by the item, or None.
    """

    key: str
    href: str
    band: int | None
    count: int
    alone: bool
    names: tuple[str, ...]
    spellings: tuple[str, ...]
    resolution: float
    scale: float | None
    offset: float | None
    nodata: float | None
    unit: str | None
    size: int | None
    checksum: str | None
    crs: str | None
    transform: Affine | None
    conflict: str
    wavelength: float | None


def channels(item: pystac.Item) -> list[Channel]:
    """All channels of an item, without those of pictures made for display.

    Raises:
        LulcbenchError: an asset has no usable href, or a value that must be a number is not.
    """
    result: list[Channel] = []
    for key, asset in item.assets.items():
        if _is_picture(key, asset):
            continue
        href = asset.get_absolute_href()
        if href is None:
            raise LulcbenchError(f"Item {item.id}: asset {key!r} has no usable href.", "Correct the catalog.")
        extra = asset.extra_fields
        checksum = str(extra["file:checksum"]) if extra.get("file:checksum") else None
        tables = [list(extra.get(form) or []) for form in FORMS]
        bands = [_entries(tables, i) for i in range(max(map(len, tables)))]
        where = f"Item {item.id}, asset {key!r}"
        for number, entries in enumerate(bands or [[]], start=1):
            band = {name: value for entry in entries for name, value in entry.items()}
            result.append(
                Channel(
                    key=key,
                    href=locate(href),
                    # A single entry may describe one of several channels of a shared file, which then identifies it.
                    band=number if len(bands) > 1 else None,
                    count=len(bands),
                    alone=len(bands) <= 1,
                    names=tuple(str(band[n]) for n in ("name", "eo:common_name", "common_name") if band.get(n)),
                    spellings=tuple(str(entry["name"]) for entry in entries if entry.get("name")),
                    resolution=_resolution(key, band, extra),
                    scale=_number(where, "scale", band, extra),
                    offset=_number(where, "offset", band, extra),
                    nodata=_number(where, "nodata", band, extra),
                    unit=band.get("unit", extra.get("unit")),
                    size=extra.get("file:size"),
                    checksum=checksum,
                    crs=_projection(extra) or _projection(item.properties),
                    transform=_transform(where, extra) or _transform(f"Item {item.id}", item.properties),
                    conflict=_conflict(tables, entries),
                    wavelength=_wavelength(band),
                )
            )
    return result


def _projection(table: dict[str, Any]) -> str | None:
    """``proj:code``, or ``proj:epsg`` of older versions of the extension."""
    if table.get("proj:code"):
        return str(table["proj:code"])
    return f"EPSG:{table['proj:epsg']}" if table.get("proj:epsg") else None


def _transform(where: str, table: dict[str, Any]) -> Affine | None:
    """``proj:transform``: six numbers, or the nine of a 3 × 3 matrix."""
    stated = table.get("proj:transform")
    if stated is None:
        return None
    try:
        numbers = [float(number) for number in stated]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (6, 9) or not all(map(math.isfinite, numbers)):
        raise LulcbenchError(f"{where} has the proj:transform {stated!r}.", "It must be six or nine numbers.")
    return Affine(*numbers[:6])


def spelled(name: str) -> str:
    """A band name in one spelling.

    Examples:
        >>> spelled("B4"), spelled("B8A_20m"), spelled("Red")
        ('b04', 'b8a', 'red')
    """
    name = _SAMPLING.sub("", name.strip().lower())
    return f"b0{name[1]}" if re.fullmatch(r"b\d", name) else name


def meaning(name: str, bands: Iterable[Band]) -> Band | None:
    """The band that a name or common name stands for; None if it stands for none of ``bands``."""
    for band in bands:
        if spelled(name) in (spelled(band.name), spelled(band.asset)):
            return band
    return None


def plain_names(texts: Sequence[str]) -> list[str]:
    """Descriptions of the bands of one file, as names of bands of this package.

    FORCE calls bands 8 and 8A of Sentinel-2 BROADNIR and NIR, others call them nir and nir08.

    Examples:
        >>> plain_names(["RED", "BROADNIR", "NIR", "SWIR1"]), plain_names(["RED", "NIR"])
        (['RED', 'B08', 'B8A', 'B11'], ['RED', 'NIR'])
    """
    if "broadnir" not in map(spelled, texts):
        return list(texts)
    return [_FORCE.get(spelled(text), text) for text in texts]


def choose(item: str, available: list[Channel], band: Band, bands: Iterable[Band]) -> Channel | None:
    """A band's channel: by asset key, else band name, else common name; alone in its asset, with the finest pixels.

    Raises:
        LulcbenchError: two channels fit equally, or a key and a band name contradict each other.
    """
    ranked = sorted(
        ((_rank(channel, band), not channel.alone, channel.resolution), i)
        for i, channel in enumerate(available)
        if _rank(channel, band) is not None
    )
    if not ranked:
        return None
    channel = available[ranked[0][1]]
    rivals = [available[i] for fit, i in ranked if fit == ranked[0][0] and available[i].href != channel.href]
    if rivals:
        raise LulcbenchError(
            f"Item {item} has {band.name} in the assets {channel.key!r} and {rivals[0].key!r}.",
            "Name the asset of each band by its key, or remove one of the two.",
        )
    if channel.conflict:
        raise LulcbenchError(
            f"Item {item}, asset {channel.key!r} states two things for {band.name}: {channel.conflict}.",
            f"Make {', '.join(FORMS)} of the asset agree, or keep one of them.",
        )
    for name in (*channel.names[:1], *channel.spellings):
        other = meaning(name, bands)
        if other is not None and other != band:
            raise LulcbenchError(
                f"Item {item} has {band.name} as asset {channel.key!r}, but describes it as {name!r} ({other.name}).",
                "Correct the asset's key or its band name.",
            )
    if channel.wavelength and band.wavelength and abs(channel.wavelength / band.wavelength - 1) > SHIFT:
        raise LulcbenchError(
            f"Item {item} has {band.name} as asset {channel.key!r}, but states its wavelength as "
            f"{channel.wavelength:g} µm, not about {band.wavelength:g} µm.",
            "The item is of another sensor, whose bands have the same names, or is to be corrected.",
        )
    return channel


def quality_channel(
    available: list[Channel], name: str, others: re.Pattern[str] | None = None, band: str = ""
) -> Channel | None:
    """The quality layer with the asset key ``name``, or the band of this name in a file with several bands.

    If there are several, that with the finest pixels. Failing that, the file whose key or file name has one of the
    ``others``, in which the band of usable pixels is called ``band``.
    """
    fitting = [c for c in available if (spelled(c.key) == name if c.alone else name in map(spelled, c.names[:1]))]
    if not fitting and others:
        files = [c for c in available if others.search(c.key) or others.search(file_name(c.href))]
        fitting = [c for c in files if c.alone or band in map(spelled, c.names[:1])]
    return min(fitting, key=lambda channel: (channel.key.lower() != name, channel.resolution), default=None)


def file_name(href: str) -> str:
    """The last part of an address, without its query, which may hold a signature."""
    return PurePosixPath(href.partition("?")[0]).name


def _rank(channel: Channel, band: Band) -> int | None:
    own = {band.name.lower(), band.asset.lower()}
    if channel.alone and channel.key.lower() in own:
        return 0
    names = [spelled(name) for name in channel.names]
    if (channel.alone and spelled(channel.key) in own) or spelled(band.name) in names:
        return 1
    return 2 if band.asset in names else None


def _is_picture(key: str, asset: pystac.Asset) -> bool:
    media = (asset.media_type or "").split(";")[0].strip().lower()
    return (
        bool(_PICTURE_ROLES & set(asset.roles or ()))
        or media in _PICTURE_TYPES
        or _SAMPLING.sub("", key.lower()) in _PICTURES
    )


def _entries(tables: list[list[Any]], i: int) -> list[dict[str, Any]]:
    """What each form of STAC says of a band."""
    return [bands[i] if i < len(bands) and isinstance(bands[i], dict) else {} for bands in tables]


def _conflict(tables: list[list[Any]], entries: list[dict[str, Any]]) -> str:
    """What the forms of STAC say differently of a band."""
    lengths = {form: len(bands) for form, bands in zip(FORMS, tables, strict=True) if bands}
    if len(set(lengths.values())) > 1:
        return " and ".join(f"{n} in {form}" for form, n in lengths.items())
    for name in ("scale", "offset", "nodata", "unit"):
        keys = (name, f"raster:{name}")
        values = [entry[key] for entry in entries for key in keys if entry.get(key) is not None]
        if len(set(map(_plain, values))) > 1:
            return f"{name} {' and '.join(map(str, values))}"
    return ""


def _plain(value: Any) -> str:
    """A value in one spelling, so that 0 and "0.0" are equal, and two NaN as well."""
    try:
        return str(float(value))
    except (TypeError, ValueError):
        return str(value)


def _wavelength(band: dict[str, Any]) -> float | None:
    """In µm; some archives state nanometres."""
    value = band.get("eo:center_wavelength", band.get("center_wavelength"))
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        return None
    return float(value) if value < NANOMETRES else value / 1000


def _resolution(key: str, band: dict[str, Any], extra: dict[str, Any]) -> float:
    """Of the key's suffix first, which is right where some archives repeat the gsd of another asset."""
    suffix = _SAMPLING.search(key)
    if suffix:
        return float(suffix[1])
    for value in (
        band.get("raster:spatial_resolution"),
        band.get("spatial_resolution"),
        band.get("gsd"),
        extra.get("gsd"),
    ):
        if isinstance(value, int | float):
            return float(value)
    return math.inf


def _number(where: str, name: str, *tables: dict[str, Any]) -> float | None:
    for table in tables:
        for key in (f"raster:{name}", name):
            value = table.get(key)
            if value is None or (name != "nodata" and table is tables[-1] and key == name):
                continue
            try:
                return float(value)
            except (TypeError, ValueError) as error:
                raise LulcbenchError(f"{where} has {key} {value!r}.", "It must be a number.") from error
    return None
