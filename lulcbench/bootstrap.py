"""Confidence intervals and paired tests by resampling spatial blocks, within which errors go together.

Pixels are no independent sample: neighbours share their labels' and their model's errors. The block (48 km unless the
recipe differs) is therefore the unit that is drawn (Roberts et al. 2017, Ecography 40, 913–929).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], dict[str, Floats]]

RESAMPLES = 1000
_SEED = 20180601  # any fixed number: the same counts always give the same intervals
_STEP = 100


def intervals(blocks: npt.NDArray[Any], statistic: Statistic) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of every figure of ``statistic``.

    Args:
        blocks: counts of each block, ``(n, …)``; counts of a union of blocks are their sum.
        statistic: maps counts ``(k, …)`` to named figures ``(k,)``.

    Returns:
        name → (low, high); empty for fewer than two blocks. Figures undefined in every resample are left out.
    """
    if len(blocks) < 2:
        return {}
    draws = _collect(statistic(part) for part in _resample(blocks))
    return {k: (float(low), float(high)) for k, v in draws.items() for low, high in [_percentiles(v)] if low == low}


def paired(
    a: npt.NDArray[Any], b: npt.NDArray[Any], statistic: Statistic
) -> dict[str, tuple[float, float, float, float]]:
    """Difference a − b of two submissions on the same blocks.

    The interval draws the same blocks for both. The p-value is two-sided, of a permutation test: if the two were
    equally good, either's result of a block could as well be the other's, so they are swapped at random.

    Args:
        a: counts of each block of one submission, ``(n, …)``.
        b: the same blocks of the other.
        statistic: as in ``intervals``.

    Returns:
        name → (difference, low, high, p).

    Raises:
        ValueError: there are fewer than two blocks.
    """
    if len(a) < 2:
        raise ValueError("a paired test needs at least two blocks")
    first, second = statistic(a.sum(axis=0)[None]), statistic(b.sum(axis=0)[None])
    both = np.stack([a, b], axis=1)
    resampled = _collect(_difference(statistic, part[:, 0], part[:, 1]) for part in _resample(both))
    swapped = _collect(_difference(statistic, x, y) for x, y in _swap(a, b))
    result = {}
    for name, value in first.items():
        difference = float(value[0] - second[name][0])
        low, high = _percentiles(resampled[name])
        # A hair of tolerance: a swap of everything gives −difference but for rounding.
        as_large = np.abs(swapped[name]) >= abs(difference) - 1e-12
        p = (1 + int(as_large.sum())) / (1 + len(as_large))
        result[name] = (difference, float(low), float(high), p)
    return result


def _difference(statistic: Statistic, a: Floats, b: Floats) -> dict[str, Floats]:
    first, second = statistic(a), statistic(b)
    return {name: first[name] - second[name] for name in first}


def _resample(blocks: npt.NDArray[Any]) -> Iterator[Floats]:
    rng = np.random.default_rng(_SEED)
    n = len(blocks)
    flat = blocks.reshape(n, -1).astype(np.float64)
    for start in range(0, RESAMPLES, _STEP):
        size = min(_STEP, RESAMPLES - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        yield (weights @ flat).reshape(size, *blocks.shape[1:])


def _swap(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Iterator[tuple[Floats, Floats]]:
    rng = np.random.default_rng(_SEED)
    n, shape = len(a), a.shape[1:]
    first, second = a.reshape(n, -1).astype(np.float64), b.reshape(n, -1).astype(np.float64)
    total = (first + second).sum(axis=0)
    for start in range(0, RESAMPLES, _STEP):
        size = min(_STEP, RESAMPLES - start)
        keep = rng.integers(0, 2, (size, n)).astype(np.float64)
        mixed = keep @ first + (1 - keep) @ second
        yield mixed.reshape(size, *shape), (total - mixed).reshape(size, *shape)


def _collect(parts: Iterator[dict[str, Floats]]) -> dict[str, Floats]:
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _percentiles(values: Floats) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
