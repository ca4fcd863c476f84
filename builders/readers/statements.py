"""What STAC items state about a scene as a whole: time, cloud cover, processing baseline and extent."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, time, timedelta

import pystac

from builders.readers.scene import UnusableSceneError
from builders.readers.windows import projected_extent
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Bounds

CODING = "lulcbench:coding"  # property of items written by 'ingest': "told" if their scale and offset were told
FAR = 1e8  # m, more than any place on Earth


def interval(item: pystac.Item) -> tuple[str, str]:
    """Start and end of acquisition, ISO 8601 in UTC; equal if the item has a single time, else the last second.

    Raises:
        LulcbenchError: they are missing, are not times, or the end is before the start.
    """
    properties = item.properties
    moment = item.datetime.isoformat() if item.datetime else None
    start = properties.get("start_datetime") or moment
    end = properties.get("end_datetime") or moment
    if not start or not end:
        raise LulcbenchError(f"Item {item.id} has no time.", "Give it datetime, or start_datetime and end_datetime.")
    try:
        first, last = (_utc(datetime.fromisoformat(str(text).upper())) for text in (start, end))
    except ValueError as error:
        raise LulcbenchError(
            f"Item {item.id} has the time {start!r} to {end!r}.", "Write both as 2018-07-10T10:30:00Z."
        ) from error
    if first > last:
        raise LulcbenchError(f"Item {item.id} begins at {start}, after its end at {end}.", "Correct the item.")
    if first < last and last.time() == time():
        last -= timedelta(seconds=1)  # a period that ends as the next day begins has nothing of that day
    return first.isoformat(), last.isoformat()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def cloud_cover(item: pystac.Item) -> float | None:
    """Cloud cover in %; None if it is unknown, which some archives state as a negative number.

    Raises:
        LulcbenchError: it is not a number up to 100, which sums of rounded shares may slightly exceed.
    """
    value = item.properties.get("eo:cloud_cover")
    if value is None:
        return None
    try:
        cloud = float(value)
    except (TypeError, ValueError):
        cloud = math.inf
    if cloud > 100.5:
        raise LulcbenchError(
            f"Item {item.id} has eo:cloud_cover {value!r}.", "It must be a number from 0 to 100, or absent if unknown."
        )
    return min(cloud, 100.0) if cloud >= 0 else None


def baseline(item: pystac.Item) -> tuple[str, float] | None:
    """The Sentinel-2 processing baseline as text, such as ``05.00``, and as number; None if the item does not state it.

    It is a property, or a part of the product's name (``_N0500_``).

    Raises:
        LulcbenchError: the property is not a baseline, as a number or with or without a point (``05.00``, ``N0500``).
    """
    properties = item.properties
    known = properties.get("s2:processing_baseline") or properties.get("sentinel:processing_baseline") or None
    if known is None and re.fullmatch(r"\d\d\.\d\d", str(properties.get("processing:version"))):
        known = properties["processing:version"]  # other versions are those of some software
    if known is None:
        name = re.search(
            r"_(N\d{4})_",
            f"{properties.get('s2:product_uri', '')} {properties.get('sentinel:product_id', '')} {item.id}",
        )
        known = name and name[1]
    if known is None:
        return None
    parts = re.fullmatch(r"N?(\d\d)\.?(\d\d)|(\d{1,2}(?:\.\d+)?)", str(known).strip())
    if parts is None:
        raise LulcbenchError(
            f"Item {item.id} has the processing baseline {known!r}.", "It must be a number such as 05.00."
        )
    number = float(parts[3] or f"{parts[1]}.{parts[2]}")
    return f"{number:05.2f}", number


def extent(item: pystac.Item) -> Bounds:
    """Extent in EPSG:3035 metres. A bbox with heights and one across the antimeridian are both understood.

    Raises:
        UnusableSceneError: the item has no extent.
        LulcbenchError: the numbers are not a bbox.
    """
    if item.bbox is None:
        raise UnusableSceneError("no bbox", f"Item {item.id} has no bbox.", "Correct the catalog.")
    box = item.bbox
    if len(box) == 6:
        box = [box[0], box[1], box[3], box[4]]
    try:
        west, south, east, north = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise _no_box(item) from error
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise _no_box(item)
    # West of the antimeridian and east of it, if the box crosses it.
    parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    boxes = [projected_extent("EPSG:4326", (a, south, b, north)) for a, b in parts]
    left, bottom, right, top = zip(*boxes, strict=True)
    # Lock files are JSON, which has no infinite numbers.
    return (max(min(left), -FAR), max(min(bottom), -FAR), min(max(right), FAR), min(max(top), FAR))


def _no_box(item: pystac.Item) -> LulcbenchError:
    return LulcbenchError(
        f"Item {item.id} has the bbox {item.bbox}.",
        "It must be west, south, east, north in degrees, with heights third and sixth if it has six numbers.",
    )
