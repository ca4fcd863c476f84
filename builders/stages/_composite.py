"""Seasonal composites: the median or the medoid of the clear observations of each pixel, and how many these are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.sensors import CLEAR_COUNTS, Coding

Stored = npt.NDArray[Any]

# Numbers of clear observations above this are stored as this.
MOST = CLEAR_COUNTS.limits[1]
_STRIP = 2**16  # pixels whose distances are computed at once, so that they stay in the processor's cache
_NETWORK = 8  # up to here exchanging whole arrays beats sorting each pixel's few values


def median(stack: Stored, coding: Coding) -> Stored:
    """Median over the first axis of the values that are not nodata.

    Args:
        stack: ``(date, band, y, x)`` stored values; a pixel of a date is nodata in all bands or in none.
        coding: of the values.

    Returns:
        ``(band, y, x)`` of the same type; nodata where no date has a value. Of an even number, the mean of the middle
        two, which in integer types is rounded up.
    """
    if len(stack) == 1:
        only: Stored = stack[0]
        return only
    count = (~coding.missing(stack[:, 0])).sum(axis=0)
    ordered, low = _sortable(stack, coding)
    ordered = _ascending(ordered)
    out = np.full(stack.shape[1:], coding.fill_value, coding.dtype)
    for n in np.unique(count[count > 0]):
        below, above = ordered[(n - 1) // 2], ordered[n // 2]
        # Without overflow: the mean of two, rounded up, is the lower plus half of the difference.
        half = (above - below) / 2 if coding.nodata == "NaN" else (above - below + 1) // 2
        middle = below if n % 2 else below + half
        np.copyto(out, (middle + low).view(coding.dtype), where=count == n)
    return out


def medoid(stack: Stored, coding: Coding) -> Stored:
    """The observation of each pixel with the least sum of Euclidean distances to all others, in all bands together.

    The definition is that of Flood (2013), "Seasonal composite Landsat TM/ETM+ images using the medoid (a
    multi-dimensional median)", Remote Sensing 5(12), 6481-6500, doi.org/10.3390/rs5126481. Unlike the median of each
    band, it is a spectrum that was observed.

    Args:
        stack: ``(date, band, y, x)`` stored values; a pixel of a date is nodata in all bands or in none.
        coding: of the values.

    Returns:
        ``(band, y, x)`` of the same type; nodata where no date has a value. Of several dates with the same sum, such as
        two alone, the first.
    """
    if len(stack) == 1:
        only: Stored = stack[0]
        return only
    flat = stack.reshape(*stack.shape[:2], -1)
    out = np.full(flat.shape[1:], coding.fill_value, coding.dtype)
    for start in range(0, flat.shape[2], _STRIP):
        part = flat[..., start : start + _STRIP]
        known = ~coding.missing(part[:, 0])
        values = np.where(known[:, None], part, 0).astype(np.float64)
        sums = np.zeros(known.shape)
        for i in range(len(part)):
            for j in range(i):
                # Of 16-bit values squares and their sums are exact, and so is 0 of a missing date: a pixel's result
                # depends on its own dates alone.
                squares = np.zeros(known.shape[1])
                for band in range(part.shape[1]):
                    squares += (values[i, band] - values[j, band]) ** 2
                distance = np.where(known[i] & known[j], np.sqrt(squares), 0.0)
                sums[i] += distance
                sums[j] += distance
        best = np.where(known, sums, np.inf).argmin(axis=0)
        chosen = np.take_along_axis(part, best[None, None], axis=0)[0]
        some = known.any(axis=0)
        out[:, start : start + _STRIP][:, some] = chosen[:, some]
    return out.reshape(stack.shape[1:])


COMPOSITES = {"median": median, "medoid": medoid}


def _sortable(stack: Stored, coding: Coding) -> tuple[Stored, Any]:
    """Values in which nodata is sorted last, and what is to be added to turn them back (in their own, wrapping, type).

    Nodata is the lowest or the highest value of an integer type: subtracting the next one, modulo the type's range,
    puts it at the top and keeps the order of all others. NaN is sorted last anyway.
    """
    if coding.nodata == "NaN":
        return stack, np.float32(0)
    unsigned = stack.view(f"u{stack.itemsize}")
    low = unsigned.dtype.type((int(coding.nodata) + 1) % 2 ** (8 * stack.itemsize))
    return unsigned - low, low


def _ascending(values: Stored) -> Stored:
    n = len(values)
    if n > _NETWORK or values.dtype.kind == "f":  # NumPy sorts NaN to the end, but its minimum is NaN
        return np.sort(values, axis=0)
    for turn in range(n):  # odd-even transposition: n rounds sort n values
        for i in range(turn % 2, n - 1, 2):
            low = np.minimum(values[i], values[i + 1])
            np.maximum(values[i], values[i + 1], out=values[i + 1])
            values[i] = low
    return values
