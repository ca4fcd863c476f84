"""Seasonal composites: the median of the clear observations of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.sensors import Coding

Stored = npt.NDArray[Any]

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


def _sortable(stack: Stored, coding: Coding) -> tuple[Stored, Any]:
    """Values in which nodata comes last, and what is to be added to turn them back (in their own, wrapping, type).

    Nodata is the lowest or the highest value of an integer type: subtracting the next one, modulo the type's range,
    puts it at the top and keeps the order of all others. NaN comes last by itself.
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
