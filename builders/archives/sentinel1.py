"""Sentinel-1: terrain-corrected backscatter, which archives store as linear power or in decibels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.items import Channel
from builders.readers.radiometry import Scaling, Scalings, sample, stated
from builders.readers.source import RasterSource
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL1, Band

DECIBELS = {"db", "decibel", "decibels"}
POWER = {"1", "linear", "power", "linear power"}
# Gamma nought as linear power, according to the description of the collection; its items do not state a unit.
POWER_COLLECTIONS = {"sentinel-1-rtc"}


def scalings(item: pystac.Item, chosen: Mapping[Band, Channel]) -> Scalings:
    """Scalings from power or decibels, according to the unit stated by the item, or else to its collection.

    Raises:
        LulcbenchError: the item states no known unit and the collection is unknown, as for the uncalibrated digital
            numbers of ground-range-detected products; or the pixels contradict the unit.
    """
    return Scalings({band: _scaling(item, channel) for band, channel in chosen.items()})


def _scaling(item: pystac.Item, channel: Channel) -> Scaling:
    unit = (channel.unit or "").strip().lower()
    power = unit in POWER or (not unit and item.collection_id in POWER_COLLECTIONS)
    if not power and unit not in DECIBELS:
        state = f"the unit {channel.unit!r}" if unit else "no unit"
        raise LulcbenchError(
            f"Sentinel-1 item {item.id} of collection {item.collection_id!r} states {state} for {channel.href}.",
            "State 'unit' of the band, dB or 1 (linear power), or use a terrain-corrected collection such as "
            "sentinel-1-rtc; digital numbers of GRD products must be calibrated first.",
        )
    scale, offset = stated(item, channel)
    scaling = Scaling(scale or 1, offset or 0, () if channel.nodata is None else (channel.nodata,), power)
    values = sample(channel) * scaling.scale + scaling.offset
    # Land scatters -25 to 0 dB: power is never negative, decibels nearly always are.
    contradicted = values.size and (np.median(values) < 0 if power else np.quantile(values, 0.05) > 0)
    if contradicted:
        raise LulcbenchError(
            f"Item {item.id} states {'linear power' if power else 'decibels'} for {channel.href}, whose median is "
            f"{np.median(values):.3g}.",
            "Correct 'unit' of the band: dB or 1 (linear power).",
        )
    return scaling


def _always(quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.ones(quality.shape, bool)


SOURCE = RasterSource(SENTINEL1, scalings, _always, _always, quality_fill=0, needs_quality=False)
