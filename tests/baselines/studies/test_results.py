"""What studies compute from counts of predictions, without training."""

from __future__ import annotations

import numpy as np

from baselines.predicting.unit_counts import FLAT, UnitCounts
from baselines.studies.results import Group, resolution_floor


def _counts(right: list[int], level: int) -> UnitCounts:
    """One patch per unit, of one class of two; ``right`` says which are predicted correctly."""
    units, hit = len(right), np.array(right)
    counts = np.zeros((units, 3, 2))
    counts[:, 0, 0], counts[:, 1, 0] = hit, 1  # correct, labelled, predicted
    counts[:, 2, 0], counts[:, 2, 1] = hit, 1 - hit
    return UnitCounts(
        unit="patches",
        split="test",
        units=tuple(map(str, range(units))),
        sums={("classes", level): counts},
        classes={level: ("forest", "water")},
    )


def test_resolution_floor_of_legends_with_and_without_levels() -> None:
    first, second = [1, 1, 1, 0] * 25, [1, 1, 0, 1] * 25  # half of the patches differ, by +1 or by −1
    for level in (FLAT, 1):
        group = Group("net", {}, {0: _counts(first, level), 1: _counts(second, level)})
        floor = resolution_floor([group], level)
        assert floor is not None
        # Sd of the difference of a patch is √.5; of the mean of 100 patches it is a tenth of that.
        assert abs(floor - 1.96 * np.sqrt(0.5) / 10) < 0.015
        assert resolution_floor([group], 3) is None
        assert resolution_floor([Group("net", {}, {0: _counts(first, level)})], level) is None
