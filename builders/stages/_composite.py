"""Seasonal composites: the median of the clear observations of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.sensors import Coding

Stored = npt.NDArray[Any]

_NETWORK = 8  # up to this number of dates, a sorting network on whole arrays is faster than sorting each pixel


def median(stack: Stored, coding: Coding) -> Stored:
    """Median over the first axis of the values that are not nodata.

    Args:
        stack: ``(date, band, y, x)`` stored values; a pixel of a date is nodata in all bands or in none.
        coding: coding of the values.

    Returns:
        ``(band, y, x)`` of the same type; nodata where no date has a value. The median of an even number of values is
        the mean of the middle two, which is rounded up for integer types.
    """
    if len(stack) == 1:
        return stack[0]
    count = (~coding.missing(stack[:, 0])).sum(axis=0)
    ordered, low = _sortable(stack, coding)
    ordered = _ascending(ordered)
    out = np.full(stack.shape[1:], coding.fill_value, coding.dtype)
    for n in np.unique(count[count > 0]):
        below, above = ordered[(n - 1) // 2], ordered[n // 2]
        # Avoids overflow: the mean of two values, rounded up, is the lower plus half of the difference, rounded up.
        half = (above - below) / 2 if coding.nodata == "NaN" else (above - below + 1) // 2
        middle = below if n % 2 else below + half
        np.copyto(out, (middle + low).view(coding.dtype), where=count == n)
    return out


def _sortable(stack: Stored, coding: Coding) -> tuple[Stored, Any]:
    """Values that sort with nodata last, and the term that restores the original values (with integer wrap-around).

    Nodata is the lowest or the highest value of an integer type. Subtracting the next one, modulo the range of the
    type, makes nodata the highest value and keeps the order of all others. NaN is sorted last anyway.
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
