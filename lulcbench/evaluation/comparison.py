"""Is one submission better than another? Paired over spatial blocks, so that the difficulty of places cancels out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import metrics
from lulcbench.evaluation.counts import Counts, count
from lulcbench.evaluation.intervals import DRAWS, Statistic, paired
from lulcbench.evaluation.scores import SCORER_VERSION
from lulcbench.legend import LEVELS
from lulcbench.predictions import Predictions
from lulcbench.release import Release


class BlockCounts(Frozen):
    """What a comparison needs of a scoring, so that neither predictions nor labels are read again.

    Attributes:
        blocks: spatial blocks of the split, in the order of what follows.
        margins: level → integers ``(block, 3, class)``, see ``metrics.margins``.
        calibration: level → ``(block, 5, 15)`` sums, see ``metrics.CALIBRATION_SUMS``; empty without probabilities.
        change: level → integers ``(block, 5)``, see ``metrics.CHANGE_SUMS``; empty unless the task is change.
        hierarchy: integers ``(block, 5)``, see ``metrics.HIERARCHY_SUMS``, at the level of the predictions.
    """

    scorer_version: str = SCORER_VERSION
    release_digest: str
    simulated: bool
    predictions_sha256: str
    split: str
    years: tuple[int, ...]
    blocks: tuple[str, ...]
    margins: dict[int, tuple[tuple[tuple[int, ...], ...], ...]]
    calibration: dict[int, tuple[tuple[tuple[float, ...], ...], ...]]
    change: dict[int, tuple[tuple[int, ...], ...]]
    hierarchy: tuple[tuple[int, ...], ...] = ()  # absent from counts of scorer 1.0


class Difference(Frozen):
    """First minus second, with its 95 % interval and two-sided permutation p-value; see ``intervals.paired``."""

    level: int
    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


class Comparison(Frozen):
    """Two predictions of the same split and year of the same release.

    Attributes:
        first, second: SHA-256 of the predictions files.
        blocks: spatial blocks, the units that were drawn and swapped.
        differences: those of the hierarchical scores stand at the level of the predictions, if it is the same of both.
        smallest_p: smallest p-value that so many blocks can give: with few of them no difference is ever significant.
    """

    scorer_version: str = SCORER_VERSION
    release_digest: str
    simulated: bool
    first: str
    second: str
    blocks: int
    smallest_p: float
    differences: tuple[Difference, ...]


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    release: str | os.PathLike[str] | Release,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare two predictions files at every level that both have.

    Args:
        first: a predictions file.
        second: another, of the same split and years.
        release: the release, opened, or its folder.
        advance: called with (tiles done, tiles in all), of both files together.

    Raises:
        LulcbenchError: a file is refused, they are of different splits or years, or there are fewer than two blocks.
    """
    opened = Release.open(release)
    with Predictions.open(first, opened) as predictions:
        a = block_counts(count(predictions, lambda done, total: advance(done, 2 * total)))
    with Predictions.open(second, opened) as predictions:
        b = block_counts(count(predictions, lambda done, total: advance(total + done, 2 * total)))
    return compare_blocks(a, b)


def block_counts(counts: Counts) -> BlockCounts:
    """What a later comparison needs of a scoring."""
    blocks, to_blocks = counts.by(1)

    def sums(groups: npt.NDArray[Any]) -> Any:
        return np.tensordot(to_blocks, groups, 1).astype(groups.dtype).tolist()

    return BlockCounts(
        release_digest=counts.release.digest,
        simulated=counts.release.simulated,
        predictions_sha256=counts.sha256,
        split=counts.info.split,
        years=tuple(counts.info.years),
        blocks=blocks,
        margins={level: sums(metrics.margins(counts.at(level))) for level in counts.levels},
        calibration={level: sums(part) for level, part in counts.calibration.items()},
        change={level: sums(part) for level, part in counts.change.items()},
        hierarchy=sums(metrics.hierarchy_sums(counts.confusion, counts.info.level)),
    )


def compare_blocks(a: BlockCounts, b: BlockCounts, levels: Collection[int] = LEVELS) -> Comparison:
    """Compare two scorings by their counts alone.

    Args:
        a: of one submission.
        b: of another, of the same release, split and years.
        levels: of them, those that both have are compared.

    Raises:
        LulcbenchError: they are of different releases, scorers, splits or years, or there are fewer than two blocks.
    """
    for name in ("scorer_version", "release_digest", "split", "years", "blocks"):
        if getattr(a, name) != getattr(b, name):
            raise LulcbenchError(
                f"The two differ in {name.replace('_', ' ')}.", "Compare predictions of one release, split and year."
            )
    if len(a.blocks) < 2:
        raise LulcbenchError("The split has a single spatial block.", "A paired test needs two or more.")
    differences: list[Difference] = []
    for level in sorted(set(a.margins) & set(b.margins) & set(levels), reverse=True):
        parts: list[tuple[Any, Any, Statistic]] = [(a.margins[level], b.margins[level], metrics.summary_of_margins)]
        if a.hierarchy and b.hierarchy and max(a.margins) == max(b.margins) == level:
            parts.append((a.hierarchy, b.hierarchy, metrics.hierarchical))
        if a.calibration and b.calibration:
            parts.append((a.calibration[level], b.calibration[level], metrics.calibration))
        if a.change:
            parts.append((a.change[level], b.change[level], _change))
        for first, second, statistic in parts:
            x, y = np.array(first, np.float64), np.array(second, np.float64)
            one, two = statistic(x.sum(axis=0)), statistic(y.sum(axis=0))
            for metric, (difference, low, high, p) in paired(x, y, statistic).items():
                # Undefined for one of them, such as F1 without changes, or without one of the blocks.
                if math.isnan(difference) or math.isnan(low):
                    continue
                differences.append(
                    Difference(
                        level=level,
                        metric=metric,
                        first=float(one[metric]),
                        second=float(two[metric]),
                        difference=difference,
                        low=low,
                        high=high,
                        p=p,
                    )
                )
    return Comparison(
        release_digest=a.release_digest,
        simulated=a.simulated,
        first=a.predictions_sha256,
        second=b.predictions_sha256,
        blocks=len(a.blocks),
        # Swapping all blocks or none gives the observed size, whatever the data.
        smallest_p=max(2 / 2 ** min(len(a.blocks), 60), 1 / (DRAWS + 1)),
        differences=tuple(differences),
    )


def _change(sums: metrics.Counts) -> dict[str, metrics.Floats]:
    return {f"change_{name}": values for name, values in metrics.change(sums).items()}
