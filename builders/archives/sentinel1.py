"""Sentinel-1: terrain-corrected backscatter, which archives store as linear power or in decibels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.items import Channel
from builders.readers.radiometry import ZEROS, Scaling, Scalings, sample, stated
from builders.readers.source import RasterSource
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL1, Band

DECIBELS = {"db", "decibel", "decibels"}
POWER = {"1", "linear", "power", "linear power"}
# Gamma nought as linear power, according to the description of the collection; its items do not state a unit.
POWER_COLLECTIONS = {"sentinel-1-rtc"}
LOWEST = -60.0  # dB; the median of any land or sea is higher
SWAPPED = 2.0  # dB by which VH may be above VV, in the median of a scene


def scalings(item: pystac.Item, chosen: Mapping[Band, Channel]) -> Scalings:
    """Scalings from power or decibels, according to the unit stated by the item, or else to its collection.

    Raises:
        LulcbenchError: the item states no known unit and the collection is unknown, as for the uncalibrated digital
            numbers of ground-range-detected products; or the pixels contradict the unit.
    """
    found = {band: _scaling(item, channel) for band, channel in chosen.items()}
    levels = {band.name: level for band, (_, level, _) in found.items() if level is not None}
    if levels.get("VH", -math.inf) > levels.get("VV", math.inf) + SWAPPED:
        raise LulcbenchError(
            f"Item {item.id}: half of VH is above {levels['VH']:.1f} dB, and half of VV above {levels['VV']:.1f} dB, "
            "but the ground scatters less in VH.",
            "Correct the addresses or the names of the two bands, which seem to be swapped.",
        )
    notes = tuple(f"{band.name}: {note}" for band, (_, _, note) in found.items() if note)
    return Scalings({band: scaling for band, (scaling, _, _) in found.items()}, notes)


def _scaling(item: pystac.Item, channel: Channel) -> tuple[Scaling, float | None, str]:
    """Scaling of a band, the median of its sample in dB, and a note; no median without a valid number."""
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
    nodata = () if channel.nodata is None else (channel.nodata,)
    numbers, note = sample(channel), ""
    zeros = float((numbers == 0).mean()) if numbers.size else 0.0
    if not power and not offset and zeros > ZEROS and 0 not in nodata:
        # Decibels of land are never exactly 0; programs mark missing pixels with 0 and do not state so.
        nodata, numbers = (*nodata, 0.0), numbers[numbers != 0]
        note = f"0 is taken for missing, as {zeros:.1%} of the numbers are exactly 0"
    scaling = Scaling(scale or 1, offset or 0, nodata, power)
    values = numbers * scaling.scale + scaling.offset
    if not values.size:
        return scaling, None, note
    median = float(np.median(values))
    # Land scatters -25 to 0 dB: power is never negative, decibels nearly always are.
    contradicted = median < 0 if power else np.quantile(values, 0.05) > 0 or median < LOWEST
    if contradicted:
        raise LulcbenchError(
            f"Item {item.id} states {'linear power' if power else 'decibels'} for {channel.href}, whose median is "
            f"{median:.3g}.",
            "Correct 'unit' of the band, dB or 1 (linear power), or its scale.",
        )
    if not power:
        return scaling, median, note
    return scaling, 10 * math.log10(median) if median > 0 else None, note


def _always(quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.ones(quality.shape, bool)


SOURCE = RasterSource(SENTINEL1, scalings, _always, _always, quality_fill=0, cloudless=lambda scene: True)
