"""Sentinel-1: terrain-corrected backscatter, which archives store as linear power or in decibels."""

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
# Gamma nought as linear power, according to the description of the collection; its items do not state a unit.
POWER_COLLECTIONS = {"sentinel-1-rtc"}


def scaling(item: pystac.Item, channel: Channel) -> Scaling:
    """Scaling from power or decibels, according to the unit stated by the item, or else to its collection.

    Raises:
        LulcbenchError: the item states no known unit and the collection is unknown, as for the uncalibrated digital
            numbers of ground-range-detected products.
    """
    unit = (channel.unit or "").strip().lower()
    power = unit in POWER or (not unit and item.collection_id in POWER_COLLECTIONS)
    if not power and unit not in DECIBELS:
        stated = f"the unit {channel.unit!r}" if unit else "no unit"
        raise LulcbenchError(
            f"Sentinel-1 item {item.id} of collection {item.collection_id!r} states {stated} for {channel.href}.",
            "State 'unit' of the band, dB or 1 (linear power), or use a terrain-corrected collection such as "
            "sentinel-1-rtc; digital numbers of GRD products must be calibrated first.",
        )
    scale = 1 if channel.scale is None else channel.scale
    return Scaling(scale, channel.offset or 0, channel.nodata, power)


def _always(quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.ones(quality.shape, bool)


SOURCE = RasterSource(SENTINEL1, scaling, _always, _always, quality_fill=0)
