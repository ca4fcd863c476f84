"""Results of a study: scores by run, averaged over seeds, and paired comparisons over spatial blocks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.config import Config
from baselines.predicting.unit_counts import FLAT, UnitCounts
from baselines.registry import Part
from baselines.studies.runner import Outcome
from baselines.studies.study import LOWER_IS_BETTER, TRAINING_VALUES, Versus
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.intervals import paired, t_quantile
from lulcbench.evaluation.metrics import METRICS, evaluate


@dataclass(frozen=True)
class Group:
    """One prediction of one run, over its finished seeds.

    Attributes:
        name: ``config.setting/prediction``.
        outcomes: outcomes by seed.
        counts: counts by seed.
        folders: folders of the predictions by seed.
        configs: configs of the predictions by seed.
    """

    name: str
    outcomes: dict[int, Outcome]
    counts: dict[int, UnitCounts]
    folders: dict[int, Path] = field(default_factory=dict)
    configs: dict[int, Config] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[int, ...]:
        """Legend levels; 0 for legends without levels."""
        return next(iter(self.counts.values())).levels

    @property
    def split(self) -> str:
        """Split that was predicted."""
        return next(iter(self.counts.values())).split

    @property
    def deterministic(self) -> bool:
        """Whether all seeds would have the same result."""
        config = next(iter(self.outcomes.values())).config or {}
        return bool(config.get("model", {}).get("kind") == "majority")

    def values(self, metric: str, level: int | None = None) -> list[float]:
        """The metric of every seed, NaN if undefined; the finest level by default."""
        if metric in TRAINING_VALUES:
            return [_training_value(outcome, metric) for outcome in self.outcomes.values()]
        family, level = METRICS[metric].family, self.levels[-1] if level is None else level
        sums = [counts.sums.get((family.value, level)) for counts in self.counts.values()]
        return [math.nan if s is None else float(evaluate(family, s.sum(0))[metric]) for s in sums]


class Result(Part):
    """Result of a comparison: first minus second, averaged over seeds.

    Attributes:
        first, second, metric, level, where, expect, margin: see ``Versus``; level 0 means a legend without levels.
        split: split that was predicted.
        unit, units: what is resampled, and how many there are.
        seeds: numbers of seeds of first and second.
        first_value, second_value: means over seeds.
        difference: first minus second.
        low, high: 95 % interval: root sum of squares of the half-widths over units and over seeds; with one seed each,
            over units alone.
        p: two-sided p-value of swapping units at random, for the trained seeds alone: unlike the interval and the
            verdict it has no variance between seeds; None for values of training.
        verdict: whether the interval agrees with ``expect``; None with one seed each, whose variance is not known.
    """

    first: str
    second: str
    metric: str
    level: int
    where: str
    expect: str | None
    margin: float
    split: str
    unit: str
    units: int
    seeds: tuple[int, int]
    first_value: float
    second_value: float
    difference: float
    low: float
    high: float
    p: float | None
    verdict: str | None


def compare(versus: Versus, first: Group, second: Group) -> Result:
    """Compare two predictions of the same split.

    Args:
        versus: the comparison.
        first: the first run.
        second: the second run.

    Raises:
        LulcbenchError: they have different splits, units or data, no common level, or no metric to compare.
    """
    a, b = first.values(versus.metric, versus.level), second.values(versus.metric, versus.level)
    for group, values in ((first, a), (second, b)):
        if any(math.isnan(value) for value in values):
            raise LulcbenchError(f"{group.name} has no {versus.metric}.", "Compare runs that have it.")
    level, unit, n, p = FLAT, "seeds", min(len(a), len(b)), None
    half_blocks = (0.0, 0.0)
    if versus.metric not in TRAINING_VALUES:
        levels = sorted(set(first.levels) & set(second.levels))
        if not levels or (versus.level is not None and versus.level not in levels):
            raise LulcbenchError(f"{first.name} and {second.name} have no such level in common.", "Change level.")
        level = levels[-1] if versus.level is None else versus.level
        a, b = (_at(group, versus, level) for group in (first, second))
        reference = next(iter(first.counts.values()))
        for counts in (*first.counts.values(), *second.counts.values()):
            if (counts.split, counts.units) != (reference.split, reference.units):
                raise LulcbenchError(
                    f"{first.name} and {second.name} were predicted for different tiles.",
                    "Compare predictions of one split of one release.",
                )
        if len(reference.units) < 2:
            raise LulcbenchError("The split has a single unit.", "A paired test needs two or more spatial blocks.")
        unit, n = reference.unit, len(reference.units)
        low, high, p = _paired(first, second, versus, level)
        difference = statistics.fmean(a) - statistics.fmean(b)
        half_blocks = difference - low, high - difference
    difference = statistics.fmean(a) - statistics.fmean(b)
    # Predictions of the same trained models: seeds are paired.
    same = first.name.partition("/")[0] == second.name.partition("/")[0] and list(first.counts) == list(second.counts)
    if same:
        seeds = _seed_half_width([[x - y for x, y in zip(a, b, strict=True)]])
    else:
        seeds = _seed_half_width([values for group, values in ((first, a), (second, b)) if not group.deterministic])
    if versus.metric in TRAINING_VALUES and min(len(a), len(b)) < 2:
        raise LulcbenchError("A comparison of values of training needs two or more seeds.", "Add seeds.")
    low, high = difference - math.hypot(half_blocks[0], seeds), difference + math.hypot(half_blocks[1], seeds)
    return Result(
        **versus.model_dump(exclude={"level"}),
        level=level,
        split=first.split,
        unit=unit,
        units=n,
        seeds=(len(a), len(b)),
        first_value=statistics.fmean(a),
        second_value=statistics.fmean(b),
        difference=difference,
        low=low,
        high=high,
        p=p,
        verdict=_verdict(versus, low, high) if max(len(a), len(b)) > 1 else None,
    )


def _verdict(versus: Versus, low: float, high: float) -> str | None:
    if versus.expect is None:
        return None
    higher = (
        METRICS[versus.metric].higher_is_better if versus.metric in METRICS else versus.metric not in LOWER_IS_BETTER
    )
    better = (low, high) if higher else (-high, -low)
    if versus.expect == "worse":
        better = (-better[1], -better[0])
    bound = -versus.margin if versus.expect == "no worse" else 0.0
    return "as expected" if better[0] > bound else "not as expected" if better[1] < bound else "undecided"


def _training_value(outcome: Outcome, metric: str) -> float:
    if metric == "parameters":
        return float(outcome.parameters.total) if outcome.parameters else math.nan
    if metric == "training_minutes":
        if outcome.effort is None:
            return math.nan
        return (outcome.effort.seconds if outcome.hardware.get("gpu") else outcome.effort.core_seconds) / 60
    if metric in ("samples_kept", "noise_left"):
        return outcome.facts.get(metric, math.nan)
    losses = outcome.effort.losses if outcome.effort else None
    if losses is None:
        return math.nan
    return {"train_loss": losses.train, "val_loss": losses.val, "loss_gap": losses.val - losses.train}[metric]


def _family(versus: Versus) -> tuple[str, Family]:
    family = METRICS[versus.metric].family
    return (family.value if versus.where == "all" else versus.where), family


def _stack(group: Group, versus: Versus, level: int) -> npt.NDArray[np.float64]:
    """Counts ``(unit, seed, …)``."""
    name, _ = _family(versus)
    arrays = [counts.sums.get((name, level)) for counts in group.counts.values()]
    if any(array is None for array in arrays):
        raise LulcbenchError(
            f"{group.name} has no counts for {versus.metric} ({versus.where}) at level {level}.",
            "Change the comparison.",
        )
    return np.stack([np.asarray(array, np.float64) for array in arrays if array is not None], axis=1)


def _at(group: Group, versus: Versus, level: int) -> list[float]:
    """The metric of every seed."""
    totals = _stack(group, versus, level).sum(0)
    return [float(v) for v in evaluate(_family(versus)[1], totals)[versus.metric]]


def _paired(first: Group, second: Group, versus: Versus, level: int) -> tuple[float, float, float]:
    """Interval and p-value over units; the statistic is the mean of the metric over seeds."""
    a, b = _stack(first, versus, level), _stack(second, versus, level)
    common = math.lcm(a.shape[1], b.shape[1])
    # Repeating all seeds equally often leaves their mean unchanged.
    a, b = (np.repeat(x, common // x.shape[1], axis=1) for x in (a, b))
    family = _family(versus)[1]

    def statistic(counts: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float64]]:
        values = evaluate(family, counts, with_intervals=True)[versus.metric]
        return {versus.metric: values.mean(axis=-1)}

    try:
        _, low, high, p = paired(a, b, statistic)[versus.metric]
    except ValueError as error:
        raise LulcbenchError(
            f"{first.name} and {second.name} have counts for {versus.metric} ({versus.where}) at level {level} in "
            "fewer than two units.",
            "Change the comparison.",
        ) from error
    if math.isnan(low):
        raise LulcbenchError(
            f"{versus.metric} at level {level} is undefined without a particular block.", "Choose another metric."
        )
    return low, high, p


def _seed_half_width(runs: Sequence[Sequence[float]]) -> float:
    """Half-width of the 95 % interval of the difference of the means of two runs over seeds, or of one mean.

    Welch's; a run with a single seed is assumed to vary between seeds as the other does. 0 if neither has several.
    """
    known = [values for values in runs if len(values) > 1]
    if len(known) == 1:
        (values,) = known
        total = statistics.variance(values) * sum(1 / len(run) for run in runs)
        return t_quantile(len(values) - 1) * math.sqrt(total)
    parts = [(statistics.variance(values) / len(values), len(values) - 1) for values in known]
    total = sum(v for v, _ in parts)
    if not total:
        return 0.0
    degrees = total**2 / sum(v**2 / d for v, d in parts)
    return t_quantile(max(1, math.floor(degrees + 1e-9))) * math.sqrt(total)


def resolution_floor(groups: Sequence[Group], level: int) -> float | None:
    """Smallest difference in overall accuracy that the blocks of the split resolve between two single runs.

    It is the median half-width of the paired 95 % interval between two seeds of the same run, over all such pairs: what
    differs there is only the seed. None without runs of several seeds over two or more units.
    """
    halves = []
    for group in groups:
        if level in group.levels and len(group.counts) > 1:
            versus = Versus(first=group.name, second=group.name)
            for a, b in combinations(group.counts, 2):
                one, other = (Group(group.name, group.outcomes, {seed: group.counts[seed]}) for seed in (a, b))
                if len(one.counts[a].units) > 1:
                    low, high, _ = _paired(one, other, versus, level)
                    halves.append((high - low) / 2)
    return statistics.median(halves) if halves else None


def summary(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation over seeds; None if undefined."""
    if not values or any(map(math.isnan, values)):
        return None, None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
