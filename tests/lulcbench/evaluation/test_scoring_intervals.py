"""Which metrics of a scoring have intervals, and that these contain the value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.cli import app
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS
from lulcbench.evaluation.scores import Scores
from lulcbench.evaluation.scoring import score
from lulcbench.predictions import PredictionWriter

BLOCKS = 5


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    """Of change, with probabilities, over five blocks of different difficulty."""
    folder = tmp_path_factory.mktemp("intervals")
    before = smooth_codes(BLOCKS, seed=1)
    rng = np.random.default_rng(2)
    changes = rng.random(before.shape) < 0.2
    after = np.where(changes, smooth_codes(BLOCKS, seed=3), before)
    names = [f"B{i}" for i in range(BLOCKS)]
    make_release(folder / "release", {2012: before, 2018: after}, blocks=names)
    truth = np.stack([before, after], axis=1)
    wrong = rng.random(truth.shape) < np.linspace(0.1, 0.5, BLOCKS)[:, None, None, None]
    guess = np.where(wrong, rng.permutation(truth.ravel()).reshape(truth.shape), truth)
    with PredictionWriter(folder / "p.zip", folder / "release", "test", (2012, 2018)) as writer:
        for row, tile in enumerate(writer.info.tiles):
            writer.write(tile, guess[row])
    return score(folder / "p.zip", folder / "release")


def test_every_figure_has_an_interval_that_holds_it(scores: Scores) -> None:
    families = {
        level: set(Family) - {Family.CALIBRATION} - (set() if level == 4 else {Family.HIERARCHY})
        for level in scores.levels
    }
    for number, level in scores.levels.items():
        assert list(level.metrics) == [name for name, one in METRICS.items() if one.family in families[number]]
        for name, estimate in level.metrics.items():
            if METRICS[name].intervals:
                assert estimate.low < estimate.value < estimate.high
            else:
                assert (name, estimate.low, estimate.high) == ("change_from_to_f1", None, None)


def test_hierarchical_intervals_are_those_of_the_blocks_accuracies(scores: Scores) -> None:
    """Hierarchical F1 is the mean of the levels' accuracies where every label has four levels."""
    accuracies = [level.metrics["overall_accuracy"] for level in scores.levels.values()]
    found = scores.levels[4].metrics["hierarchical_f1"]
    assert found.value == pytest.approx(np.mean([one.value for one in accuracies]))
    assert found.high - found.low <= np.mean([one.high - one.low for one in accuracies]) + 1e-9


def test_a_single_block_says_nothing_of_certainty(tmp_path: Path) -> None:
    labels = smooth_codes(2, seed=5)
    make_release(tmp_path / "release", {2018: labels})
    with PredictionWriter(tmp_path / "p.zip", tmp_path / "release", "test", 2018) as writer:
        for row, tile in enumerate(writer.info.tiles):
            writer.write(tile, labels[1 - row])
    found = score(tmp_path / "p.zip", tmp_path / "release")
    assert "no interval over a single spatial block" in run("score", tmp_path / "p.zip", "--root", tmp_path / "release")
    assert found.blocks == 1
    assert not any(one.low for level in found.levels.values() for one in level.metrics.values())


def run(*arguments: object) -> str:
    """What a command prints, in one line."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("blocks", [4, 12])
def test_the_command_line_says_where_intervals_are_rough(blocks: int, tmp_path: Path) -> None:
    labels = smooth_codes(blocks, seed=6)
    root = tmp_path / "release"
    make_release(root, {2018: labels}, blocks=[f"B{i}" for i in range(blocks)])
    for seed, name in enumerate(("a", "b")):
        wrong = np.random.default_rng(seed).random(labels.shape) < 0.3
        with PredictionWriter(tmp_path / f"{name}.zip", root, "test", 2018) as writer:
            for row, tile in enumerate(writer.info.tiles):
                writer.write(tile, np.where(wrong[row], 3110, labels[row]))
    shown = run("score", tmp_path / "a.zip", "--root", root)
    compared = run("compare", tmp_path / "a.zip", tmp_path / "b.zip", "--root", root)
    for text in (shown, compared):
        assert (f"so few spatial blocks ({blocks}) are rough" in text) == (blocks == 4)
    estimate = score(tmp_path / "a.zip", root).levels[4].metrics["hierarchical_f1"]
    assert f"Hierarchical F1 {estimate.value:.4f}" in shown
    assert f"{estimate.low:.3f}–{estimate.high:.3f}" in shown
    assert "Hierarchical F1" in compared
