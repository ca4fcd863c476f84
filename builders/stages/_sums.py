"""Exact sums of stored values, so that neither order nor number of workers changes a release's statistics.

Integers are added as integers. Every finite float32 is a whole multiple of 2⁻¹⁴⁹, so floats are added as integers of
that unit: nothing is rounded until mean and standard deviation are taken of the totals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.release import Statistics
from lulcbench.sensors import Coding

_MANTISSA_BITS, _LOWEST_EXPONENT = 23, -149  # of float32 (IEEE 754)
_EXACT = 2**20  # squares of 16-bit numbers whose sum is below 2⁵³
_HALF = 24  # bits; a square of 24-bit mantissas is added in two halves, which float64 does exactly
_LEAST_STD = 1e-6  # what is constant is divided by this, not by 0


def sums(data: npt.NDArray[Any], coding: Coding) -> dict[str, Any]:
    """Per band: sum and sum of squares of the stored values that are not nodata, and the number of valid pixels.

    Args:
        data: ``(tile, season, band, y, x)``; a pixel is nodata in all bands or in none.
        coding: of the values.

    Returns:
        ``sum``, ``squares``: whole numbers, by band, of the unit 1 for integer codings, 2⁻¹⁴⁹ for float32 (squared for
        squares); ``pixels``: a count.
    """
    bands = data.shape[2]
    total, squares = [0] * bands, [0] * bands
    add = _add_floats if coding.dtype == "float32" else _add_integers
    pixels = 0
    for image in data.reshape(-1, *data.shape[2:]):
        valid = ~coding.missing(image[0])
        pixels += int(valid.sum())
        for band, plane in enumerate(image):
            one, square = add(plane if valid.all() else plane[valid])
            total[band] += one
            squares[band] += square
    return {"sum": total, "squares": squares, "pixels": pixels}


def statistics(parts: Sequence[dict[str, Any]], coding: Coding) -> Statistics | None:
    """Mean and standard deviation in the bands' unit, of the results of ``sums``; None without a valid pixel."""
    n = sum(part["pixels"] for part in parts)
    if not n:
        return None
    unit = Fraction(2) ** _LOWEST_EXPONENT if coding.dtype == "float32" else Fraction(1)
    mean, std = [], []
    for band in range(len(parts[0]["sum"])):
        total = sum(part["sum"][band] for part in parts)
        squares = sum(part["squares"][band] for part in parts)
        mean.append(float(unit * Fraction(total, n)) * coding.scale + coding.offset)
        variance = unit**2 * Fraction(squares * n - total * total, n * n)
        std.append(max(math.sqrt(variance) * coding.scale, _LEAST_STD))
    return Statistics(mean=tuple(mean), std=tuple(std), pixels=n)


def _add_integers(values: npt.NDArray[Any]) -> tuple[int, int]:
    total = squares = 0
    for first in range(0, values.size, _EXACT):
        # float64 holds sums of whole numbers below 2⁵³ exactly, and adds them several times quicker than int64.
        part = values.ravel()[first : first + _EXACT].astype(np.float64)
        total += int(part.sum())
        squares += int(part @ part)
    return total, squares


def _add_floats(values: npt.NDArray[Any]) -> tuple[int, int]:
    """Sums of float32: mantissas are added by exponent, in float64, which holds up to 2²⁹ of them exactly."""
    bits = values.ravel().view(np.uint32)
    exponents = (bits >> _MANTISSA_BITS & 0xFF).astype(np.intp)
    mantissas = (bits & (2**_MANTISSA_BITS - 1)).astype(np.int64) | ((exponents > 0).astype(np.int64) << _MANTISSA_BITS)
    signed = np.where(bits >> 31, -mantissas, mantissas)
    square = mantissas * mantissas
    shifts = [max(e, 1) - 1 for e in range(256)]
    once, low, high = (
        np.bincount(exponents, weights, 256) for weights in (signed, square & (2**_HALF - 1), square >> _HALF)
    )
    total = sum(int(part) << shift for part, shift in zip(once, shifts, strict=True))
    squares = sum(
        ((int(top) << _HALF) + int(rest)) << 2 * shift for top, rest, shift in zip(high, low, shifts, strict=True)
    )
    return total, squares
