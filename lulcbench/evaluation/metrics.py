"""The list of metrics: name, label, range, direction, tables, and computation from counts.

Scores, intervals, comparisons, the command line, the leaderboard and the pages of the baselines read ``METRICS``. To
add a metric, register it here; nothing else changes. Unknown metrics of other scorer versions are kept in scores but
not shown; metrics that scores lack are shown as a dash and sorted last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lulcbench.evaluation._metric import METRICS, RANKING, Metric, Table, evaluate, register, shown_in, unregister
from lulcbench.evaluation.confusion import Floats, divide
from lulcbench.evaluation.families import Family
from lulcbench.legend import LEVELS

__all__ = ["METRICS", "RANKING", "Metric", "Table", "evaluate", "register", "shown_in", "unregister"]


def _harmonic(a: Floats, b: Floats) -> Floats:
    """Harmonic mean; 0 where one is 0 or undefined, NaN where both are undefined."""
    x, y = np.nan_to_num(a), np.nan_to_num(b)
    harmonic: Floats = np.where(x + y == 0, 0.0, divide(2 * x * y, x + y))
    return np.where(np.isnan(a) & np.isnan(b), np.nan, harmonic)


_EVERYWHERE: frozenset[Table] = frozenset({"board", "baselines", "subsets", "points"})
_BOARD: frozenset[Table] = frozenset({"board"})
_NOWHERE: frozenset[Table] = frozenset()

register(
    Metric(
        "miou",
        "mIoU",
        "Intersection over union of each class, averaged over the classes that occur in the labels.",
        Family.CLASSES,
        lambda c: c.mean(c.iou),
        tables=frozenset({"board", "baselines", "subsets"}),
        sklearn="jaccard_score(labels=labels, average='macro')",
    )
)
register(
    Metric(
        "overall_accuracy",
        "Overall accuracy",
        "Share of evaluated pixels with the correct class.",
        Family.CLASSES,
        lambda c: divide(c.correct.sum(axis=-1), c.support.sum(axis=-1)),
        tables=_EVERYWHERE,
        sklearn="accuracy_score()",
    )
)
register(
    Metric(
        "balanced_accuracy",
        "Balanced accuracy",
        "Recall of each class, averaged over the classes that occur in the labels.",
        Family.CLASSES,
        lambda c: c.mean(c.recall),
        tables=frozenset({"board", "points"}),
        sklearn="recall_score(labels=labels, average='macro')",
    )
)
register(
    Metric(
        "macro_f1",
        "Macro F1",
        "F1 of each class, averaged over the classes that occur in the labels.",
        Family.CLASSES,
        lambda c: c.mean(c.f1),
        tables=_EVERYWHERE,
        sklearn="f1_score(labels=labels, average='macro')",
    )
)
register(
    Metric(
        "weighted_f1",
        "Weighted F1",
        "F1 of each class, averaged with the number of label pixels as weight.",
        Family.CLASSES,
        lambda c: c.mean(c.f1, c.support),
        sklearn="f1_score(labels=labels, average='weighted')",
    )
)
# Label and prediction are compared down to the finest level that both have, so their sets of ancestors have the same
# size, and hierarchical precision, recall and F1 are equal (Kiritchenko et al. 2005).
register(
    Metric(
        "hierarchical_f1",
        "Hierarchical F1",
        "F1 between the classes of a pixel at all levels, so that confusing related classes costs less.",
        Family.HIERARCHY,
        lambda h: divide(h.agreeing, h.comparable),
        tables=_BOARD,
    )
)
register(
    Metric(
        "mistake_severity",
        "Mistake severity",
        # Bertinetto et al. 2020
        "Mean number of wrong levels of wrong pixels, from 1 (only the finest) to the level of the predictions (all).",
        Family.HIERARCHY,
        lambda h: divide(h.height, h.mistakes),
        low=1.0,
        high=float(len(LEVELS)),
        higher_is_better=False,
        unit="levels",
        tables=_NOWHERE,
    )
)
register(
    Metric(
        "mean_height",
        "Mean height",
        "Mean number of wrong levels over all pixels; 0 for correct pixels.",
        Family.HIERARCHY,
        lambda h: divide(h.height, h.pixels),
        high=float(len(LEVELS)),
        higher_is_better=False,
        unit="levels",
        tables=_NOWHERE,
    )
)
register(
    Metric(
        "log_loss",
        "Log loss",
        "Mean negative logarithm of the probability of the label.",
        Family.CALIBRATION,
        lambda s: divide(s.nll.sum(axis=-1), s.pixels.sum(axis=-1)),
        high=np.inf,
        higher_is_better=False,
        unit="nats",
        sklearn="log_loss(labels=classes)",
    )
)
register(
    Metric(
        "brier",
        "Brier score",
        "Squared error of the probabilities, summed over classes and averaged over pixels (Brier 1950).",
        Family.CALIBRATION,
        lambda s: divide(s.brier.sum(axis=-1), s.pixels.sum(axis=-1)),
        high=2.0,
        higher_is_better=False,
        tables=_NOWHERE,
        sklearn="brier_score_loss(labels=classes, scale_by_half=False)",
    )
)
register(
    Metric(
        "ece",
        "Calibration error",
        "Expected calibration error: mean difference between accuracy and the probability of the predicted class, in "
        "15 equal bins (Guo et al. 2017).",
        Family.CALIBRATION,
        lambda s: divide(np.abs(s.confidence - s.correct).sum(axis=-1), s.pixels.sum(axis=-1)),
        higher_is_better=False,
    )
)
register(
    Metric(
        "change_f1",
        "Change F1",
        "F1 of changed against unchanged pixels.",
        Family.CHANGE,
        lambda s: divide(2 * s.changed_in_both, 2 * s.changed_in_both + s.changed_in_prediction + s.changed_in_label),
        tables=_BOARD,
        sklearn="f1_score()",
    )
)
register(
    Metric(
        "change_iou",
        "Change IoU",
        "Intersection over union of changed pixels.",
        Family.CHANGE,
        lambda s: divide(s.changed_in_both, s.changed_in_both + s.changed_in_prediction + s.changed_in_label),
        tables=_BOARD,
        sklearn="jaccard_score()",
    )
)
register(
    Metric(
        "change_precision",
        "Change precision",
        "Share of pixels predicted as changed that changed.",
        Family.CHANGE,
        lambda s: divide(s.changed_in_both, s.changed_in_both + s.changed_in_prediction),
        tables=_NOWHERE,
        sklearn="precision_score()",
    )
)
register(
    Metric(
        "change_recall",
        "Change recall",
        "Share of changed pixels that are predicted as changed.",
        Family.CHANGE,
        lambda s: divide(s.changed_in_both, s.changed_in_both + s.changed_in_label),
        tables=_NOWHERE,
        sklearn="recall_score()",
    )
)
register(
    Metric(
        "change_accuracy",
        "Both years correct",
        "Share of pixels with the correct class in both years.",
        Family.CHANGE,
        lambda s: divide(s.class_right_in_both, s.pixels),
        tables=_NOWHERE,
    )
)


def _from_to_f1(counts: Any) -> Floats:
    """Mean F1 over the from–to pairs of the labels, without unchanged pairs."""
    changed = ~np.eye(counts.label.shape[-1], dtype=bool) & (counts.label > 0)
    f1 = divide(2 * counts.agreeing, counts.label + counts.predicted)
    return divide(np.where(changed, f1, 0).sum(axis=(-2, -1)), changed.sum(axis=(-2, -1)))


register(
    Metric(
        "change_from_to_f1",
        "From–to F1",
        "F1 of each from–to pair of classes, averaged over the changes that occur in the labels.",
        Family.TRANSITIONS,
        _from_to_f1,
        tables=_NOWHERE,
        intervals=False,
    )
)
for _name, _label, _description, _compute in (
    (
        "year_agreement",
        "Agreement between years",
        "Share of pairs of consecutive years with the same predicted class; maps that never change have 1.",
        lambda s: divide(s.agreeing, s.pairs),
    ),
    (
        "near_change_precision",
        "Change precision within a year",
        "Share of predicted changes that have a change of the label at most one year earlier or later.",
        lambda s: divide(s.predicted_changes_near, s.predicted_changes),
    ),
    (
        "near_change_recall",
        "Change recall within a year",
        "Share of changes of the label that have a predicted change at most one year earlier or later.",
        lambda s: divide(s.label_changes_near, s.label_changes),
    ),
    (
        "near_change_f1",
        "Change F1 within a year",
        "Harmonic mean of the precision and recall of changes within a year.",
        lambda s: _harmonic(
            divide(s.predicted_changes_near, s.predicted_changes), divide(s.label_changes_near, s.label_changes)
        ),
    ),
    (
        "unchanged_accuracy",
        "Accuracy, unchanged pixels",
        "Share of correct years of the pixels whose label never changes.",
        lambda s: divide(s.unchanged_correct, s.unchanged),
    ),
    (
        "changed_accuracy",
        "Accuracy, changed pixels",
        "Share of correct years of the pixels whose label changes.",
        lambda s: divide(s.changed_correct, s.changed),
    ),
):
    register(Metric(_name, _label, _description, Family.SERIES, _compute, tables=_NOWHERE))
register(
    Metric(
        "flicker_ratio",
        "Flicker ratio",
        "Number of predicted changes over the number of changes of the label; above 1, maps alternate.",
        Family.SERIES,
        lambda s: divide(s.predicted_changes, s.label_changes),
        high=np.inf,
        higher_is_better=False,
        tables=_NOWHERE,
    )
)
