"""What the blocks of a split can tell apart: the resolution floor of a table, and groups of rows that are tied.

The standard error of the difference between two results is that of the jackknife over spatial blocks (Efron &
Tibshirani 1993, An Introduction to the Bootstrap, ch. 11): both scores are computed without each block in turn. A
summary keeps these scores (``summary.without_blocks``), so that a table needs no block counts. Differences are told
apart if they exceed the 97.5 % quantile of Student's t times the standard error, i.e. at 5 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation.intervals import jackknife_error, t_quantile
from lulcbench.evaluation.metrics import METRICS, RANKING

if TYPE_CHECKING:
    from leaderboard.ranking.table import Row


@dataclass(frozen=True)
class Resolution:
    """Resolution of a ranked table.

    Attributes:
        floor: smallest difference of the ranking metric that the blocks can tell at 5 %, the median over the pairs that
            were compared; None if none could be.
        blocks: number of spatial blocks.
        ties: submission → first and last rank of its group. Rows that cannot be told from the first row of their group
            are in it; a group of one is left out.
    """

    floor: float | None
    blocks: int
    ties: dict[str, tuple[int, int]]


def smallest_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Smallest difference of two scores that their blocks can tell at 5 %; NaN for fewer than two blocks.

    Args:
        a: score of one submission without each of the n blocks, ``(n,)``.
        b: the same of another.

    Examples:
        >>> smallest_difference([0.70, 0.72, 0.74], [0.60, 0.62, 0.64])  # blocks differ, the difference does not
        0.0
        >>> round(smallest_difference([0.70, 0.72, 0.74], [0.60, 0.66, 0.60]), 3)
        0.272
    """
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    error = jackknife_error(difference)
    return error if math.isnan(error) else round(t_quantile(len(difference) - 1) * error, 12)


def resolve(rows: Sequence[Row], level: int) -> Resolution:
    """Resolution of rows that are sorted by ``RANKING``, best first; rows that saw the labels are left out.

    Rows without scores by block, such as self-reported ones, are in no group and do not end one.
    """
    ranked = [(rank, row) for rank, row in enumerate((r for r in rows if not r.saw_labels), start=1)]
    known = [
        (rank, row, row.without_blocks[level], estimate.value)
        for rank, row in ranked
        if level in row.without_blocks and (estimate := row.estimate(level, RANKING))
    ]
    if not known:
        return Resolution(None, 0, {})
    blocks = len(known[0][2])
    floors: list[float] = []
    groups: list[list[tuple[int, str]]] = []
    leader = known[0]
    for entry in known:
        rank, row, without, value = entry
        if entry is leader:
            groups.append([(rank, row.id)])
            continue
        if len(without) != blocks:
            continue
        smallest = smallest_difference(leader[2], without)
        if math.isnan(smallest):
            continue
        floors.append(smallest)
        better = leader[3] - value if METRICS[RANKING].higher_is_better else value - leader[3]
        if better > smallest:
            leader = entry
            groups.append([(rank, row.id)])
        else:
            groups[-1].append((rank, row.id))
    ties = {name: (group[0][0], group[-1][0]) for group in groups if len(group) > 1 for _, name in group}
    return Resolution(statistics.median(floors) if floors else None, blocks, ties)
