"""Scores against hand-computed cases, scikit-learn and torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation import _pixels
from lulcbench.evaluation.confusion import confusion_at
from lulcbench.evaluation.scores import Scores
from lulcbench.evaluation.scoring import score
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.legend.tables import node_lookup, nodes
from lulcbench.predictions import PredictionWriter
from lulcbench.predictions.format import dequantise, quantise


def write(
    path: Path,
    root: Path,
    codes: np.ndarray,
    probabilities: np.ndarray | None = None,
    level: int = 4,
    year: int | Sequence[int] = 2018,
) -> Path:
    with PredictionWriter(path, root, "test", year, level, probabilities is not None) as writer:
        for row, tile in enumerate(writer.info.tiles):
            writer.write(tile, codes[row], None if probabilities is None else probabilities[row])
    return path


def softmax_around(codes: np.ndarray, seed: int) -> np.ndarray:
    """Random class probabilities (n, 46, 96, 96) that lean to the given classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(codes), 46, 96, 96))
    index = legend().encode(codes, 4)[:, None].astype(np.intp)
    np.put_along_axis(logits, index, np.take_along_axis(logits, index, 1) + 2.5, axis=1)
    values = np.exp(logits)
    return values / values.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scores, np.ndarray, np.ndarray, np.ndarray]:
    """Scores of random predictions, and what they were made of: labels with nodata and coarse codes."""
    folder = tmp_path_factory.mktemp("scored")
    truth = smooth_codes(4, seed=1)
    labels = truth.copy()
    rng = np.random.default_rng(2)
    labels[rng.random(labels.shape) < 0.05] = 0
    labels[np.isin(labels, (1121, 1122, 1123))] = 112  # CORINE cannot say more
    make_release(folder / "release", {2018: labels}, regions=["a", "a", "b", "b"], blocks=["B1", "B2", "B3", "B4"])
    probabilities = softmax_around(truth, seed=3)
    codes = legend().decode(probabilities.argmax(axis=1), 4)
    write(folder / "p.zip", folder / "release", codes, probabilities)
    return score(folder / "p.zip", folder / "release"), labels, codes, probabilities


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_confusion_and_classes_agree_with_scikit_learn(
    scored: tuple[Scores, np.ndarray, np.ndarray, np.ndarray], level: int
) -> None:
    scores, labels, codes, _ = scored
    truth, guess = legend().encode(labels, level).ravel(), legend().encode(codes, level).ravel()
    known = truth != IGNORE_INDEX
    truth, guess = truth[known], guess[known]
    mine = scores.levels[level]
    n = len(legend().codes(level))
    assert np.array_equal(mine.confusion, sk.confusion_matrix(truth, guess, labels=range(n)))
    assert mine.pixels == truth.size
    f1 = sk.f1_score(truth, guess, labels=range(n), average=None, zero_division=0)
    assert [row.f1 or 0 for row in mine.classes] == pytest.approx(f1)


@pytest.mark.parametrize("level", [1, 4])
def test_agrees_with_torchmetrics(scored: tuple[Scores, np.ndarray, np.ndarray, np.ndarray], level: int) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    scores, labels, codes, _ = scored
    truth = torch.tensor(legend().encode(labels, level).astype(int)).ravel()
    guess = torch.tensor(legend().encode(codes, level).astype(int)).ravel()
    n = len(legend().codes(level))
    options = {"num_classes": n, "ignore_index": IGNORE_INDEX, "average": None}
    recall = functional.multiclass_accuracy(guess, truth, **options)
    iou = functional.multiclass_jaccard_index(guess, truth, **options)
    for row, r, i in zip(scores.levels[level].classes, recall, iou, strict=True):
        if row.support:
            assert row.recall == pytest.approx(float(r), abs=1e-6)
            assert row.iou == pytest.approx(float(i), abs=1e-6)


def test_calibration_agrees_with_scikit_learn_and_torchmetrics(
    scored: tuple[Scores, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    scores, labels, _, probabilities = scored
    stored = np.stack([dequantise(quantise(part)) for part in probabilities]).transpose(0, 2, 3, 1).reshape(-1, 46)
    truth = legend().encode(labels, 4).ravel()
    known = truth != IGNORE_INDEX
    truth, stored = truth[known].astype(int), stored[known].astype(np.float64)
    mine = scores.levels[4]
    stored /= stored.sum(axis=1, keepdims=True)
    assert mine["log_loss"] == pytest.approx(sk.log_loss(truth, stored, labels=range(46)), rel=1e-5)
    one_hot = np.eye(46)[truth]
    assert mine["brier"] == pytest.approx(((stored - one_hot) ** 2).sum(axis=1).mean(), rel=1e-5)
    ece = functional.multiclass_calibration_error(
        torch.tensor(stored), torch.tensor(truth), num_classes=46, n_bins=15, norm="l1"
    )
    # Rounding to 8 bits can tie two classes, so a few pixels differ in which of them is called the prediction.
    assert mine["ece"] == pytest.approx(float(ece), abs=2e-3)
    assert sum(b.pixels for b in mine.reliability) == truth.size
    exact = sk.log_loss(truth, probabilities.transpose(0, 2, 3, 1).reshape(-1, 46)[known], labels=range(46))
    assert mine["log_loss"] == pytest.approx(exact, abs=2e-3)


def test_coarse_levels_sum_probabilities(scored: tuple[Scores, np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, labels, _, probabilities = scored
    parents = legend().parents(4, 1)
    stored = np.stack([dequantise(quantise(part)) for part in probabilities]).transpose(0, 2, 3, 1).reshape(-1, 46)
    summed = np.stack([stored[:, parents == i].sum(axis=1) for i in range(5)], axis=1).astype(np.float64)
    truth = legend().encode(labels, 1).ravel()
    known = truth != IGNORE_INDEX
    expected = -np.log(summed[known, truth[known]]).mean()
    assert scores.levels[1]["log_loss"] == pytest.approx(expected, rel=1e-5)


def test_regions_boundary_and_groups_partition(scored: tuple[Scores, np.ndarray, np.ndarray, np.ndarray]) -> None:
    scores, labels, codes, _ = scored
    for level in scores.levels.values():
        assert sum(part.pixels for part in level.boundary) == level.pixels
        assert sum(part.pixels for part in level.regions) == level.pixels
        assert sum(part.pixels for part in level.superclasses) == level.pixels
    truth, guess = legend().encode(labels, 2), legend().encode(codes, 2)
    assert [part.name for part in scores.levels[2].regions] == ["a", "b"]
    known = truth[:2] != IGNORE_INDEX
    expected = (truth[:2] == guess[:2])[known].mean()
    assert scores.levels[2].regions[0]["overall_accuracy"] == pytest.approx(expected)
    group = scores.levels[2].superclasses[0]  # artificial surfaces
    artificial = np.isin(truth, np.flatnonzero(legend().parents(2, 1) == 0))
    assert group["overall_accuracy"] == pytest.approx((truth == guess)[artificial].mean())


def test_edges_by_hand() -> None:
    codes = np.array([[1121, 1122, 1122, 0], [1121, 1122, 1210, 1210], [3110, 3110, 1210, 1210]], np.uint16)
    # 1121|1122 differ at level 4 (1), 112|121 at level 2 (3), 311|1xx and nodata at level 1 (4).
    assert _pixels.edge_depth((node_lookup().take(codes) >> 16).astype(np.uint16)).tolist() == [
        [1, 1, 4, 4],
        [4, 4, 3, 4],
        [4, 4, 4, 0],
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_compiled_counting_is_that_of_numpy(level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(level)
    labels = rng.choice(np.array([0, *nodes()], np.uint16), (11, 2, 7, 5))
    predicted = rng.choice(np.array(legend().codes(level), np.uint16), labels.shape)
    found = _pixels.count_pixels(labels, predicted, level)
    monkeypatch.setattr(_pixels, "compiled", None)
    for mine, theirs in zip(_pixels.count_pixels(labels, predicted, level), found, strict=True):
        assert np.array_equal(mine, theirs)
    truth, guess = legend().encode(labels, level), legend().encode(predicted, level)
    known = truth != IGNORE_INDEX
    assert confusion_at(found.pixels.sum(axis=0)[None], level, level)[0].tolist() == (
        sk.confusion_matrix(truth[known], guess[known], labels=range(len(legend().codes(level)))).tolist()
    )
    assert found.evaluated.shape == found.correct.shape == (11, 2, level)
    for at in LEVELS[:level]:
        truth, guess = legend().encode(labels, at), legend().encode(predicted, at)
        known = truth != IGNORE_INDEX
        assert np.array_equal(found.evaluated[..., at - 1], known.sum(axis=(-2, -1)))
        assert np.array_equal(found.correct[..., at - 1], (known & (truth == guess)).sum(axis=(-2, -1)))


@pytest.mark.parametrize("compiled", [True, False])
def test_unknown_codes_are_not_counted(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(_pixels, "compiled", None)
    good = np.full((3, 4, 4), 1121, np.uint16)
    for code in (7, 9999, 65535):
        bad = good.copy()
        bad[2, 3, 3] = code
        for labels, predicted in ((bad, good), (good, bad)):
            with pytest.raises(_pixels.UnknownCode):
                _pixels.count_pixels(labels, predicted, 4)
    with pytest.raises(_pixels.UnknownCode):  # nodata is not a prediction
        _pixels.count_pixels(good, np.zeros_like(good), 4)
    for other in (good.astype(np.int64), good[:2]):
        with pytest.raises(ValueError, match="not uint16"):
            _pixels.count_pixels(good, other, 4)
    odd = good.transpose(2, 1, 0)[::-1]  # not contiguous
    assert _pixels.count_pixels(odd, odd, 4).pixels.sum() == good.size


def test_hierarchy_by_hand(tmp_path: Path) -> None:
    labels = np.full((2, 96, 96), 1121, np.uint16)
    labels[1] = 3110
    guess = labels.copy()
    guess[0, :48] = 1122  # sibling: height 1
    guess[1, :24] = 3120  # differs at level 3: height 2
    guess[1, 24:48] = 5110  # differs at level 1: height 4
    make_release(tmp_path / "release", {2018: labels})
    scores = score(write(tmp_path / "p.zip", tmp_path / "release", guess), tmp_path / "release")
    finest = scores.levels[4]
    assert finest["mistake_severity"] == pytest.approx((2 * 1 + 1 * 2 + 1 * 4) / 4)
    assert finest["mean_height"] == pytest.approx((2 * 1 + 1 * 2 + 1 * 4) / 8)
    accuracies = [scores.levels[level]["overall_accuracy"] for level in (1, 2, 3, 4)]
    assert accuracies == [0.875, 0.875, 0.75, 0.5]
    assert finest["hierarchical_f1"] == pytest.approx(np.mean(accuracies))
    assert "mistake_severity" not in scores.levels[3].metrics  # of all levels, so it stands at the finest


def test_labels_coarser_than_a_level_are_evaluated_only_at_coarser_levels(tmp_path: Path) -> None:
    labels = np.full((2, 96, 96), 112, np.uint16)
    labels[:, 0] = 0
    labels[:, 1] = 2
    make_release(tmp_path / "release", {2018: labels})
    guess = np.full((2, 96, 96), 1122, np.uint16)
    scores = score(write(tmp_path / "p.zip", tmp_path / "release", guess), tmp_path / "release")
    rows = {level: part.pixels // (2 * 96) for level, part in scores.levels.items()}
    assert rows == {4: 0, 3: 94, 2: 94, 1: 95}
    assert scores.levels[3]["overall_accuracy"] == 1
    assert scores.levels[1]["overall_accuracy"] == pytest.approx(94 / 95)
    assert scores.levels[4]["mistake_severity"] == 1  # label 2 can be compared at level 1 alone
    assert scores.levels[4]["miou"] is None  # unknown is not zero
    assert set(scores.levels[4].metrics) == {"hierarchical_f1", "mistake_severity", "mean_height"}


def test_predictions_may_stop_at_a_coarser_level(tmp_path: Path) -> None:
    labels = smooth_codes(2, seed=5)
    make_release(tmp_path / "release", {2018: labels})
    guess = legend().remap(labels, 2)
    scores = score(write(tmp_path / "p.zip", tmp_path / "release", guess, level=2), tmp_path / "release")
    assert list(scores.levels) == [2, 1]
    assert scores.levels[2]["miou"] == 1
    assert scores.levels[2]["mistake_severity"] is None


def test_change_by_hand(tmp_path: Path) -> None:
    before = np.full((2, 96, 96), 3110, np.uint16)
    after = before.copy()
    after[0, :10] = 1210  # 960 pixels built up
    after[1, :10] = 3240  # 960 felled
    make_release(tmp_path / "release", {2012: before, 2018: after})
    guess = np.stack([before, after], axis=1)
    guess[0, 1, 5:10] = 3110  # half of the building missed
    guess[1, 1, :10] = 3340  # felling seen, but called fire
    guess[1, 1, 20:25] = 3240  # 480 false
    path = write(tmp_path / "p.zip", tmp_path / "release", guess, year=(2012, 2018))
    scores = score(path, tmp_path / "release")
    assert scores.task == "change"
    finest = scores.levels[4]
    top = finest.change
    assert top is not None
    assert (top.pixels, top.changed, top.predicted_changed) == (2 * 9216, 1920, 480 + 960 + 480)
    assert finest["change_recall"] == pytest.approx((480 + 960) / 1920)
    assert finest["change_precision"] == pytest.approx((480 + 960) / 1920)
    assert finest["change_iou"] == pytest.approx(1440 / (1920 + 480))
    assert finest["change_accuracy"] == pytest.approx(1 - (480 + 960 + 480) / (2 * 9216))
    pairs = {(t.from_code, t.to_code): t for t in top.transitions}
    assert set(pairs) == {(3110, 1210), (3110, 3240)}
    built, felled = pairs[3110, 1210], pairs[3110, 3240]
    assert (built.support, built.predicted, built.correct) == (960, 480, 480)
    assert (felled.support, felled.predicted, felled.correct, felled.f1) == (960, 480, 0, 0.0)
    assert finest["change_from_to_f1"] == pytest.approx((2 * 480 / 1440) / 2)
    coarse = scores.levels[1].change  # at level 1 only the building is a change
    assert coarse is not None
    assert coarse.changed == 960
    assert scores.levels[4].pixels == 4 * 9216  # both years


def test_round_trip_and_identity(scored: tuple[Scores, np.ndarray, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    scores = scored[0]
    scores.write(tmp_path / "scores.json")
    assert Scores.load(tmp_path / "scores.json") == scores
    assert scores.scorer_version
    assert scores.simulated
    with pytest.raises(LulcbenchError, match="does not contain scores"):
        Scores.load(tmp_path / "none.json")


def test_altered_labels_are_not_scored(tmp_path: Path) -> None:
    labels = smooth_codes(2, seed=6)
    make_release(tmp_path / "release", {2018: labels})
    path = write(tmp_path / "p.zip", tmp_path / "release", labels)
    shard = next(p for p in (tmp_path / "release" / "luisa_2018" / "c").rglob("*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[50] ^= 1
    shard.write_bytes(data)
    with pytest.raises(LulcbenchError, match="is not the file that"):
        score(path, tmp_path / "release")


def test_same_scores_on_any_number_of_processors(
    scored: tuple[Scores, np.ndarray, np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, labels, codes, probabilities = scored
    make_release(tmp_path / "release", {2018: labels}, blocks=["B1", "B2", "B3", "B4"])
    path = write(tmp_path / "p.zip", tmp_path / "release", codes, probabilities)
    monkeypatch.setattr("lulcbench.evaluation.counts._BATCH_WITH_PROBABILITIES", 1)
    found = []
    for processors in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda processors=processors: processors)
        found.append(score(path, tmp_path / "release"))
    assert found[0] == found[1]
