"""Metrics and their registry: what it takes to compute, show and rank a metric. ``metrics`` has the list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.confusion import Counts, Floats
from lulcbench.evaluation.families import Family

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
        >>> import numpy as np
        >>> from lulcbench.evaluation.confusion import margins
        >>> from lulcbench.evaluation.metrics import evaluate
        >>> values = evaluate(Family.CLASSES, margins(np.array([[5, 1], [2, 0]])))
        >>> round(float(values["overall_accuracy"]), 3), round(float(values["miou"]), 4)
        (0.625, 0.3125)
    """
    view = family.view(counts)
    chosen = (m for m in METRICS.values() if m.family is family and (m.intervals or not with_intervals))
    return {metric.name: metric.compute(view) for metric in chosen}
