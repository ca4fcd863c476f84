"""Scoring of predictions: streaming, with exact counts, without torch.

``score`` makes one pass over predictions and labels (``counts``) and derives every metric from the counts
(``metrics``), with 95 % intervals over spatial blocks (``intervals``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation.comparison import BlockCounts
from lulcbench.evaluation.confusion import confusion_at, divide, margins
from lulcbench.evaluation.counts import Counts, count
from lulcbench.evaluation.families import CalibrationSums, ChangeSums, ClassCounts, Family, TransitionCounts
from lulcbench.evaluation.intervals import intervals
from lulcbench.evaluation.metrics import METRICS, evaluate, shown_in
from lulcbench.evaluation.scores import (
    SCORER_VERSION,
    ChangePixels,
    ClassScores,
    Estimate,
    LevelScores,
    ReliabilityBin,
    Scores,
    SubsetScores,
    Transition,
)
from lulcbench.legend import legend
from lulcbench.predictions import Predictions
from lulcbench.predictions.format import task_of
from lulcbench.release import AUTO, Release

__all__ = ["Scores", "estimates", "score", "summarise", "with_intervals"]


def score(
    predictions: str | os.PathLike[str],
    release: str | os.PathLike[str] | Release,
    advance: Callable[[int, int], None] = lambda done, total: None,
    source: str = AUTO,
) -> Scores:
    """Score a predictions file against the labels of a release, where they live: on the 50 m grid.

    Args:
        predictions: file made by ``PredictionWriter``.
        release: the release, opened, or its folder; its index and labels of that split are needed, imagery is not.
        advance: called with (tiles done, tiles in all), for a progress bar.
        source: of the labels, such as ``luisa`` or ``corine``; by default LUISA, or the only one.

    Returns:
        Scores at the level of the predictions and all coarser ones, which follow by lookup, over all years that have
        labels.

    Raises:
        NotAvailableError: the release has no such labels of the split, or of none of the years.
        CorruptFileError: the labels are missing or altered.
        LulcbenchError: the file is refused.

    Examples:
        >>> from lulcbench import PredictionWriter
        >>> with PredictionWriter("forest.zip", root, "test", year=2018) as writer:
        ...     for tile in writer.info.tiles:
        ...         writer.write(tile, np.full((96, 96), 3110))
        >>> scores = score("forest.zip", root)
        >>> scores.level, scores.blocks, sorted(scores.levels)
        (4, 2, [1, 2, 3, 4])
        >>> scores.levels[1]["overall_accuracy"] >= scores.levels[4]["overall_accuracy"]
        True
    """
    with Predictions.open(predictions, release) as opened:
        return summarise(count(opened, advance, source))


def summarise(counts: Counts) -> Scores:
    """Compute scores from counts."""
    info = counts.info
    return Scores(
        release=counts.release.id,
        release_digest=counts.release.data_digest,
        simulated=counts.release.simulated,
        predictions_sha256=counts.sha256,
        source=counts.source,
        task=task_of(counts.years),
        split=info.split,
        years=counts.years,
        unscored_years=tuple(year for year in info.years if year not in counts.years),
        level=info.level,
        tiles=len(counts.tiles),
        blocks=len(counts.blocks),
        levels={level: _level(counts, level) for level in reversed(counts.levels)},
    )


def estimates(family: Family, total: npt.NDArray[Any], blocks: npt.NDArray[Any] | None = None) -> dict[str, Estimate]:
    """Estimates of the defined metrics of a family, in the order of ``METRICS``.

    Args:
        family: family of the counts.
        total: counts over all pixels.
        blocks: counts of each spatial block, ``(n, …)``; None omits intervals.
    """
    bounds = {} if blocks is None else intervals(blocks, partial(evaluate, family, with_intervals=True))
    return {
        name: Estimate(float(value), *bounds.get(name, ()))
        for name, value in evaluate(family, total).items()
        if not math.isnan(value)
    }


def with_intervals(scores: Scores, blocks: BlockCounts) -> Scores:
    """Scores whose intervals are computed again from the counts of the blocks, by the method of this version.

    Scores of another scorer version, and metrics without counts by block, are unchanged.

    Args:
        scores: scores of any version.
        blocks: their counts by block (``comparison.block_counts``).
    """
    if scores.scorer_version != SCORER_VERSION or blocks.scorer_version != SCORER_VERSION:
        return scores
    levels = {}
    for number, level in scores.levels.items():
        metrics = dict(level.metrics)
        for family in Family:
            counts = np.asarray(blocks.sums.get(family, {}).get(number, ()), np.float64)
            if not len(counts):
                continue
            for name, (low, high) in intervals(counts, partial(evaluate, family, with_intervals=True)).items():
                if name in metrics and low <= (value := metrics[name].value) <= high:
                    metrics[name] = Estimate(value, low, high)
        levels[number] = level.model_copy(update={"metrics": metrics})
    return scores.model_copy(update={"levels": levels})


def _level(counts: Counts, level: int) -> LevelScores:
    metrics: dict[str, Estimate] = {}
    for family in Family:
        strata = counts.of(family, level)
        if strata is not None:
            metrics |= estimates(family, strata.sum(axis=0), counts.by_block(strata) if family.by_block else None)
    strata = counts.confusion_at(level)
    confusion = strata.sum(axis=0)
    regions = counts.by_region(margins(strata))
    return LevelScores(
        level=level,
        pixels=int(confusion.sum()),
        metrics={name: metrics[name] for name in METRICS if name in metrics},
        classes=_classes(confusion, level),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        reliability=_reliability(counts.of(Family.CALIBRATION, level)),
        change=_change(counts, level),
        regions=tuple(_subset(name, pixels) for name, pixels in zip(counts.regions, regions, strict=True)),
        boundary=_boundary(counts, level),
        superclasses=_superclasses(confusion, level),
    )


def _classes(confusion: npt.NDArray[np.int64], level: int) -> tuple[ClassScores, ...]:
    pixels = ClassCounts(*margins(confusion))
    return tuple(
        ClassScores(
            code=code,
            name=name,
            support=int(pixels.support[i]),
            predicted=int(pixels.predicted[i]),
            precision=_or_none(pixels.precision[i]),
            recall=_or_none(pixels.recall[i]),
            f1=_or_none(pixels.f1[i]),
            iou=_or_none(pixels.iou[i]),
        )
        for i, (code, name) in enumerate(zip(legend().codes(level), legend().names(level), strict=True))
    )


def _reliability(strata: npt.NDArray[Any] | None) -> tuple[ReliabilityBin, ...]:
    if strata is None:
        return ()
    sums = CalibrationSums(*strata.sum(axis=0))
    means = zip(sums.pixels, divide(sums.confidence, sums.pixels), divide(sums.correct, sums.pixels), strict=True)
    return tuple(ReliabilityBin(pixels=int(n), confidence=_or_none(c), accuracy=_or_none(a)) for n, c, a in means)


def _change(counts: Counts, level: int) -> ChangePixels | None:
    strata = counts.of(Family.CHANGE, level)
    if strata is None:
        return None
    sums = ChangeSums(*strata.sum(axis=0))
    pairs = TransitionCounts(*counts.transitions[level])
    codes = legend().codes(level)
    rows = []
    for i, j in zip(*np.nonzero(pairs.label), strict=True):
        if i != j:
            support, predicted, correct = (int(matrix[i, j]) for matrix in pairs)
            rows.append(
                Transition(
                    from_code=codes[i],
                    to_code=codes[j],
                    support=support,
                    predicted=predicted,
                    correct=correct,
                    f1=2 * correct / (support + predicted),
                )
            )
    rows.sort(key=lambda row: (-row.support, row.from_code, row.to_code))
    return ChangePixels(
        pixels=int(sums.pixels),
        changed=int(sums.changed_in_both + sums.changed_in_label),
        predicted_changed=int(sums.changed_in_both + sums.changed_in_prediction),
        transitions=tuple(rows),
    )


def _boundary(counts: Counts, level: int) -> tuple[SubsetScores, ...]:
    depths = margins(confusion_at(counts.edges, counts.info.level, level))
    first = 5 - level  # an edge at a coarser level is also an edge at this level
    return (_subset("edge", depths[first:].sum(axis=0)), _subset("interior", depths[:first].sum(axis=0)))


def _superclasses(confusion: npt.NDArray[np.int64], level: int) -> tuple[SubsetScores, ...]:
    parents, pixels = legend().parents(level, 1), margins(confusion)
    return tuple(_subset(name, pixels[:, parents == i]) for i, name in enumerate(legend().names(1)))


def _subset(name: str, counts: npt.NDArray[Any]) -> SubsetScores:
    """Scores over class counts ``(3, n)``."""
    shown = shown_in("subsets")
    metrics = {key: estimate for key, estimate in estimates(Family.CLASSES, counts).items() if key in shown}
    return SubsetScores(name=name, pixels=int(counts[1].sum()), metrics=metrics)


def _or_none(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
