"""Intervals and paired tests over blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lulcbench import metrics
from lulcbench.bootstrap import intervals, paired
from lulcbench.comparison import compare
from lulcbench.errors import LulcbenchError
from lulcbench.predictions import PredictionWriter
from tests.lulcbench.label_release import make_release, smooth_codes


def accuracy(sums: np.ndarray) -> dict[str, np.ndarray]:
    return {"accuracy": sums[..., 0] / sums[..., 1]}


def test_interval_covers_as_often_as_it_says() -> None:
    """Blocks of one size with errors that go together: about 95 of 100 intervals hold the truth."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        right = rng.normal(700, 60, 40)
        found = intervals(np.stack([right, np.full(40, 1000)], axis=1), accuracy)
        low, high = found["accuracy"]
        held += low <= 0.7 <= high
    assert 88 <= held <= 99


def test_interval_by_hand() -> None:
    """Two blocks, all right and all wrong: a resample is 0, ½ or 1 with odds 1 : 2 : 1."""
    assert intervals(np.array([[10, 10], [0, 10]]), accuracy) == {"accuracy": (0.0, 1.0)}
    assert intervals(np.array([[10, 10]]), accuracy) == {}
    assert intervals(np.array([[7, 10]] * 5), accuracy) == {"accuracy": (0.7, 0.7)}


def test_figures_that_no_resample_defines_are_left_out() -> None:
    with np.errstate(invalid="ignore"):
        assert intervals(np.zeros((3, 2)), accuracy) == {}


def test_paired_test_sees_a_constant_lead_through_large_differences_between_places() -> None:
    rng = np.random.default_rng(1)
    right = rng.integers(200, 900, 30)
    a = np.stack([right + 10, np.full(30, 1000)], axis=1)
    b = np.stack([right, np.full(30, 1000)], axis=1)
    difference, low, high, p = paired(a, b, accuracy)["accuracy"]
    assert (difference, low, high) == (pytest.approx(0.01), pytest.approx(0.01), pytest.approx(0.01))
    assert p < 0.01
    ((low_a, high_a),) = intervals(a, accuracy).values()
    assert high_a - low_a > 0.05  # unpaired, the two would overlap


def test_paired_test_of_equals_is_calm() -> None:
    rng = np.random.default_rng(2)
    ps = []
    for _ in range(60):
        a, b = (np.stack([rng.integers(400, 600, 20), np.full(20, 1000)], axis=1) for _ in range(2))
        ps.append(paired(a, b, accuracy)["accuracy"][3])
    assert sum(p < 0.05 for p in ps) <= 8
    assert paired(a, a, accuracy)["accuracy"] == (0, 0, 0, 1)


def test_summary_takes_resamples_at_once() -> None:
    confusions = np.random.default_rng(0).integers(0, 50, (7, 5, 5))
    confusions[:, 2] = 0  # a class without labels counts nowhere in the means
    together = metrics.summary(confusions)
    for i, confusion in enumerate(confusions):
        for name, value in metrics.summary(confusion).items():
            assert together[name][i] == pytest.approx(float(value))
    recall = np.diagonal(confusions[0])[[0, 1, 3, 4]] / confusions[0].sum(axis=1)[[0, 1, 3, 4]]
    assert together["balanced_accuracy"][0] == pytest.approx(recall.mean())


def test_compare_two_submissions(tmp_path: Path) -> None:
    labels = smooth_codes(16, seed=0)
    root = tmp_path / "release"
    make_release(root, {2012: labels, 2018: labels})  # 8 blocks
    noise = smooth_codes(16, seed=1)
    rng = np.random.default_rng(2)
    for name, share in (("good", 0.9), ("bad", 0.8)):
        codes = np.where(rng.random(labels.shape) < share, labels, noise)
        with PredictionWriter(tmp_path / f"{name}.zip", root, "test", 2018) as writer:
            for row, tile in enumerate(writer.info.tiles):
                writer.write(tile, codes[row])
    result = compare(tmp_path / "good.zip", tmp_path / "bad.zip", root)
    assert result.blocks == 8
    assert result.smallest_p == pytest.approx(2 / 2**8)
    top = {d.metric: d for d in result.differences if d.level == 4}
    assert top["overall_accuracy"].difference == pytest.approx(0.1, abs=0.01)
    assert top["overall_accuracy"].low > 0.05
    assert top["overall_accuracy"].p < 0.05
    assert {d.level for d in result.differences} == {1, 2, 3, 4}
    with PredictionWriter(tmp_path / "other.zip", root, "test", 2012) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, labels[0])
    with pytest.raises(LulcbenchError, match="of one release, split and year"):
        compare(tmp_path / "good.zip", tmp_path / "other.zip", root)
