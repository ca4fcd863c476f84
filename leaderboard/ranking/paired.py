"""Paired tests between results on the board, computed from the block counts in their ledger entries."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from leaderboard.ranking.table import harmless
from leaderboard.store.ledger import Entry
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.comparison import BlockCounts, Comparison, Difference, compare_blocks


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Test of one submission against the first of the compared ones.

    Attributes:
        submission: id of the submission.
        model: name of its model.
        comparison: the differences, this submission minus the first; None if they cannot be tested.
        why_not: the reason if they cannot be tested.
    """

    submission: str
    model: str
    comparison: Comparison | None
    why_not: str = ""

    @property
    def rows(self) -> dict[str, Difference]:
        """Metric → difference, in the order of tables."""
        return {row.metric: row for row in self.comparison.differences} if self.comparison else {}


def paired_tests(entries: Sequence[Entry], level: int) -> list[PairedTest]:
    """Test all other entries against the first, at one level."""
    first, *others = entries
    return [_test(first, other, level) for other in others]


def to_json(entries: Sequence[Entry], level: int, tests: Sequence[PairedTest]) -> dict[str, Any]:
    """The tests as JSON; ``difference`` is ``submission`` minus ``against``."""
    return {
        "release": entries[0].release_key,
        "level": level,
        "simulated": entries[0].simulated,
        "against": entries[0].submission,
        "tests": [
            {
                "submission": test.submission,
                "why_not": test.why_not or None,
                "blocks": test.comparison.blocks if test.comparison else None,
                "smallest_p": test.comparison.smallest_p if test.comparison else None,
                "differences": [
                    {"metric": name} | {key: getattr(row, key) for key in ("difference", "low", "high", "p", "blocks")}
                    for name, row in test.rows.items()
                ],
            }
            for test in tests
        ],
    }


def to_csv(entries: Sequence[Entry], level: int, tests: Sequence[PairedTest]) -> str:
    """The tests as CSV, one row per test and metric."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["submission", "model", "against", "level", "metric", "difference", "low", "high", "p", "blocks"])
    for test in tests:
        for name, row in test.rows.items():
            values = [row.difference, row.low, row.high, row.p, row.blocks]
            texts = [test.submission, harmless(test.model), entries[0].submission, level, name]
            writer.writerow([*texts, *values])
    return buffer.getvalue()


def _test(first: Entry, other: Entry, level: int) -> PairedTest:
    name = str(other.card["name"])
    if first.blocks is None or other.blocks is None:
        why = "One of the two is self-reported; the test needs predictions scored by the leaderboard."
        return PairedTest(other.submission, name, None, why)
    try:
        a, b = BlockCounts.read(other.blocks), BlockCounts.read(first.blocks)
        if level not in a.levels & b.levels:
            return PairedTest(other.submission, name, None, f"One of the two has no predictions of level {level}.")
        return PairedTest(other.submission, name, compare_blocks(a, b, (level,)))
    except LulcbenchError as error:
        return PairedTest(other.submission, name, None, f"{error.what} {error.remedy}")
