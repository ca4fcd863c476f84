"""Scores of predictions: streaming, exact in its counts, free of torch.

``score`` makes one pass over predictions and labels (``counts``) and derives every figure from the counts
(``metrics``), with 95 % intervals over spatial blocks (``intervals``).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation import metrics
from lulcbench.evaluation.counts import Counts, count
from lulcbench.evaluation.intervals import intervals
from lulcbench.evaluation.scores import (
    Calibration,
    ChangeScores,
    ClassScores,
    HierarchicalScores,
    Interval,
    LevelScores,
    PartScores,
    ReliabilityBin,
    Scores,
    Transition,
)
from lulcbench.legend import legend
from lulcbench.predictions import Predictions
from lulcbench.release import Release

__all__ = ["Scores", "score", "summarise"]


def score(
    predictions: str | os.PathLike[str],
    release: str | os.PathLike[str] | Release,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Score a predictions file against the labels of a release, where they live: on the 50 m grid.

    Args:
        predictions: file made by ``PredictionWriter``.
        release: the release, opened, or its folder; its index and labels of that split and year are needed, imagery is
            not.
        advance: called with (tiles done, tiles in all), for a progress bar.

    Returns:
        Scores at the level of the predictions and all coarser ones, which follow by lookup.

    Raises:
        LulcbenchError: the file is refused, or the release's labels are missing or altered.
    """
    with Predictions.open(predictions, release) as opened:
        return summarise(count(opened, advance))


def summarise(counts: Counts) -> Scores:
    """Every figure that follows from the counts."""
    info = counts.info
    return Scores(
        release=counts.release.id,
        release_digest=counts.release.digest,
        simulated=counts.release.simulated,
        predictions_sha256=counts.sha256,
        task=info.task,
        split=info.split,
        years=tuple(info.years),
        level=info.level,
        tiles=len(counts.tiles),
        blocks=len(set(counts.tiles.blocks)),
        levels={level: _level(counts, level) for level in reversed(counts.levels)},
        hierarchical=_hierarchical(counts),
        change=tuple(_change(counts, level) for level in reversed(counts.levels)) if counts.change else None,
    )


def _level(counts: Counts, level: int) -> LevelScores:
    groups = counts.at(level)
    confusion = groups.sum(axis=0)
    _, to_blocks = counts.by(1)
    found = intervals(np.tensordot(to_blocks, metrics.margins(groups), 1), metrics.summary_of_margins)
    calibration = None
    if counts.calibration:
        sums = counts.calibration[level]
        calibration = _calibration(sums.sum(axis=0))
        found |= intervals(np.tensordot(to_blocks, sums, 1), metrics.calibration)
    figures = {name: _zero(value) for name, value in metrics.summary(confusion).items()}
    return LevelScores(
        level=level,
        pixels=int(confusion.sum()),
        **figures,
        calibration=calibration,
        intervals=_intervals(found),
        classes=_classes(confusion, level),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
        boundary=_boundary(counts, level),
        regions=tuple(_part(name, np.tensordot(member, groups, 1)) for name, member in zip(*counts.by(0), strict=True)),
        groups=_class_groups(confusion, level),
    )


def _classes(confusion: npt.NDArray[np.int64], level: int) -> tuple[ClassScores, ...]:
    table = metrics.per_class(confusion)
    return tuple(
        ClassScores(
            code=code,
            name=name,
            support=int(table["support"][i]),
            predicted=int(table["predicted"][i]),
            precision=_or_none(table["precision"][i]),
            recall=_or_none(table["recall"][i]),
            f1=_or_none(table["f1"][i]),
            iou=_or_none(table["iou"][i]),
        )
        for i, (code, name) in enumerate(zip(legend().codes(level), legend().names(level), strict=True))
    )


def _calibration(sums: npt.NDArray[np.float64]) -> Calibration:
    pixels, confidence, correct, _, _ = sums
    means = zip(pixels, metrics.divide(confidence, pixels), metrics.divide(correct, pixels), strict=True)
    return Calibration(
        **{name: _zero(value) for name, value in metrics.calibration(sums).items()},
        reliability=tuple(
            ReliabilityBin(pixels=int(n), confidence=_or_none(c), accuracy=_or_none(a)) for n, c, a in means
        ),
    )


def _boundary(counts: Counts, level: int) -> tuple[PartScores, ...]:
    depths = metrics.confusion_at(counts.edges, counts.info.level, level)
    first = 5 - level  # an edge at a coarser level is one at this level too
    return (_part("edge", depths[first:].sum(axis=0)), _part("interior", depths[:first].sum(axis=0)))


def _class_groups(confusion: npt.NDArray[np.int64], level: int) -> tuple[PartScores, ...]:
    parents = legend().parents(level, 1)
    classes = metrics.per_class(confusion)
    parts = []
    for group, name in enumerate(legend().names(1)):
        inside = parents == group
        present = inside & (classes["support"] > 0)
        pixels = int(classes["support"][inside].sum())
        parts.append(
            PartScores(
                name=name,
                pixels=pixels,
                overall_accuracy=float(np.diagonal(confusion)[inside].sum() / pixels) if pixels else None,
                miou=float(classes["iou"][present].mean()) if pixels else None,
                macro_f1=float(classes["f1"][present].mean()) if pixels else None,
            )
        )
    return tuple(parts)


def _part(name: str, confusion: npt.NDArray[np.generic]) -> PartScores:
    figures = metrics.summary(confusion.astype(np.float64))
    return PartScores(
        name=name,
        pixels=int(confusion.astype(np.int64).sum()),
        overall_accuracy=_or_none(figures["overall_accuracy"]),
        miou=_or_none(figures["miou"]),
        macro_f1=_or_none(figures["macro_f1"]),
    )


def _hierarchical(counts: Counts) -> HierarchicalScores:
    groups = metrics.hierarchy_sums(counts.confusion, counts.info.level)
    sums = groups.sum(axis=0)
    _, to_blocks = counts.by(1)
    figures = metrics.hierarchical(sums)
    found = intervals(to_blocks @ groups, metrics.hierarchical)
    return HierarchicalScores(
        pixels=int(sums[0]),
        mistake_severity=_or_none(figures["mistake_severity"]),
        mean_height=_zero(figures["mean_height"]),
        f1=_zero(figures["hierarchical_f1"]),
        intervals=_intervals({name.removeprefix("hierarchical_"): found[name] for name in found}),
    )


def _change(counts: Counts, level: int) -> ChangeScores:
    groups = counts.change[level]
    sums = groups.sum(axis=0)
    label, predicted, correct = counts.transitions[level]
    codes = legend().codes(level)
    rows = []
    for i, j in zip(*np.nonzero(label), strict=True):
        if i != j:
            support, said, right = int(label[i, j]), int(predicted[i, j]), int(correct[i, j])
            rows.append(
                Transition(
                    from_code=codes[i],
                    to_code=codes[j],
                    support=support,
                    predicted=said,
                    correct=right,
                    f1=2 * right / (support + said),
                )
            )
    rows.sort(key=lambda row: (-row.support, row.from_code, row.to_code))
    _, to_blocks = counts.by(1)
    figures = {name: _or_none(value) for name, value in metrics.change(sums.astype(np.float64)).items()}
    return ChangeScores(
        level=level,
        pixels=int(sums[0]),
        changed=int(sums[1] + sums[3]),
        predicted_changed=int(sums[1] + sums[2]),
        precision=figures["precision"],
        recall=figures["recall"],
        f1=figures["f1"],
        iou=figures["iou"],
        accuracy=figures["accuracy"] or 0.0,
        from_to_f1=float(np.mean([row.f1 for row in rows])) if rows else None,
        intervals=_intervals(intervals(to_blocks @ groups, metrics.change)),
        transitions=tuple(rows),
    )


def _intervals(found: dict[str, tuple[float, float]]) -> dict[str, Interval]:
    return {name: Interval(low=low, high=high) for name, (low, high) in found.items()}


def _or_none(value: float | npt.NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else float(value)


def _zero(value: npt.NDArray[np.float64]) -> float:
    """The figure, or 0 where no pixel could be judged."""
    return float(np.nan_to_num(value))
