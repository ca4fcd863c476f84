"""Sentinel-2 Level-2A: scene classification, and the radiometric offset of processing baseline 04.00."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.items import Channel
from builders.readers.raster import RasterSource, Scaling, broken, open_raster
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL2

# ESA: DN = (reflectance + 0.1) · 10,000 from baseline 04.00 on; also in reprocessed older scenes.
OFFSET_BASELINE = 4.0
OFFSET = -0.1
SCALE = 1e-4
# Scene classification: 0 nodata, 1 defective, 3 cloud shadow, 8 and 9 cloud, 10 cirrus. Snow (11) counts as surface.
UNCLEAR = (0, 1, 3, 8, 9, 10)

_CLEAR = np.ones(256, bool)
_CLEAR[list(UNCLEAR)] = False


def is_clear(scl: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where the surface was observed according to the scene classification."""
    return _CLEAR[scl.astype(np.uint8)]


def is_seen(scl: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True inside the swath."""
    seen: npt.NDArray[np.bool_] = scl != 0
    return seen


def scaling(item: pystac.Item, channel: Channel) -> Scaling:
    """Scaling with the offset of the processing baseline, regardless of the date and the offset in the catalog.

    Items without a baseline are not L2A products (but true-colour images, for example); they must state scale and
    offset. ``earthsearch:boa_offset_applied`` states that the archive has removed the offset from the pixels; it is
    wrong for some items (Element84/earth-search#66, #71). If it contradicts the baseline, the pixels are examined.

    Raises:
        LulcbenchError: the item has neither a baseline nor a scale, or its baseline is not a number.
    """
    baseline = item.properties.get("s2:processing_baseline")
    if baseline is None:
        if channel.scale is None:
            raise LulcbenchError(
                f"Sentinel-2 item {item.id} has neither s2:processing_baseline nor a scale for {channel.href}.",
                "Add one of them: without it the pixel values have no meaning.",
            )
        return Scaling(channel.scale, channel.offset or 0, channel.nodata)
    try:
        has_offset = float(str(baseline)) >= OFFSET_BASELINE
    except ValueError as error:
        raise LulcbenchError(
            f"Item {item.id} has s2:processing_baseline {baseline!r}.", "It must be a number such as 05.00."
        ) from error
    if not has_offset:
        return Scaling(SCALE, 0, 0)
    if item.properties.get("earthsearch:boa_offset_applied") is True:
        removed = _offset_is_removed(channel)
        verdict = "the pixels agree, so none is subtracted" if removed else "the pixels still have it: flag ignored"
        note = f"baseline {baseline} has the offset, boa_offset_applied states that it was removed; {verdict}"
        return Scaling(SCALE, 0 if removed else OFFSET, 0, note=note)
    return Scaling(SCALE, OFFSET, 0)


def _offset_is_removed(channel: Channel) -> bool:
    """Whether over 2 % of valid DN are below 1,000, which would be negative reflectance if the offset were present."""
    with open_raster(channel.href) as dataset:
        try:
            shape = (min(dataset.height, 512), min(dataset.width, 512))
            values = dataset.read(channel.band or 1, out_shape=shape)
        except Exception as error:
            raise broken(channel.href, error) from error
    valid = values[values > 0]
    return bool(valid.size) and float((valid < 1000).mean()) > 0.02


SOURCE = RasterSource(SENTINEL2, scaling, is_clear, is_seen, quality_fill=0)
