"""The predictions file: what the writer makes and refuses."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scoring import score
from lulcbench.legend import legend
from lulcbench.predictions import Predictions, PredictionWriter, to_label_grid
from lulcbench.predictions.format import dequantise, quantise
from lulcbench.submission.card import check_predictions

TILES = 3
Members = list[tuple[zipfile.ZipInfo | str, bytes]]


def test_round_trip(good_file: Path, predicted_root: Path, probabilities: np.ndarray) -> None:
    codes = legend().decode(probabilities.argmax(axis=1), 4)
    with Predictions.open(good_file, predicted_root) as predictions:
        for row in range(TILES):
            assert np.array_equal(predictions.codes(row)[0], codes[row])
            assert np.array_equal(predictions.maps(range(row, row + 1))[0, 0], codes[row])
            error = np.abs(predictions.probabilities(row) - probabilities[row])
            assert error.max() < 0.006
            assert error.mean() < 3e-4
    assert check_predictions(good_file, predicted_root).level == 4


def test_any_zarr_reader_opens_it(good_file: Path, predicted_root: Path) -> None:
    store = zarr.storage.ZipStore(good_file, mode="r")
    group = zarr.open_group(store, mode="r")
    with Predictions.open(good_file, predicted_root) as predictions:
        assert np.array_equal(group["codes"][1], predictions.codes(1))
        assert group.attrs["tiles"] == predictions.info.tiles
    store.close()


def test_same_predictions_same_bytes(plain_file: Path, predicted_root: Path, tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "again.zip", predicted_root, "test", 2018) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, np.full((96, 96), 3110))
    assert (tmp_path / "again.zip").read_bytes() == plain_file.read_bytes()


def test_quantisation_error_is_bounded() -> None:
    """The worst case of the documentation: many classes whose roots all round the same way."""
    rng = np.random.default_rng(0)
    for concentration in (0.01, 0.1, 1.0, 100.0):
        values = rng.dirichlet(np.full(46, concentration), (32, 32)).transpose(2, 0, 1)
        assert np.abs(dequantise(quantise(values)) - values).max() < 0.031
    sure = np.zeros((46, 1, 1))
    sure[3] = 1
    stored = dequantise(quantise(sure))
    assert stored.min() > 3.7e-6
    assert -np.log(stored.min()) < 12.6
    assert -np.log(stored[3, 0, 0]) < 2e-4


def test_to_label_grid_averages_blocks_and_repeats_coarse_pixels() -> None:
    fine = np.random.default_rng(0).random((5, 480, 480))
    assert np.allclose(to_label_grid(fine), fine.reshape(5, 96, 5, 96, 5).mean(axis=(2, 4)))
    coarse = np.random.default_rng(0).random((2, 48, 32))
    assert np.allclose(to_label_grid(coarse), coarse.repeat(2, axis=1).repeat(3, axis=2))
    third = to_label_grid(np.random.default_rng(1).dirichlet(np.ones(4), (160, 160)).transpose(2, 0, 1))
    assert np.allclose(third.sum(axis=0), 1)
    with pytest.raises(LulcbenchError, match="class, h, w"):
        to_label_grid(np.zeros((96, 96)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, t: w.write("E0001N0001", np.full((96, 96), 3110)), "not a tile of test"),
        (lambda w, t: w.write(t, np.full((480, 480), 3110)), "not integers"),
        (lambda w, t: w.write(t, np.full((96, 96), 3110.0)), "not integers"),
        (lambda w, t: w.write(t, np.full((96, 96), 311)), "is not a LUISA code of level 4"),
        (lambda w, t: w.write(t, np.zeros((96, 96), int)), "0 at .* is not a LUISA code of level 4"),
        (lambda w, t: w.write(t, np.full((96, 96), -5)), "from -5"),
        (lambda w, t: w.write(t, np.full((96, 96), 3110), np.full((46, 96, 96), 1 / 46)), "with probabilities"),
        (lambda w, t: (w.write(t, np.full((96, 96), 3110)), w.write(t, np.full((96, 96), 3110))), "already"),
        (lambda w, t: w.write(t, np.full((96, 96), 3110)), "2 of 3 tiles of test were not predicted"),
    ],
    ids=["tile", "shape", "floats", "level 3", "nodata", "negative", "surplus probabilities", "twice", "too few"],
)
def test_the_writer_refuses(
    predicted_root: Path, tmp_path: Path, change: Callable[[PredictionWriter, str], Any], message: str
) -> None:
    with (
        pytest.raises(LulcbenchError, match=message),
        PredictionWriter(tmp_path / "p.zip", predicted_root, "test", 2018) as writer,
    ):
        change(writer, writer.info.tiles[0])
    assert list(tmp_path.iterdir()) == []  # neither the file nor a part of it


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5])
def test_the_writer_refuses_invalid_probabilities(predicted_root: Path, tmp_path: Path, bad: float) -> None:
    values = np.full((46, 96, 96), 1 / 46)
    values[0, 0, 0] = bad
    with (
        pytest.raises(LulcbenchError, match="softmax"),
        PredictionWriter(tmp_path / "p.zip", predicted_root, "test", 2018, probabilities=True) as writer,
    ):
        writer.write(writer.info.tiles[0], np.full((96, 96), 3110), values)


def test_the_writer_refuses_unknown_splits_years_and_levels(predicted_root: Path, tmp_path: Path) -> None:
    for split, year, level, message in (
        ("val", 2018, 4, "no split"),
        ("test", 2012, 4, "has nothing of 2012"),
        ("test", 2018, 5, "no level 5"),
        ("test", (2018, 2018), 4, "in ascending order"),
        ("test", (), 4, "in ascending order"),
    ):
        with pytest.raises(LulcbenchError, match=message):
            PredictionWriter(tmp_path / "p.zip", predicted_root, split, year, level)


def test_a_writer_that_is_used_again_starts_again(predicted_root: Path, tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path / "p.zip", predicted_root, "test", np.int64(2018))
    codes = np.full((96, 96), 3110)
    with pytest.raises(LulcbenchError, match="is not open"):
        writer.write(writer.info.tiles[0], codes)
    with writer:
        for tile in writer.info.tiles:
            writer.write(tile, codes)
    before = writer.path.read_bytes()
    with pytest.raises(LulcbenchError, match="3 of 3 tiles"), writer:
        pass
    assert writer.path.read_bytes() == before


def test_a_folder_is_no_file_of_predictions(predicted_root: Path, tmp_path: Path) -> None:
    (tmp_path / "p.zip").mkdir()
    with pytest.raises(LulcbenchError, match="it is a folder"):
        PredictionWriter(tmp_path / "p.zip", predicted_root, "test", 2018)
    for year in ("2018", 2018.0, [2018.0]):
        with pytest.raises(LulcbenchError, match="is not a year"):
            PredictionWriter(tmp_path / "q.zip", predicted_root, "test", year)  # type: ignore[arg-type]


def test_change_predictions_carry_both_years(tmp_path: Path, probabilities: np.ndarray) -> None:
    labels = smooth_codes(TILES, seed=1)
    make_release(tmp_path / "release", {2012: labels, 2018: labels})
    codes = legend().decode(probabilities.argmax(axis=1), 4)
    with PredictionWriter(tmp_path / "p.zip", tmp_path / "release", "test", (2012, 2018), probabilities=True) as writer:
        for row, tile in enumerate(writer.info.tiles):
            other = (row + 1) % TILES
            writer.write(tile, codes[[row, other]], probabilities[[row, other]])
    with Predictions.open(tmp_path / "p.zip", tmp_path / "release") as predictions:
        assert predictions.info.task == "change"
        assert np.array_equal(predictions.codes(0), codes[[0, 1]])
        assert np.abs(predictions.probabilities(0, year=1) - probabilities[1]).max() < 0.006
    scores = score(tmp_path / "p.zip", tmp_path / "release")
    finest = scores.levels[4]
    assert finest.change is not None
    assert finest.change.changed == 0
    assert finest["change_precision"] == 0
    assert finest["change_recall"] is None
    assert sum(part.pixels for part in finest.reliability) == 2 * TILES * 9216
