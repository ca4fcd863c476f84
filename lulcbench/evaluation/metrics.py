"""Metrics as functions of counts. Every count may have leading axes, so that a thousand resamples are one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.legend import LEVELS, legend
from lulcbench.legend.tables import agreement, node_to_class

Counts = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

BINS = 15
# What is summed over judged pixels: by confidence bin; over those judged in both years; over all (``agreement``).
CALIBRATION_SUMS = ("pixels", "confidence", "correct", "nll", "brier")
CHANGE_SUMS = ("pixels", "changed_in_both", "changed_in_prediction", "changed_in_label", "class_right_in_both")
HIERARCHY_SUMS = ("pixels", "mistakes", "height", "comparable", "agreeing")
# Range of the figures that do not lie between 0 and 1.
BOUNDS = {
    "log_loss": (0.0, np.inf),
    "brier": (0.0, 2.0),
    "mistake_severity": (1.0, float(len(LEVELS))),
    "mean_height": (0.0, float(len(LEVELS))),
}


def confusion_at(counts: npt.NDArray[np.int64], level: int, to: int) -> npt.NDArray[np.int64]:
    """Counts of (label node, predicted class of ``level``) → confusion at level ``to``.

    Args:
        counts: int64 ``(…, 106, n_classes(level))``.
        level: level of the predictions.
        to: the same or a coarser level.

    Returns:
        int64 ``(…, n, n)``: rows labels, columns predictions. Labels coarser than ``to`` drop out.
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


def divide(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Quotient as float64, NaN where ``b`` is 0."""
    above, below = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    quotient: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)
    return quotient


def margins(confusion: Counts) -> Counts:
    """Correct, label and predicted pixels of each class: ``(…, n, n)`` → ``(…, 3, n)``."""
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([correct, confusion.sum(axis=-1), confusion.sum(axis=-2)], axis=-2)


def per_class(confusion: Counts) -> dict[str, Floats]:
    """Support, predicted, precision, recall, F1 and IoU of each class: ``(…, n)`` each, NaN where undefined."""
    return _per_class(margins(confusion))


def _per_class(counts: Counts) -> dict[str, Floats]:
    correct, support, predicted = np.moveaxis(counts, -2, 0)
    return {
        "support": support.astype(np.float64),
        "predicted": predicted.astype(np.float64),
        "precision": divide(correct, predicted),
        "recall": divide(correct, support),
        "f1": divide(2 * correct, support + predicted),
        "iou": divide(correct, support + predicted - correct),
    }


def summary(confusion: Counts) -> dict[str, Floats]:
    """The single figures of a confusion ``(…, n, n)``: each ``(…,)``, NaN where there is no pixel.

    Means over classes are over classes with label pixels, so that what is averaged depends on the labels alone.
    """
    return summary_of_margins(margins(confusion))


def summary_of_margins(counts: Counts) -> dict[str, Floats]:
    """The same of ``margins``, which are all that these figures need: ``(…, 3, n)``."""
    classes = _per_class(counts)
    support = classes["support"]
    present = np.where(support > 0, 1.0, 0.0)

    def mean(values: Floats, weights: Floats) -> Floats:
        return divide((np.nan_to_num(values) * weights).sum(axis=-1), weights.sum(axis=-1))

    return {
        "overall_accuracy": divide(counts[..., 0, :].sum(axis=-1), support.sum(axis=-1)),
        "balanced_accuracy": mean(classes["recall"], present),
        "miou": mean(classes["iou"], present),
        "macro_f1": mean(classes["f1"], present),
        "weighted_f1": mean(classes["f1"], support),
    }


def calibration(sums: Floats) -> dict[str, Floats]:
    """Log loss, Brier score and expected calibration error of ``(…, 5, BINS)`` sums (see ``CALIBRATION_SUMS``)."""
    pixels, confidence, correct, nll, brier = np.moveaxis(sums, -2, 0)
    total = pixels.sum(axis=-1)
    return {
        "log_loss": divide(nll.sum(axis=-1), total),
        "brier": divide(brier.sum(axis=-1), total),
        "ece": divide(np.abs(confidence - correct).sum(axis=-1), total),
    }


def change(sums: Floats) -> dict[str, Floats]:
    """Scores of changed against unchanged, of ``(…, 5)`` sums (see ``CHANGE_SUMS``)."""
    pixels, hit, false, missed, both = np.moveaxis(sums, -1, 0)
    return {
        "precision": divide(hit, hit + false),
        "recall": divide(hit, hit + missed),
        "f1": divide(2 * hit, 2 * hit + false + missed),
        "iou": divide(hit, hit + false + missed),
        "accuracy": divide(both, pixels),
    }


def hierarchy_sums(counts: npt.NDArray[np.int64], level: int) -> npt.NDArray[np.int64]:
    """Counts of (label node, predicted class of ``level``), int64 ``(…, 106, C)`` → ``HIERARCHY_SUMS``, ``(…, 5)``."""
    comparable, agreeing = agreement(level)
    height = comparable - agreeing
    weights = np.stack([np.ones_like(height), height > 0, height, comparable, agreeing])
    sums: npt.NDArray[np.int64] = np.einsum("...nc,snc->...s", counts, weights)
    return sums


def hierarchical(sums: Counts) -> dict[str, Floats]:
    """Hierarchical F1, mistake severity and mean height of ``(…, 5)`` sums (see ``HIERARCHY_SUMS``).

    Label and prediction are compared down to the same level, so both have as many ancestors: hierarchical precision and
    recall are one, and F1 equals them.
    """
    pixels, mistakes, height, comparable, agreeing = np.moveaxis(sums, -1, 0)
    return {
        "hierarchical_f1": divide(agreeing, comparable),
        "mistake_severity": divide(height, mistakes),
        "mean_height": divide(height, pixels),
    }
