"""Seasonal composites: the median of the clear observations of each pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt16 = npt.NDArray[np.uint16]

_NETWORK = 8  # up to here exchanging whole arrays beats sorting each pixel's few values


def median(stack: UInt16) -> UInt16:
    """Median over the first axis of the values that are not 0.

    Args:
        stack: ``(date, band, y, x)`` stored values; a pixel of a date is 0 in all bands or in none.

    Returns:
        ``(band, y, x)``; 0 where no date has a value. Of an even number, the mean of the middle two, rounded up.
    """
    if len(stack) == 1:
        return stack[0]
    count = (stack[:, 0] > 0).sum(axis=0)
    ordered = _ascending(stack - np.uint16(1))  # 0 wraps around to the top, so that missing values sort last
    out = np.zeros(stack.shape[1:], np.uint16)
    for n in np.unique(count[count > 0]):
        low, high = ordered[(n - 1) // 2], ordered[n // 2]
        # Without overflow: the mean of two, rounded up, is their common part plus half of what differs.
        middle = low if n % 2 else low + (high - low + np.uint16(1)) // np.uint16(2)
        np.copyto(out, middle + np.uint16(1), where=count == n)
    return out


def _ascending(values: UInt16) -> UInt16:
    n = len(values)
    if n > _NETWORK:
        return np.sort(values, axis=0)
    for turn in range(n):  # odd-even transposition: n rounds sort n values
        for i in range(turn % 2, n - 1, 2):
            low = np.minimum(values[i], values[i + 1])
            np.maximum(values[i], values[i + 1], out=values[i + 1])
            values[i] = low
    return values
