"""Families of counts from which metrics are computed; counts are arrays that add up over tiles.

Each family has a class with named views of its array, which is the argument of the functions of metrics. Arrays may
have leading axes (blocks, resamples), written as ``…``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lulcbench.evaluation.confusion import Counts, Floats, divide

BINS = 15  # equal bins of confidence, as in Guo et al. 2017


class Family(StrEnum):
    """A family of counts, in the order in which scores list its metrics."""

    CLASSES = "classes"
    HIERARCHY = "hierarchy"
    CALIBRATION = "calibration"
    CHANGE = "change"
    TRANSITIONS = "transitions"
    SERIES = "series"

    @property
    def by_block(self) -> bool:
        """Whether there are counts by spatial block, which intervals and paired tests require.

        From–to matrices are stored only for the complete split, since a block would take 3 · 46² numbers.
        """
        return self is not Family.TRANSITIONS

    @property
    def at_every_level(self) -> bool:
        """Whether there are counts at every level; those of the hierarchy are only at the level of the predictions."""
        return self is not Family.HIERARCHY

    def view(self, counts: Counts) -> Any:
        """Named views of an array of this family: one of the classes below."""
        kind, axis = _VIEWS[self]
        return kind(*np.moveaxis(counts, axis, 0))


@dataclass(frozen=True)
class ClassCounts:
    """Pixels of each class of a level: ``(…, 3, n)``, see ``confusion.margins``.

    Attributes:
        correct: pixels whose label and prediction are the class, ``(…, n)``.
        support: label pixels, ``(…, n)``.
        predicted: pixels predicted as the class, among those with a label, ``(…, n)``.

    Examples:
        >>> counts = ClassCounts(correct=np.array([6, 1]), support=np.array([8, 2]), predicted=np.array([7, 3]))
        >>> counts.recall, counts.iou.round(2)
        (array([0.75, 0.5 ]), array([0.67, 0.25]))
        >>> float(counts.mean(counts.recall))
        0.625
    """

    correct: Counts
    support: Counts
    predicted: Counts

    @cached_property
    def precision(self) -> Floats:
        """Precision, ``(…, n)``; NaN for classes that are not predicted."""
        return divide(self.correct, self.predicted)

    @cached_property
    def recall(self) -> Floats:
        """Recall, ``(…, n)``; NaN for classes without label pixels."""
        return divide(self.correct, self.support)

    @cached_property
    def f1(self) -> Floats:
        """F1, ``(…, n)``; NaN for classes that are neither in labels nor in predictions."""
        return divide(2 * self.correct, self.support + self.predicted)

    @cached_property
    def iou(self) -> Floats:
        """Intersection over union, ``(…, n)``; NaN for classes that are neither in labels nor in predictions."""
        return divide(self.correct, self.support + self.predicted - self.correct)

    def mean(self, values: Floats, weights: Counts | None = None) -> Floats:
        """Mean over the classes with support, so that the averaged classes depend only on the labels.

        Args:
            values: values of the classes, ``(…, n)``.
            weights: weights of the classes, ``(…, n)``; 1 by default.

        Returns:
            float64 ``(…)``; NaN without label pixels.
        """
        used = np.where(self.support > 0, 1.0 if weights is None else weights, 0.0)
        return divide((np.nan_to_num(values) * used).sum(axis=-1), used.sum(axis=-1))


class CalibrationSums(NamedTuple):
    """Sums over pixels by bin of confidence: ``(…, 5, 15)``; confidence is the probability of the predicted class."""

    pixels: Counts
    confidence: Counts
    correct: Counts
    nll: Counts  # −ln of the probability of the label
    brier: Counts  # squared error, summed over classes


class HierarchySums(NamedTuple):
    """Sums over pixels for the hierarchical metrics: ``(…, 5)``."""

    pixels: Counts
    mistakes: Counts
    height: Counts  # of the lowest common ancestor: number of wrong levels among the comparable ones
    comparable: Counts  # levels that both label and prediction have
    agreeing: Counts  # comparable levels at which they agree


class ChangeSums(NamedTuple):
    """Pixels whose label is known in both years of a pair: ``(…, 5)``."""

    pixels: Counts
    changed_in_both: Counts
    changed_in_prediction: Counts
    changed_in_label: Counts
    class_right_in_both: Counts


class TransitionCounts(NamedTuple):
    """From–to matrices of pixels whose label is known in both years of a pair: ``(…, 3, n, n)``."""

    label: Counts
    predicted: Counts
    agreeing: Counts  # correct in both years


class SeriesSums(NamedTuple):
    """Counts of series of maps: ``(…, 12)``; a pair is two consecutive years of a pixel, see ``series.series_sums``."""

    pixels: Counts  # whose label is known in all years
    pairs: Counts
    agreeing: Counts  # pairs with the same predicted class
    label_changes: Counts
    predicted_changes: Counts
    found: Counts  # pairs that change in label and prediction
    label_changes_near: Counts  # label changes with a predicted one within a year
    predicted_changes_near: Counts  # predicted changes with a label change within a year
    unchanged: Counts  # years of pixels whose label never changes
    unchanged_correct: Counts
    changed: Counts  # years of pixels whose label changes
    changed_correct: Counts


_VIEWS: dict[Family, tuple[Callable[..., Any], int]] = {
    Family.CLASSES: (ClassCounts, -2),
    Family.HIERARCHY: (HierarchySums, -1),
    Family.CALIBRATION: (CalibrationSums, -2),
    Family.CHANGE: (ChangeSums, -1),
    Family.TRANSITIONS: (TransitionCounts, -3),
    Family.SERIES: (SeriesSums, -1),
}
