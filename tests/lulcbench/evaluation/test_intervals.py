"""Intervals and paired tests over blocks."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import intervals as simulation
from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.comparison import BlockCounts, compare, compare_blocks
from lulcbench.evaluation.confusion import margins
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.intervals import intervals, paired, smallest_p, t_quantile
from lulcbench.evaluation.metrics import evaluate
from lulcbench.predictions import PredictionWriter

of_classes = partial(evaluate, Family.CLASSES)


def accuracy(sums: np.ndarray) -> dict[str, np.ndarray]:
    return {"accuracy": sums[..., 0] / sums[..., 1]}


def patchy(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """Margins ``(blocks, 3, 46)`` of patchy classes: 8 a block, of very different sizes.

    Accuracy is 70 % give or take what goes with the block; what is missed is mapped as any class.
    """
    size = np.zeros((blocks, 46))
    chosen = rng.random((blocks, 46)).argsort(axis=1)[:, :8]
    np.put_along_axis(size, chosen, 9000 * rng.dirichlet(np.full(8, 0.5), blocks), axis=1)
    correct = size * np.clip(rng.normal(0.7, 0.05, (blocks, 1)), 0, 1)
    missed = (size - correct).sum(axis=1, keepdims=True)
    return np.stack([correct, size, correct + missed / 46], axis=1)


# Over all blocks, a class has 1 / 46 of the label pixels and of what is missed.
PATCHY_MIOU = 0.7 / (1 + 0.3)


@pytest.mark.parametrize("blocks", [2, 3, 5, 8, 40])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_intervals_of_accuracy_cover_as_often_as_they_say(blocks: int, spread: float) -> None:
    """Errors that go together within blocks, of one size or of sizes that differ by a factor of e."""
    rng = np.random.default_rng(blocks)
    held = 0
    for _ in range(1000):
        pixels = 1000 * np.exp(rng.normal(0, spread, blocks))
        low, high = intervals(np.stack([pixels * rng.normal(0.7, 0.06, blocks), pixels], axis=1), accuracy)["accuracy"]
        held += low <= 0.7 <= high
    assert (0.93 if spread == 0 else 0.89) <= held / 1000 <= 0.97


@pytest.mark.parametrize("blocks", [3, 5, 8, 30, 100])
def test_intervals_of_miou_cover_as_often_as_they_say(blocks: int) -> None:
    """Of patchy classes, where mIoU over few blocks comes out lower than over many."""
    rng = np.random.default_rng(0)
    samples = [patchy(rng, blocks) for _ in range(60 if blocks == 100 else 150)]
    points = [float(of_classes(sample.sum(axis=0))["miou"]) for sample in samples]
    found = [intervals(sample, of_classes)["miou"] for sample in samples]
    assert all(low <= point <= high for (low, high), point in zip(found, points, strict=True))
    expected = np.mean(points)  # of a split of as many blocks
    assert expected < PATCHY_MIOU
    assert np.mean([low <= expected <= high for low, high in found]) >= 0.92
    if blocks == 100:
        assert np.mean([high - low for low, high in found]) < 0.05


@pytest.mark.parametrize("blocks", [10, 40])
def test_intervals_of_means_over_classes_hold_the_mean_of_such_splits(blocks: int) -> None:
    """The published simulation with fewer repetitions: bounds are 93 and 97 % and two standard errors."""
    population = simulation.POPULATIONS["14 classes"]
    shares = simulation.coverage(population, blocks, 200, ["jackknife t"], splits=1000)["jackknife t"]
    assert set(shares) == {"overall_accuracy", "miou", "macro_f1", "balanced_accuracy"}
    assert all(0.90 <= share <= 0.995 for share in shares.values()), shares
    assert np.mean(list(shares.values())) <= 0.985


def test_intervals_hold_the_figure_and_stay_in_its_range() -> None:
    rng = np.random.default_rng(4)
    for blocks in (2, 3, 10, 50):
        for _ in range(20):
            confusions = rng.integers(0, 60, (blocks, 5, 5)) * (rng.random((blocks, 5, 1)) < 0.4)
            point = of_classes(margins(confusions.sum(axis=0)))
            for name, (low, high) in intervals(margins(confusions), of_classes).items():
                assert 0 <= low <= float(point[name]) <= high <= 1
    # Log loss has no upper end, severity begins at 1.
    sums = rng.random((2, 5, 15)) * 10
    low, high = intervals(sums, partial(evaluate, Family.CALIBRATION))["log_loss"]
    assert low == 0
    assert high > 2
    found = intervals(np.array([[9, 4, 9, 30, 10], [9, 4, 4, 30, 10]]), partial(evaluate, Family.HIERARCHY))
    assert found["mistake_severity"][0] == 1


def test_interval_by_hand() -> None:
    """Of two blocks, one all right and one all wrong, draws are 0, 0.5 or 1: the interval says nothing."""
    assert intervals(np.array([[10, 10], [0, 10]]), accuracy) == {"accuracy": (0.0, 1.0)}
    assert intervals(np.array([[10, 10]]), accuracy) == {}
    assert intervals(np.array([[7, 10]] * 5), accuracy)["accuracy"] == pytest.approx((0.7, 0.7))
    right = np.array([600, 650, 700, 750, 800])  # of one size: the t interval of the mean
    low, high = intervals(np.stack([right, np.full(5, 1000)], axis=1), accuracy)["accuracy"]
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 4, 0.7, stats.sem(right / 1000)), rel=1e-9)
    with_empty = np.array([*zip(right, [1000] * 5, strict=True), (0, 0), (0, 0)])
    assert intervals(with_empty, accuracy)["accuracy"] == (low, high)


def test_t_quantile_agrees_with_scipy() -> None:
    for degrees in (*range(1, 60), 500, 2001):
        assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-12)


def test_figures_that_hang_on_one_block_have_no_interval() -> None:
    with np.errstate(invalid="ignore"):
        assert intervals(np.zeros((3, 2)), accuracy) == {}
    sums = np.array([[100, 20, 0, 0, 90], [100, 0, 0, 0, 80], [100, 0, 0, 0, 85]])  # one block alone has changes
    assert set(intervals(sums, partial(evaluate, Family.CHANGE))) == {"change_accuracy"}
    found = paired(sums, sums + np.array([0, 0, 5, 0, -5]), partial(evaluate, Family.CHANGE))
    assert np.isnan(found["change_recall"][1:3]).all()
    assert not np.isnan(found["change_accuracy"]).any()


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


def test_intervals_of_differences_cover_as_often_as_they_say() -> None:
    """Of mIoU of two models that differ by what goes with the block."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(60):
        first = patchy(rng, 8)
        lost = first[:, :1] * rng.uniform(0, 0.2, (8, 1, 1))
        second = first + np.concatenate([-lost, 0 * lost, lost.sum(axis=2, keepdims=True) / 46 - lost], axis=1)
        found.append(paired(first, second, of_classes)["miou"])
    assert all(low <= difference <= high for difference, low, high, _ in found)
    expected = np.mean([difference for difference, _, _, _ in found])
    assert np.mean([low <= expected <= high for _, low, high, _ in found]) >= 0.9


def test_paired_test_of_equals_is_calm() -> None:
    rng = np.random.default_rng(2)
    ps = []
    for _ in range(60):
        a, b = (np.stack([rng.integers(400, 600, 20), np.full(20, 1000)], axis=1) for _ in range(2))
        ps.append(paired(a, b, accuracy)["accuracy"][3])
    assert sum(p < 0.05 for p in ps) <= 8
    assert paired(a, a, accuracy)["accuracy"] == (0, 0, 0, 1)


@pytest.mark.parametrize("blocks", [2, 5, 7, 10])
def test_p_values_over_few_blocks_are_those_of_all_swaps(blocks: int) -> None:
    """Against an enumeration of its own, of differences of accuracies."""
    rng = np.random.default_rng(blocks)
    pixels = rng.integers(500, 1500, blocks)
    right, other = (np.minimum(rng.integers(200, 900, blocks), pixels) for _ in range(2))
    for first, second in ((right, other), (np.sort(right), np.sort(right) - rng.integers(5, 15, blocks))):
        every = [
            sum((x - y if keep else y - x) for x, y, keep in zip(first, second, kept, strict=True))
            for kept in itertools.product((True, False), repeat=blocks)
        ]
        expected = np.mean([abs(int(one)) >= abs(int(every[0])) for one in every])
        a, b = (np.stack([correct, pixels], axis=1) for correct in (first, second))
        assert paired(a, b, accuracy)["accuracy"].p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("blocks", range(2, 15))
def test_the_smallest_p_value_is_that_of_a_lead_in_every_block(blocks: int) -> None:
    a, b = (np.stack([np.full(blocks, right), np.full(blocks, 100)], axis=1) for right in (80, 60))
    p = paired(a, b, accuracy)["accuracy"].p
    assert p >= smallest_p(blocks)
    if blocks <= 10:
        assert p == smallest_p(blocks) == 2 / 2**blocks


def counts_of(right: int, labelled: int, sha256: str) -> BlockCounts:
    """Counts of six blocks with two classes, of which only the first ones have labelled pixels."""
    blocks = np.zeros((6, 3, 46), np.int64)
    blocks[:labelled, :, :2] = 1000
    blocks[:labelled, 0, :2] = right
    return BlockCounts(
        release_digest="0" * 64,
        simulated=True,
        predictions_sha256=sha256 * 64,
        split="test",
        source="luisa",
        years=(2018,),
        blocks=tuple("abcdef"),
        sums={"classes": {4: blocks.tolist()}},
    )


def test_blocks_without_labelled_pixels_do_not_count() -> None:
    result = compare_blocks(counts_of(900, 4, "a"), counts_of(500, 4, "b"))
    assert (result.blocks, result.smallest_p) == (4, 0.125)
    assert {(row.p, row.blocks) for row in result.differences} == {(0.125, 4)}
    with pytest.raises(LulcbenchError, match=r"6 spatial block\(s\), 1 of them with labelled pixels"):
        compare_blocks(counts_of(900, 1, "a"), counts_of(500, 1, "b"))
    one = np.array([[50, 100], [0, 0]])
    with pytest.raises(ValueError, match="two blocks with counts"):
        paired(one, one, accuracy)


def test_summary_takes_resamples_at_once() -> None:
    confusions = np.random.default_rng(0).integers(0, 50, (7, 5, 5))
    confusions[:, 2] = 0  # a class without labels counts nowhere in the means
    together = of_classes(margins(confusions))
    for i, confusion in enumerate(confusions):
        for name, value in of_classes(margins(confusion)).items():
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
    assert all(d.low <= d.difference <= d.high for d in result.differences)
    assert top["hierarchical_f1"].low > 0
    assert top["hierarchical_f1"].p < 0.05
    assert -1 < top["mistake_severity"].difference < 1
    assert not any(d.metric == "hierarchical_f1" for d in result.differences if d.level < 4)
    assert {d.level for d in result.differences} == {1, 2, 3, 4}
    with PredictionWriter(tmp_path / "other.zip", root, "test", 2012) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, labels[0])
    with pytest.raises(LulcbenchError, match="of one release, split and year"):
        compare(tmp_path / "good.zip", tmp_path / "other.zip", root)
