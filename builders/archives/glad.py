"""GLAD Landsat ARD: 16-day composites of Landsat 5 to 9 in tiles of one degree, EPSG:4326, eight bands per file.

Potapov et al. 2020 (https://doi.org/10.3390/rs12030426) describe intervals and quality codes. There is no catalog: the
recipe gives the address of the files, such as ``https://glad.umd.edu/dataset/glad_ard2/{lat}/{tile}/{interval}.tif``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac
from rasterio.warp import transform_bounds

from builders.readers.listing import addresses, check_fields, composite, existing
from builders.readers.radiometry import reflectance
from builders.readers.source import RasterSource
from lulcbench.grid import CRS, Bounds
from lulcbench.seasons import Days
from lulcbench.sensors import LANDSAT, Band

SCALE = 1 / 40_000  # reflectance · 40,000, 0 is nodata
# In file order; the seventh is brightness temperature, the last the quality code, named as the sensor's quality layer.
BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22", "thermal", "qa_pixel")
# 1 land, 2 water, 5 topographic shadow, 6 snow, 15 as 1. Not clear: 3 cloud, 4 shadow, 7 haze, 8 to 10 beside cloud and
# shadow, 11 to 14 beside them by the time series, 16 as 11, 17 as 14.
CLEAR = (1, 2, 5, 6, 15)
INTERVALS = 23  # per year, of 16 days each; the last ends with the year
FIRST = (1997, 392)  # year and number of its first interval

_CLEAR = np.zeros(256, bool)
_CLEAR[list(CLEAR)] = True


def is_clear(quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where the surface was observed according to the quality code."""
    clear: npt.NDArray[np.bool_] = _CLEAR[np.minimum(quality, 255)]
    return clear


def is_seen(quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where there is an observation."""
    seen: npt.NDArray[np.bool_] = quality != 0
    return seen


def interval_days(number: int) -> Days:
    """First and last day of an interval.

    Examples:
        >>> [day.isoformat() for day in interval_days(1001)]
        ['2023-06-26', '2023-07-11']
    """
    years, k = divmod(number - FIRST[1], INTERVALS)
    start = date(FIRST[0] + years, 1, 1) + timedelta(days=16 * k)
    return start, min(start + timedelta(days=15), date(start.year, 12, 31))


def intervals(span: Days) -> range:
    """Numbers of the intervals that overlap a span of days."""

    def number(day: date) -> int:
        return FIRST[1] + INTERVALS * (day.year - FIRST[0]) + (day.timetuple().tm_yday - 1) // 16

    return range(number(span[0]), number(span[1]) + 1)


def tile_names(area: Bounds) -> Iterator[tuple[str, str]]:
    """Latitude and name of the tiles that overlap an area (EPSG:3035 metres).

    A tile has the name of the whole degrees of its centre: that from 9° W to 8° W, whose centre is 8.5° W, is 008W.

    Examples:
        >>> list(tile_names((4_320_000, 3_120_000, 4_334_400, 3_129_600)))
        [('51N', '009E_51N'), ('51N', '010E_51N')]
        >>> list(tile_names((2_750_000, 2_230_000, 2_755_000, 2_235_000)))
        [('41N', '008W_41N')]
    """
    west, south, east, north = transform_bounds(CRS, "EPSG:4326", *area)
    for lat in range(math.floor(south), math.floor(north) + 1):
        for lon in range(math.floor(west), math.floor(east) + 1):
            row = f"{_whole(lat):02d}{'N' if lat >= 0 else 'S'}"
            yield row, f"{_whole(lon):03d}{'E' if lon >= 0 else 'W'}_{row}"


def _whole(corner: int) -> int:
    """Whole degrees of the centre between ``corner`` and the next degree, without sign."""
    return corner if corner >= 0 else -corner - 1


def items(
    template: str, collection: str, bands: Sequence[Band], spans: Sequence[Days], areas: Sequence[Bounds]
) -> list[pystac.Item]:
    """The tiles and intervals that exist, as items.

    Args:
        template: address of the files with the fields ``lat``, ``tile`` and ``interval``.
        collection: id that the items get.
        bands: those wanted; files always have all.
        spans: days of the composites.
        areas: in EPSG:3035 metres.
    """
    check_fields(template, ("tile", "interval"))
    wanted = {
        (tile, number): addresses(template, {"lat": lat, "tile": tile, "interval": number})
        for area in areas
        for lat, tile in tile_names(area)
        for span in spans
        for number in intervals(span)
    }
    there = existing(sorted(wanted.values()))
    return [
        composite(f"{tile}_{number}", collection, interval_days(number), {"data": (href, BANDS)})
        for (tile, number), href in sorted(wanted.items())
        if href in there
    ]


SOURCE = RasterSource(LANDSAT, reflectance(SCALE, 0, 0), is_clear, is_seen, quality_fill=0)
