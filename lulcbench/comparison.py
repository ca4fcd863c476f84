"""Is one submission better than another? Paired over spatial blocks, so that the difficulty of places cancels out."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from lulcbench import metrics
from lulcbench.bootstrap import Statistic, paired
from lulcbench.errors import LulcbenchError
from lulcbench.release import Frozen
from lulcbench.scores import SCORER_VERSION
from lulcbench.scoring_counts import count


class Difference(Frozen):
    """First minus second, with its 95 % interval and two-sided permutation p-value; see ``bootstrap.paired``."""

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
        blocks: spatial blocks, the units that were resampled.
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
    root: str | os.PathLike[str],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare two predictions files at every level that both have.

    Args:
        first: a predictions file.
        second: another, of the same split and years.
        root: folder of the release.
        advance: called with (tiles done, tiles in all), of both files together.

    Raises:
        LulcbenchError: a file is refused, they are of different splits or years, or there are fewer than two blocks.
    """
    a = count(first, root, lambda done, total: advance(done, 2 * total))
    b = count(second, root, lambda done, total: advance(total + done, 2 * total))
    if (a.info.split, a.info.years) != (b.info.split, b.info.years):
        raise LulcbenchError(
            f"{first} is of {a.info.split} {a.info.years}, {second} of {b.info.split} {b.info.years}.",
            "Compare predictions of one split and year.",
        )
    blocks, to_blocks = a.by(1)
    if len(blocks) < 2:
        raise LulcbenchError("The split has a single spatial block.", "A paired test needs two or more.")
    differences: list[Difference] = []
    for level in sorted(set(a.levels) & set(b.levels), reverse=True):
        parts: list[tuple[metrics.Counts, metrics.Counts, Statistic]] = [(a.at(level), b.at(level), metrics.summary)]
        if a.calibration and b.calibration:
            parts.append((a.calibration[level], b.calibration[level], metrics.calibration))
        if a.change:
            parts.append((a.change[level], b.change[level], _change))
        for x, y, statistic in parts:
            one, two = statistic(x.sum(axis=0)), statistic(y.sum(axis=0))
            found = paired(np.tensordot(to_blocks, x, 1), np.tensordot(to_blocks, y, 1), statistic)
            for metric, (difference, low, high, p) in found.items():
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
        release_digest=a.release.digest,
        simulated=a.release.simulated,
        first=a.sha256,
        second=b.sha256,
        blocks=len(blocks),
        # Swapping all blocks or none gives the observed size, whatever the data.
        smallest_p=max(2 / 2 ** min(len(blocks), 60), 1 / 1001),
        differences=tuple(differences),
    )


def _change(sums: metrics.Counts) -> dict[str, metrics.Floats]:
    return {f"change_{name}": values for name, values in metrics.change(sums).items()}
