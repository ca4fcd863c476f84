"""Confidence intervals and paired tests by leaving out or swapping spatial blocks.

Pixels are not independent: errors of labels and model are spatially correlated. Therefore blocks (48 km by default) are
left out or swapped (Roberts et al. 2017, Ecography 40, 913–929).

Intervals are jackknife t intervals over blocks: the value ± the t quantile of ``n − 1`` degrees of freedom × the
jackknife standard error, from the metric without each block in turn (Efron & Tibshirani 1993, An Introduction to the
Bootstrap, ch. 11). They depend on the counts only, not on random numbers. With two blocks, the variance between blocks
is poorly known, and the interval is wide. Intervals refer to the mean of the metric over splits with the same number of
blocks; means over classes are lower with few blocks than with many.

The jackknife standard error is biased upwards (Efron & Stein 1981, Annals of Statistics 9, 586–596), which suits means
over patchy classes: a class that occurs in few blocks is often absent from a bootstrap resample, so that the bootstrap
standard error is too small, and bias-corrected accelerated (BCa) intervals are worse. ``benchmarks/intervals.py``
measures the coverage of all three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation.metrics import METRICS

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], dict[str, Floats]]

FEW_BLOCKS = 10
ENUMERATED = 10  # blocks up to which the paired test makes all swaps, which are no more than the drawn ones
DRAWS = 1000  # swaps of the paired test over more blocks
_SEED = 20180601  # an arbitrary constant, so that p-values depend only on the counts
_STEP = 100


def intervals(blocks: npt.NDArray[Any], statistic: Statistic) -> dict[str, tuple[float, float]]:
    """95 % intervals of all values of ``statistic``; they contain the value and are within the range of the metric.

    Args:
        blocks: counts of each block, ``(n, …)``; the counts of several blocks are their sum. Blocks without counts are
            left out.
        statistic: maps counts ``(…)`` or ``(k, …)`` to named values ``()`` or ``(k,)``, NaN if undefined.

    Returns:
        name → (low, high); empty for fewer than two blocks. Metrics that are undefined without a particular block are
        left out.

    Examples:
        >>> from lulcbench.evaluation.families import Family
        >>> from lulcbench.evaluation.metrics import evaluate
        >>> blocks = np.array([  # correct, label and predicted pixels of two classes in three blocks
        ...     [[40, 30], [50, 50], [60, 40]],
        ...     [[45, 20], [50, 50], [75, 25]],
        ...     [[30, 40], [40, 60], [50, 50]],
        ... ])
        >>> low, high = intervals(blocks, lambda counts: evaluate(Family.CLASSES, counts))["overall_accuracy"]
        >>> 0 <= low < (40 + 30 + 45 + 20 + 30 + 40) / 300 < high <= 1
        True
    """
    counted = blocks[blocks.any(axis=tuple(range(1, blocks.ndim)))].astype(np.float64)
    if len(counted) < 2:
        return {}
    total = counted.sum(axis=0)
    values, without = statistic(total), statistic(total - counted)
    result = {name: _interval(float(value), without[name], *_range(name)) for name, value in values.items()}
    return {name: (low, high) for name, (low, high) in result.items() if not math.isnan(low)}


class Paired(NamedTuple):
    """Difference of two submissions in one value, with its 95 % interval and p-value."""

    difference: float
    low: float
    high: float
    p: float


def paired(a: npt.NDArray[Any], b: npt.NDArray[Any], statistic: Statistic) -> dict[str, Paired]:
    """Difference a − b of two submissions on the same blocks.

    The interval leaves out the same blocks of both. The p-value is that of a two-sided permutation test: if both
    are equally good, their results of a block are exchangeable. All swaps are made for up to ``ENUMERATED`` blocks,
    and ``DRAWS`` random ones for more.

    Args:
        a: counts of each block of the first submission, ``(n, …)``.
        b: counts of the same blocks of the second submission, ``(n, …)``. Blocks without counts are left out.
        statistic: as in ``intervals``.

    Returns:
        name → difference; low and high are NaN for metrics that ``intervals`` would leave out.

    Raises:
        ValueError: there are fewer than two blocks with counts.
    """
    counted = counted_blocks(a, b)
    x, y = a[counted].astype(np.float64), b[counted].astype(np.float64)
    if len(x) < 2:
        raise ValueError("a paired test needs at least two blocks with counts")
    observed = _difference(statistic, x.sum(axis=0), y.sum(axis=0))
    without = _difference(statistic, x.sum(axis=0) - x, y.sum(axis=0) - y)
    swapped = _collect(_difference(statistic, *pair) for pair in _swap(x, y))
    drawn = len(x) > ENUMERATED  # of random swaps, the observed result is one more
    result = {}
    for name, value in observed.items():
        difference, (lowest, highest) = float(value), _range(name)
        low, high = _interval(difference, without[name], lowest - highest, highest - lowest)
        # With a tolerance: swapping all blocks gives −difference except for rounding. Undefined values count as large.
        smaller = np.abs(swapped[name]) < abs(difference) - 1e-12
        result[name] = Paired(difference, low, high, (drawn + int((~smaller).sum())) / (drawn + len(smaller)))
    return result


def counted_blocks(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which blocks a paired test uses, ``(n,)``: those in which one of the two has counts."""
    counted: npt.NDArray[np.bool_] = np.stack([a, b], axis=1).reshape(len(a), -1).any(axis=1)
    return counted


def smallest_p(blocks: int) -> float:
    """The smallest p-value of ``paired`` for a number of blocks: swapping all or none gives the same difference.

    Examples:
        >>> smallest_p(2), smallest_p(5)
        (0.5, 0.0625)
    """
    return 2.0 ** (1 - blocks) if blocks <= ENUMERATED else 1 / (DRAWS + 1)


def caution(blocks: int) -> str:
    """Warning about intervals over few blocks; empty if there are enough.

    Examples:
        >>> caution(4)
        'Intervals over so few spatial blocks (4) are rough.'
    """
    if blocks < 2:
        return "There is no interval over a single spatial block."
    return f"Intervals over so few spatial blocks ({blocks}) are rough." if blocks < FEW_BLOCKS else ""


@cache
def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution.

    By bisection of the distribution function (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2  # bounds of the angle whose tangent is t / √degrees
    while (angle := (low + high) / 2) not in (low, high):
        term, total = (math.cos(angle) if degrees % 2 else 1.0), 0.0
        for k in range(2 + degrees % 2, degrees + 1, 2):
            total += term
            term *= math.cos(angle) ** 2 * (k - 1) / k
        inside = math.sin(angle) * total
        if degrees % 2:
            inside = (angle + inside) * 2 / math.pi
        low, high = (angle, high) if inside < 0.95 else (low, angle)
    return math.sqrt(degrees) * math.tan(low)


def t_quantiles(degrees: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The 97.5 % quantiles of Student's t for real degrees of freedom ≥ 1, to four digits.

    Above 30 degrees by the expansion of Abramowitz & Stegun 1964, 26.7.5; below, interpolated in 1 / degrees.

    >>> t_quantiles([2, 12.5, 1e9]).round(3)
    array([4.303, 2.169, 1.96 ])
    """
    df = np.maximum(np.asarray(degrees, np.float64), 1.0)
    z = NormalDist().inv_cdf(0.975)
    large = np.maximum(df, 30.0)
    result = z + (z**3 + z) / (4 * large) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * large**2)
    result += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * large**3)
    whole = np.arange(32, 0, -1)
    table = np.array([t_quantile(int(n)) for n in whole])
    small: npt.NDArray[np.float64] = np.interp(1 / df, 1 / whole, table)
    return np.where(df > 30, result, small)


def jackknife_error(without: npt.ArrayLike) -> float:
    """Jackknife standard error of a value; NaN for fewer than two blocks, or if the value is undefined without one.

    Args:
        without: the value without each of the n blocks, ``(n,)``.

    Examples:
        >>> round(jackknife_error([0.70, 0.72, 0.74]), 4)
        0.0231
    """
    values = np.asarray(without, np.float64)
    n = len(values)
    if n < 2:
        return math.nan
    return math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum()))


def _interval(value: float, without: Floats, lowest: float, highest: float) -> tuple[float, float]:
    """Interval of a value from its values without each block; NaN if one of these is undefined."""
    error = jackknife_error(without)
    if math.isnan(value) or math.isnan(error):
        return math.nan, math.nan
    reach = t_quantile(len(without) - 1) * error
    # The value itself may be outside its range by a rounding error, but never outside the interval.
    return min(max(value - reach, lowest), value), max(min(value + reach, highest), value)


def _range(name: str) -> tuple[float, float]:
    metric = METRICS.get(name)
    return (metric.low, metric.high) if metric else (0.0, 1.0)


def _difference(statistic: Statistic, a: Floats, b: Floats) -> dict[str, Floats]:
    first, second = statistic(a), statistic(b)
    return {name: first[name] - second[name] for name in first}


def _swap(a: Floats, b: Floats) -> Iterator[tuple[Floats, Floats]]:
    n, shape = len(a), a.shape[1:]
    first, second = a.reshape(n, -1), b.reshape(n, -1)
    total = (first + second).sum(axis=0)
    for keep in _kept(n):
        mixed = keep @ first + (1 - keep) @ second
        yield mixed.reshape(-1, *shape), (total - mixed).reshape(-1, *shape)


def _kept(n: int) -> Iterator[Floats]:
    """Which of n blocks are not swapped, ``(k, n)`` of zeros and ones.

    Of all 2ⁿ combinations, those that keep the last block: the others are the same with both submissions exchanged,
    and give the same differences except for their sign.
    """
    if n <= ENUMERATED:
        numbers = np.arange(2 ** (n - 1), 2**n)[:, None]
        every = (numbers >> np.arange(n) & 1).astype(np.float64)
        yield from np.split(every, range(_STEP, len(every), _STEP))
        return
    rng = np.random.default_rng(_SEED)
    for start in range(0, DRAWS, _STEP):
        yield rng.integers(0, 2, (min(_STEP, DRAWS - start), n)).astype(np.float64)


def _collect(steps: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    values = list(steps)
    return {name: np.concatenate([step[name] for step in values]) for name in values[0]}
