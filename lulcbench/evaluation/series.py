"""Agreement of maps of several years, and beside it the change that they show and miss.

Agreement between years alone would be highest for maps that never change, so it is never given alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import SeriesSums

Classes = npt.NDArray[np.integer[Any]]


def series_sums(labels: Classes, predicted: Classes, years: Sequence[int]) -> SeriesSums:
    """Count agreement and change of a tile's pixels whose label is known in all years.

    A change is a pair of consecutive years with different classes. It is found within a year if the other series has a
    change that begins at most one year earlier or later.

    Args:
        labels: class indices ``(year, …)``, negative where ignored.
        predicted: class indices of the same shape.
        years: two or more, in ascending order.

    Returns:
        Counts, each of shape ().

    Raises:
        LulcbenchError: shapes differ, or there are fewer than two years.

    Examples:
        >>> labels = np.array([[1, 1, 1], [1, 2, 1], [1, 2, 1]])  # years × pixels
        >>> predicted = np.array([[1, 1, 1], [1, 1, 2], [1, 2, 1]])
        >>> sums = series_sums(labels, predicted, (2018, 2019, 2020))
        >>> [int(n) for n in (sums.label_changes, sums.predicted_changes, sums.found, sums.label_changes_near)]
        [1, 3, 0, 1]
    """
    if labels.shape != predicted.shape or len(labels) != len(years) or len(years) < 2:
        raise LulcbenchError(
            f"Labels {labels.shape} and predictions {predicted.shape} are not of the same {len(years)} years.",
            "Give maps of two or more years, all of one shape.",
        )
    known = (labels >= 0).all(axis=0)
    truth, guess = labels[:, known], predicted[:, known]
    change, guessed = truth[1:] != truth[:-1], guess[1:] != guess[:-1]
    starts = np.array(years[:-1])
    close = (np.abs(starts[:, None] - starts[None, :]) <= 1).astype(np.int64)
    stable = ~change.any(axis=0)
    right = (truth == guess).sum(axis=0)
    counts = {
        "pixels": known.sum(),
        "pairs": change.size,
        "agreeing": (~guessed).sum(),
        "label_changes": change.sum(),
        "predicted_changes": guessed.sum(),
        "found": (change & guessed).sum(),
        "label_changes_near": (change & (close @ guessed.astype(np.int64) > 0)).sum(),
        "predicted_changes_near": (guessed & (close @ change.astype(np.int64) > 0)).sum(),
        "unchanged": stable.sum() * len(years),
        "unchanged_correct": right[stable].sum(),
        "changed": (~stable).sum() * len(years),
        "changed_correct": right[~stable].sum(),
    }
    return SeriesSums(**{name: np.asarray(value, np.int64) for name, value in counts.items()})


def agreement_by_class(maps: Classes, classes: int) -> npt.NDArray[np.int64]:
    """Pixels of each class in one year, and how many of them have it in the next, for each pair of consecutive years.

    Args:
        maps: class indices ``(year, …)``, negative where ignored.
        classes: number of classes.

    Returns:
        int64 ``(pair, 2, class)``: pixels that have the class in the first year, and in both.

    Examples:
        >>> agreement_by_class(np.array([[0, 0, 1], [0, 1, 1]]), classes=2).tolist()
        [[[2, 1], [1, 1]]]
    """
    out = np.zeros((len(maps) - 1, 2, classes), np.int64)
    for pair, (before, after) in enumerate(pairwise(maps)):
        known = (before >= 0) & (after >= 0)
        out[pair, 0] = np.bincount(before[known], minlength=classes)
        out[pair, 1] = np.bincount(before[known & (before == after)], minlength=classes)
    return out


def count_changes(maps: Classes) -> npt.NDArray[np.int64]:
    """Number of changes between consecutive years of each pixel, for maps of one and of several changes.

    Examples:
        >>> count_changes(np.array([[1, 1, 1], [1, 2, 2], [1, 2, 1]])).tolist()
        [0, 1, 2]
    """
    changes: npt.NDArray[np.int64] = (maps[1:] != maps[:-1]).sum(axis=0)
    return changes


@dataclass(frozen=True)
class Trend:
    """Ordinary least squares of a value on the year.

    Attributes:
        slope: change per year.
        error: standard error of the slope; NaN for two years.
        r2: share of the variance that the line explains; NaN for a constant value.
    """

    slope: float
    error: float
    r2: float


def trend(years: Sequence[int], values: Sequence[float]) -> Trend:
    """Trend of a value over the years, such as the area of a class.

    Raises:
        LulcbenchError: there are fewer than two years, or a year occurs twice.

    Examples:
        >>> found = trend([2000, 2006, 2012, 2018], [10.0, 13.0, 15.0, 19.0])
        >>> round(found.slope, 3), round(found.error, 3), round(found.r2, 3)
        (0.483, 0.044, 0.984)
    """
    x, y = np.asarray(years, np.float64), np.asarray(values, np.float64)
    if len(x) != len(y) or len(set(x.tolist())) < len(x) or len(x) < 2:
        raise LulcbenchError("A trend needs a value for each of two or more years.", "Give each year once.")
    dx, dy = x - x.mean(), y - y.mean()
    slope = float((dx * dy).sum() / (dx**2).sum())
    residual, total = float(((dy - slope * dx) ** 2).sum()), float((dy**2).sum())
    error = (residual / (len(x) - 2) / float((dx**2).sum())) ** 0.5 if len(x) > 2 else float("nan")
    return Trend(slope, error, 1 - residual / total if total else float("nan"))
