"""Arithmetic of confusion matrices. Counts may have leading axes, so that one call computes many resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.legend import legend
from lulcbench.legend.tables import agreement, node_to_class

Counts = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def confusion_at(counts: npt.NDArray[np.int64], level: int, to: int) -> npt.NDArray[np.int64]:
    """Confusion matrix at level ``to`` from counts of (label node, predicted class of ``level``).

    Args:
        counts: int64 ``(…, 106, n_classes(level))``.
        level: level of the predictions.
        to: the same or a coarser level.

    Returns:
        int64 ``(…, n, n)``: rows are labels, columns predictions. Labels coarser than ``to`` are left out.
    """
    n = len(legend().codes(to))
    rows = np.zeros((*counts.shape[:-2], n, counts.shape[-1]), np.int64)
    for node, row in enumerate(node_to_class(to)):
        if row >= 0:
            rows[..., row, :] += counts[..., node, :]
    result = np.zeros((*counts.shape[:-2], n, n), np.int64)
    for column, parent in enumerate(legend().parents(level, to)):
        result[..., parent] += rows[..., column]
    return result


def margins(confusion: Counts) -> Counts:
    """Correct, label and predicted pixels by class (``families.ClassCounts``): ``(…, n, n)`` → ``(…, 3, n)``.

    >>> margins(np.array([[5, 1], [2, 0]]))
    array([[5, 0],
           [6, 2],
           [7, 1]])
    """
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([correct, confusion.sum(axis=-1), confusion.sum(axis=-2)], axis=-2)


def hierarchy_sums(counts: npt.NDArray[np.int64], level: int) -> npt.NDArray[np.int64]:
    """Sums over pixels for the hierarchical metrics (``families.HierarchySums``).

    Args:
        counts: pixels by label node and predicted class of ``level``, int64 ``(…, 106, n_classes(level))``.
        level: level of the predictions.

    Returns:
        int64 ``(…, 5)``.
    """
    comparable, agreeing = agreement(level)
    height = comparable - agreeing
    weights = np.stack([np.ones_like(height), height > 0, height, comparable, agreeing])
    sums: npt.NDArray[np.int64] = np.einsum("...nc,snc->...s", counts, weights)
    return sums


def divide(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Quotient ``a / b`` as float64, NaN where ``b`` is 0.

    >>> divide([1, 1], [4, 0])
    array([0.25,  nan])
    """
    numerator, denominator = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    undefined = np.full(numerator.shape, np.nan)
    quotient: Floats = np.divide(numerator, denominator, out=undefined, where=denominator != 0)
    return quotient
