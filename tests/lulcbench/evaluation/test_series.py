"""Predictions of more than two years, and of years without labels, against an independent computation."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.evaluation.comparison import compare
from lulcbench.evaluation.scores import Scores
from lulcbench.evaluation.scoring import score
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.predictions import Predictions, PredictionWriter, archive_limits
from lulcbench.predictions.format import MAX_YEARS, dequantise, quantise
from lulcbench.release import Manifest, SensorInfo, TilePosition
from lulcbench.seasons import Season
from lulcbench.sensors import LANDSAT
from lulcbench.submission.card import check_predictions

YEARS = (2006, 2012, 2018)
TILES = 4


def write(
    path: Path, root: Path, years: tuple[int, ...], codes: np.ndarray, probabilities: np.ndarray | None = None
) -> Path:
    """Codes ``(tile, year, y, x)`` and probabilities ``(tile, year, class, y, x)``."""
    with PredictionWriter(path, root, "test", years, probabilities=probabilities is not None) as writer:
        for i, tile in enumerate(writer.info.tiles):
            writer.write(tile, codes[i], None if probabilities is None else probabilities[i])
    return path


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Labels ``(tile, year, y, x)`` that change between years, some of them missing or known at level 3 alone."""
    rng = np.random.default_rng(0)
    first = smooth_codes(TILES, seed=1)
    years = [first]
    for seed in (2, 3):
        changed = rng.random(first.shape) < 0.2
        years.append(np.where(changed, smooth_codes(TILES, seed=seed), years[-1]))
    labels = np.stack(years, axis=1).astype(np.uint16)
    labels[rng.random(labels.shape) < 0.05] = 0
    labels[np.isin(labels, (1121, 1122, 1123)) & (rng.random(labels.shape) < 0.5)] = 112
    return labels


@pytest.fixture(scope="module")
def guess(truth: np.ndarray) -> np.ndarray:
    """Codes of level 4 that are right for about two thirds of the pixels."""
    rng = np.random.default_rng(4)
    codes = np.array(legend().codes(4), np.uint16)
    wrong = ~np.isin(truth, codes) | (rng.random(truth.shape) < 0.3)
    return np.where(wrong, rng.choice(codes, truth.shape), truth)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, truth: np.ndarray) -> Path:
    """A release with labels of three years, and imagery of a fourth."""
    folder = tmp_path_factory.mktemp("series") / "release"
    blocks = ["B1", "B2", "B3", "B4"]
    manifest = make_release(folder, {year: truth[:, k] for k, year in enumerate(YEARS)}, blocks=blocks)
    landsat = SensorInfo(resolution=30, bands=LANDSAT.bands, years=(2006, 2015), licence="x", statistics=None)
    summer = Season(name="summer", start="06-25", end="09-12")
    manifest.model_copy(update={"sensors": {"landsat": landsat}, "seasons": (summer,)}).write(folder)
    return folder


def check(scores: Scores, truth: np.ndarray, guess: np.ndarray) -> None:
    """All levels over all years, and change over all pairs of consecutive years, by scikit-learn and NumPy."""
    for level, part in scores.levels.items():
        label, said = legend().encode(truth, level).astype(int), legend().encode(guess, level).astype(int)
        known = label != IGNORE_INDEX
        n = len(legend().codes(level))
        assert np.array_equal(part.confusion, sk.confusion_matrix(label[known], said[known], labels=range(n)))
        assert part["overall_accuracy"] == pytest.approx(sk.accuracy_score(label[known], said[known]))
        pixels = changed = predicted = both = right = 0
        kinds = np.zeros((3, n, n), int)  # from–to: in the labels, in the predictions, in both
        for a, b in pairwise(range(truth.shape[1])):
            ok = known[:, a] & known[:, b]
            before, after, first, second = label[:, a][ok], label[:, b][ok], said[:, a][ok], said[:, b][ok]
            real, seen, same = before != after, first != second, (before == first) & (after == second)
            pixels, changed, predicted = pixels + ok.sum(), changed + real.sum(), predicted + seen.sum()
            both, right = both + (real & seen).sum(), right + same.sum()
            np.add.at(kinds[0], (before, after), 1)
            np.add.at(kinds[1], (first, second), 1)
            np.add.at(kinds[2], (before[same], after[same]), 1)
        assert part.change is not None
        assert (part.change.pixels, part.change.changed) == (pixels, changed)
        assert part.change.predicted_changed == predicted
        assert part["change_recall"] == pytest.approx(both / changed)
        assert part["change_precision"] == pytest.approx(both / predicted)
        assert part["change_accuracy"] == pytest.approx(right / pixels)
        codes = legend().codes(level)
        stated = {(t.from_code, t.to_code): [t.support, t.predicted, t.correct] for t in part.change.transitions}
        assert stated == {
            (codes[i], codes[j]): kinds[:, i, j].tolist() for i, j in np.argwhere(kinds[0]).tolist() if i != j
        }


def test_three_years_are_scored_together_and_change_over_both_pairs(
    root: Path, truth: np.ndarray, guess: np.ndarray, tmp_path: Path
) -> None:
    path = write(tmp_path / "p.zip", root, YEARS, guess)
    scores = score(path, root)
    assert (scores.task, scores.years, scores.unscored_years) == ("series", YEARS, ())
    check(scores, truth, guess)
    assert scores.levels[4].metrics["overall_accuracy"].low is not None
    scores.write(tmp_path / "scores.json")
    assert Scores.load(tmp_path / "scores.json") == scores
    assert compare(path, path, root).differences[0].difference == 0


def test_years_without_labels_are_left_out_and_named(
    root: Path, truth: np.ndarray, guess: np.ndarray, tmp_path: Path
) -> None:
    codes = np.insert(guess, 2, 3110, axis=1)  # of 2015, with any content
    scores = score(write(tmp_path / "p.zip", root, (2006, 2012, 2015, 2018), codes), root)
    assert (scores.task, scores.years, scores.unscored_years) == ("series", YEARS, (2015,))
    check(scores, truth, guess)
    alone = score(write(tmp_path / "two.zip", root, (2015, 2018), codes[:, 2:]), root)
    assert (alone.task, alone.years, alone.unscored_years) == ("segmentation", (2018,), (2015,))
    assert alone.levels[4].change is None
    same = score(write(tmp_path / "one.zip", root, (2018,), codes[:, 3:]), root)
    assert alone.levels == same.levels


def test_predictions_without_any_labelled_year_are_not_scored(root: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "p.zip", root, (2015,), np.full((TILES, 1, 96, 96), 3110))
    for evaluate in (score, check_predictions):
        with pytest.raises(NotAvailableError, match="no luisa labels for 2015"):
            evaluate(path, root)


def test_probabilities_of_three_years_are_pooled(root: Path, truth: np.ndarray, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    values = rng.dirichlet(np.full(46, 0.3), (TILES, 3, 96, 96)).transpose(0, 1, 4, 2, 3)
    codes = legend().decode(values.argmax(axis=2), 4)
    path = write(tmp_path / "p.zip", root, YEARS, codes, np.ascontiguousarray(values))
    stored = np.stack([[dequantise(quantise(year)) for year in tile] for tile in values])
    with Predictions.open(path, root) as predictions:
        for i, k in ((0, 0), (1, 2), (3, 1)):
            np.testing.assert_array_equal(predictions.codes(TilePosition(i)), codes[i])
            np.testing.assert_array_equal(predictions.probabilities(TilePosition(i), k), stored[i, k])
    label = legend().encode(truth, 4).astype(int)
    known = label != IGNORE_INDEX
    of_truth = np.take_along_axis(stored, np.where(known, label, 0)[:, :, None], axis=2)[:, :, 0][known]
    scores = score(path, root)
    assert scores.levels[4]["log_loss"] == pytest.approx(float(-np.log(of_truth.astype(np.float64)).mean()), rel=1e-6)


def test_shapes_of_a_series_are_checked(root: Path, guess: np.ndarray, tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "p.zip", root, "test", YEARS, probabilities=True) as writer:
        for i, tile in enumerate(writer.info.tiles):
            uniform = np.full((3, 46, 96, 96), 1 / 46)
            with pytest.raises(LulcbenchError, match=r"not integers \(3, 96, 96\)"):
                writer.write(tile, guess[i, :2], uniform)
            with pytest.raises(LulcbenchError, match=r"\(46, 3, 96, 96\), not \(3, 46, 96, 96\)"):
                writer.write(tile, guess[i], uniform.swapaxes(0, 1))
            writer.write(tile, guess[i], uniform)


def test_years_are_those_of_the_release_in_ascending_order(root: Path, tmp_path: Path) -> None:
    for years in ((2018, 2012), (2006, 2018, 2012), (2012, 2012, 2018)):
        with pytest.raises(LulcbenchError, match="in ascending order"):
            PredictionWriter(tmp_path / "p.zip", root, "test", years)
    with pytest.raises(NotAvailableError, match="has nothing of 2016") as caught:
        PredictionWriter(tmp_path / "p.zip", root, "test", (2012, 2016))
    assert "2006, 2012, 2015, 2018" in caught.value.remedy


def test_limits_of_files_follow_from_the_years_of_the_release(root: Path) -> None:
    manifest = Manifest.load(root)
    assert manifest.years == (2006, 2012, 2015, 2018)
    size, members = archive_limits(manifest)
    assert members == TILES * (1 + 4) + 3
    assert size > TILES * 4 * 46 * 96 * 96
    landsat = manifest.sensors["landsat"].model_copy(update={"years": tuple(range(1800, 2000))})
    longer = manifest.model_copy(update={"sensors": {"landsat": landsat}})
    assert archive_limits(longer)[1] == TILES * (1 + MAX_YEARS) + 3
