"""What metrics are computed from: a few families of counts, each an array that adds up over tiles.

Every family has a class that names the parts of its array, which is what a metric's function gets. Arrays may have
leading axes (blocks, resamples); they are written ``…`` here.
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

    @property
    def by_block(self) -> bool:
        """Whether there are counts of every spatial block, which intervals and paired tests need.

        From–to matrices are kept for the whole split only: of one block they would take 3 · 46² numbers.
        """
        return self is not Family.TRANSITIONS

    @property
    def at_every_level(self) -> bool:
        """Whether there are counts at every level; those of the hierarchy stand at the level of the predictions."""
        return self is not Family.HIERARCHY

    def view(self, counts: Counts) -> Any:
        """The parts of an array of this family by name: one of the classes below."""
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
        """``(…, n)``; NaN where no pixel is predicted as the class."""
        return divide(self.correct, self.predicted)

    @cached_property
    def recall(self) -> Floats:
        """``(…, n)``; NaN where no label pixel is of the class."""
        return divide(self.correct, self.support)

    @cached_property
    def f1(self) -> Floats:
        """``(…, n)``; NaN where the class is neither in labels nor in predictions."""
        return divide(2 * self.correct, self.support + self.predicted)

    @cached_property
    def iou(self) -> Floats:
        """Intersection over union, ``(…, n)``; NaN where the class is neither in labels nor in predictions."""
        return divide(self.correct, self.support + self.predicted - self.correct)

    def mean(self, values: Floats, weights: Counts | None = None) -> Floats:
        """Mean over the classes that the labels hold, so that what is averaged depends on the labels alone.

        Args:
            values: one per class, ``(…, n)``.
            weights: of each class, ``(…, n)``; 1 by default.

        Returns:
            ``(…,)``; NaN where there is no label pixel.
        """
        shares = np.where(self.support > 0, 1.0 if weights is None else weights, 0.0)
        return divide((np.nan_to_num(values) * shares).sum(axis=-1), shares.sum(axis=-1))


class CalibrationSums(NamedTuple):
    """Sums over pixels by bin of confidence: ``(…, 5, 15)``; confidence is the probability of the predicted class."""

    pixels: Counts
    confidence: Counts
    correct: Counts
    nll: Counts  # −ln of the probability of the true class
    brier: Counts  # squared error, summed over classes


class HierarchySums(NamedTuple):
    """Sums over pixels of how label and prediction meet in the class tree: ``(…, 5)``."""

    pixels: Counts
    mistakes: Counts
    height: Counts  # of the lowest common ancestor: levels that are wrong, from the finest comparable one upwards
    comparable: Counts  # levels that both the label and the prediction have
    agreeing: Counts  # of these, levels that are right


class ChangeSums(NamedTuple):
    """Pixels whose label is known in both years: ``(…, 5)``."""

    pixels: Counts
    changed_in_both: Counts
    changed_in_prediction: Counts
    changed_in_label: Counts
    class_right_in_both: Counts


class TransitionCounts(NamedTuple):
    """From–to matrices of pixels whose label is known in both years: ``(…, 3, n, n)``."""

    label: Counts
    predicted: Counts
    agreeing: Counts  # right in both years


_VIEWS: dict[Family, tuple[Callable[..., Any], int]] = {
    Family.CLASSES: (ClassCounts, -2),
    Family.HIERARCHY: (HierarchySums, -1),
    Family.CALIBRATION: (CalibrationSums, -2),
    Family.CHANGE: (ChangeSums, -1),
    Family.TRANSITIONS: (TransitionCounts, -3),
}
