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

# ESA: DN = (reflectance + 0.1) · 10,000 from baseline 04.00 on; also in old scenes that were processed again.
OFFSET_BASELINE = 4.0
OFFSET = -0.1
SCALE = 1e-4
# Scene classification: 0 nodata, 1 defective, 3 cloud shadow, 8 and 9 cloud, 10 cirrus. Snow (11) is a surface.
UNCLEAR = (0, 1, 3, 8, 9, 10)

_CLEAR = np.ones(256, bool)
_CLEAR[list(UNCLEAR)] = False


def is_clear(scl: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where the scene classification saw the surface."""
    return _CLEAR[scl.astype(np.uint8)]


def is_seen(scl: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True inside the swath."""
    seen: npt.NDArray[np.bool_] = scl != 0
    return seen


def scaling(item: pystac.Item, channel: Channel) -> Scaling:
    """The processing baseline decides about the offset, not the date and not the catalog's word.

    Items without a baseline are no L2A products (a true-colour picture, say); they must state scale and offset.
    ``earthsearch:boa_offset_applied`` says that the archive has taken the offset out of the pixels; it is wrong on
    some items (Element84/earth-search#66, #71). Where it contradicts the baseline the pixels are asked.
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
        carries = float(str(baseline)) >= OFFSET_BASELINE
    except ValueError as error:
        raise LulcbenchError(
            f"Item {item.id} has s2:processing_baseline {baseline!r}.", "It must be a number such as 05.00."
        ) from error
    if not carries:
        return Scaling(SCALE, 0, 0)
    if item.properties.get("earthsearch:boa_offset_applied") is True:
        applied = _offset_is_gone(channel)
        verdict = "the pixels agree, so none is subtracted" if applied else "the pixels still carry it: flag ignored"
        note = f"baseline {baseline} has the offset, boa_offset_applied says it was removed; {verdict}"
        return Scaling(SCALE, 0 if applied else OFFSET, 0, note=note)
    return Scaling(SCALE, OFFSET, 0)


def _offset_is_gone(channel: Channel) -> bool:
    """Whether a share of the valid DN lies below 1,000, which would be negative reflectance with the offset in."""
    with open_raster(channel.href) as dataset:
        try:
            shape = (min(dataset.height, 512), min(dataset.width, 512))
            values = dataset.read(channel.band or 1, out_shape=shape)
        except Exception as error:
            raise broken(channel.href, error) from error
    valid = values[values > 0]
    return bool(valid.size) and float((valid < 1000).mean()) > 0.02


SOURCE = RasterSource(SENTINEL2, scaling, is_clear, is_seen, quality_fill=0)
