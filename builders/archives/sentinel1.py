"""Sentinel-1: terrain-corrected backscatter, kept by archives as linear power or as decibels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.items import Channel
from builders.readers.raster import RasterSource, Scaling
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL1

DECIBELS = {"db", "decibel", "decibels"}
POWER = {"1", "linear", "power", "linear power"}
# Gamma nought as linear power, by the collection's own description; its items state no unit.
POWER_COLLECTIONS = {"sentinel-1-rtc"}


def scaling(item: pystac.Item, channel: Channel) -> Scaling:
    """The unit that the item states decides between power and decibels, otherwise what is known of its collection.

    Raises:
        LulcbenchError: neither tells; uncalibrated digital numbers of ground-range-detected products have no unit.
    """
    unit = (channel.unit or "").strip().lower()
    power = unit in POWER or (not unit and item.collection_id in POWER_COLLECTIONS)
    if not power and unit not in DECIBELS:
        stated = f"the unit {channel.unit!r}" if unit else "no unit"
        raise LulcbenchError(
            f"Sentinel-1 item {item.id} of collection {item.collection_id!r} states {stated} for {channel.href}.",
            "State 'unit' of the band, dB or 1 (linear power), or take a terrain-corrected collection such as "
            "sentinel-1-rtc; digital numbers of GRD products must be calibrated first.",
        )
    scale = 1 if channel.scale is None else channel.scale
    return Scaling(scale, channel.offset or 0, channel.nodata, power)


def _always(quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.ones(quality.shape, bool)


SOURCE = RasterSource(SENTINEL1, scaling, _always, _always, quality_fill=0)
