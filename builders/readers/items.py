"""Metadata of the files of STAC items: channels, times, extents. STAC 1.0 and 1.1 are both supported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pystac
from rasterio.warp import transform_bounds

from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an item.

    Attributes:
        href: absolute path or URL of its file.
        band: band number in the file, from 1; None if the item does not give it.
        scale: scale stated by the item, or None; ``offset``, ``nodata`` and ``unit`` likewise.
        size: size of the file in bytes stated by the item, or None.
        checksum: checksum of the file stated by the item (a multihash), or None.
    """

    href: str
    band: int | None
    scale: float | None
    offset: float | None
    nodata: float | None
    unit: str | None
    size: int | None
    checksum: str | None


def channels(item: pystac.Item) -> dict[str, Channel]:
    """All channels of an item by asset key or, for files with several bands, by band name (lower case)."""
    named: dict[str, Channel] = {}
    for key, asset in item.assets.items():
        href = asset.get_absolute_href()
        if href is None:
            raise LulcbenchError(f"Item {item.id}: asset {key!r} has no usable href.", "Correct the catalog.")
        extra = asset.extra_fields
        checksum = str(extra["file:checksum"]) if extra.get("file:checksum") else None
        bands = _bands(extra)
        for number, band in enumerate(bands or [{}], start=1):
            channel = Channel(
                href=href.removeprefix("file://"),
                # A single entry may describe one of several channels of a shared file, which then identifies it.
                band=number if len(bands) > 1 else None,
                scale=band.get("raster:scale", band.get("scale", extra.get("raster:scale"))),
                offset=band.get("raster:offset", band.get("offset", extra.get("raster:offset"))),
                nodata=_number(band.get("nodata", extra.get("nodata"))),
                unit=band.get("unit", extra.get("unit")),
                size=extra.get("file:size"),
                checksum=checksum,
            )
            names = [key] if len(bands) <= 1 else [band.get(n) for n in ("eo:common_name", "common_name", "name")]
            for name in names:
                if name:
                    named.setdefault(str(name).lower(), channel)
    return named


def interval(item: pystac.Item) -> tuple[str, str]:
    """Start and end of acquisition, ISO 8601; equal if the item has a single time."""
    properties = item.properties
    moment = item.datetime.isoformat() if item.datetime else None
    start = properties.get("start_datetime") or moment
    end = properties.get("end_datetime") or moment
    if not start or not end:
        raise LulcbenchError(f"Item {item.id} has no time.", "Give it datetime, or start_datetime and end_datetime.")
    return str(start), str(end)


def extent(item: pystac.Item) -> Bounds:
    """Extent in EPSG:3035 metres."""
    if item.bbox is None:
        raise LulcbenchError(f"Item {item.id} has no bbox.", "Correct the catalog.")
    left, bottom, right, top = transform_bounds("EPSG:4326", CRS, *item.bbox)
    return (left, bottom, right, top)


def _bands(extra: dict[str, Any]) -> list[dict[str, Any]]:
    if "bands" in extra:
        return list(extra["bands"])
    eo, raster = list(extra.get("eo:bands", [])), list(extra.get("raster:bands", []))
    n = max(len(eo), len(raster))
    return [(eo[i] if i < len(eo) else {}) | (raster[i] if i < len(raster) else {}) for i in range(n)]


def _number(value: Any) -> float | None:
    return None if value is None or value == "nan" else float(value)
