"""The list of metrics: name, label, range, direction, tables, and computation from counts.

Scores, intervals, comparisons, the command line, the leaderboard and the pages of the baselines read ``METRICS``. To
add a metric, register it here; nothing else changes. Unknown metrics of other scorer versions are kept in scores but
not shown; metrics that scores lack are shown as a dash and sorted last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.confusion import Counts, Floats, divide
from lulcbench.evaluation.families import Family
from lulcbench.legend import LEVELS

# Tables that show a selection of metrics. All others (command line, pages of submissions, comparisons, CSV, JSON,
# sorting) have all metrics.
Table = Literal[
    "board",  # a column of the leaderboard
    "baselines",  # the page and the committed results of the baselines
    "subsets",  # regions, label edges, superclasses
    "points",  # agreement with LUCAS points
]
RANKING = "miou"  # default metric by which tables are sorted


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: everything needed to compute, show and rank it.

    Attributes:
        name: key in scores, CSV columns and query strings: lower case, digits and underscores.
        label: name in tables.
        description: one sentence for readers, ending with a full stop.
        family: family of the counts from which it is computed.
        compute: maps counts of the family (``Family.view``) with leading axes ``(…)`` to values, float64 ``(…)``, NaN
            if undefined.
        low: smallest possible value.
        high: largest possible value.
        higher_is_better: direction.
        unit: unit of the value; empty for a fraction.
        tables: tables that show it by default.
        intervals: whether it has a 95 % interval and is compared in paired tests; requires a family with counts by
            block.
        sklearn: call of ``sklearn.metrics`` with the same result, without its data; None if there is none. ``labels``
            means the classes with support, ``classes`` all classes of the level.
    """

    name: str
    label: str
    description: str
    family: Family
    compute: Callable[[Any], Floats]
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True
    unit: str = ""
    tables: frozenset[Table] = frozenset({"board", "baselines"})
    intervals: bool = True
    sklearn: str | None = None

    def better(self, a: float, b: float) -> bool:
        """Whether value ``a`` is better than value ``b``."""
        return a > b if self.higher_is_better else a < b


_METRICS: dict[str, Metric] = {}
METRICS = MappingProxyType(_METRICS)  # name → metric, in the order of tables


def register(metric: Metric) -> Metric:
    """Add a metric at the end of the list.

    Raises:
        LulcbenchError: the name exists or cannot be a column, or the family does not support the tables or intervals.

    >>> kappa = Metric("kappa", "Kappa", "Accuracy beyond chance.", Family.CLASSES, lambda c: c.correct.sum(axis=-1))
    >>> register(kappa).name in METRICS
    True
    >>> unregister("kappa")
    """
    if metric.name in _METRICS or not (metric.name.isidentifier() and metric.name.islower()):
        raise LulcbenchError(
            f"{metric.name!r} is not a valid new name of a metric.", "Use lower-case letters, digits and underscores."
        )
    if unknown := metric.tables - set(get_args(Table)):
        raise LulcbenchError(
            f"{metric.name}: there is no table {min(unknown)!r}.", f"Choose from {', '.join(get_args(Table))}."
        )
    if metric.tables & {"subsets", "points"} and metric.family is not Family.CLASSES:
        raise LulcbenchError(f"{metric.name}: subsets and points have only class counts.", "Omit these tables.")
    if metric.intervals and not metric.family.by_block:
        raise LulcbenchError(f"{metric.name}: {metric.family} has no counts by block.", "Set intervals=False.")
    _METRICS[metric.name] = metric
    return metric


def unregister(name: str) -> None:
    """Remove a metric from the list; existing scores keep their values."""
    del _METRICS[name]


def shown_in(table: Table) -> dict[str, Metric]:
    """The metrics that a table shows by default, in its order.

    Examples:
        >>> list(shown_in("points"))
        ['overall_accuracy', 'balanced_accuracy', 'macro_f1']
    """
    return {name: metric for name, metric in METRICS.items() if table in metric.tables}


def evaluate(family: Family, counts: Counts, with_intervals: bool = False) -> dict[str, Floats]:
    """Compute all metrics of a family: name → float64 ``(…)``, NaN if undefined.

    Args:
        family: family of the counts.
        counts: array of the family, with any leading axes.
        with_intervals: only metrics that have intervals.

    Examples:
        >>> from lulcbench.evaluation.confusion import margins
        >>> values = evaluate(Family.CLASSES, margins(np.array([[5, 1], [2, 0]])))
        >>> round(float(values["overall_accuracy"]), 3), round(float(values["miou"]), 4)
        (0.625, 0.3125)
    """
    view = family.view(counts)
    chosen = (m for m in METRICS.values() if m.family is family and (m.intervals or not with_intervals))
    return {metric.name: metric.compute(view) for metric in chosen}


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
