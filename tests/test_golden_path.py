"""The one test that rules them all: scenes in, a score out, through the commands that a user types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lulcbench import LuisaSeg
from lulcbench.evaluation.scores import Scores
from lulcbench.legend import IGNORE_INDEX, LEVELS
from lulcbench.release import SPLITS, Manifest
from lulcbench.submission.card import load_card

pytestmark = pytest.mark.slow

CONFIG = """
name = "{name}"
[data]
kind = "luisa-seg"
root = "{root}"
sensors = "landsat"
[model]
{model}
"""
UNET = """kind = "unet"
encoder = "resnet18"
depth = 3
decoder_channels = [32, 16, 16]
[train]
epochs = 20
batch_size = 2
lr = 3e-3"""


def run(*arguments: str | Path) -> str:
    """Run a command of the project as a user would; its output, or the test fails with what it said."""
    made = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr[-3000:]
    return made.stdout


def lulcbench(*arguments: str | Path) -> str:
    return run(Path(sys.executable).parent / "lulcbench", *arguments)


@pytest.fixture(scope="module")
def runs(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained UNet and the majority reference, both scored."""
    out = tmp_path_factory.mktemp("runs")
    models = {"unet": UNET, "majority": 'kind = "majority"'}
    configs = [out / f"{name}.toml" for name in models]
    for config in configs:
        config.write_text(CONFIG.format(name=config.stem, root=release_root.as_posix(), model=models[config.stem]))
    run("-m", "baselines", "train", *configs, "--out", out)
    run("-m", "baselines", "predict", *configs, "--out", out)
    for name in models:
        lulcbench("score", out / name / "predictions.zip", "--root", release_root, "--json", out / name / "scores.json")
    return out


def test_release_becomes_tensors(release_root: Path) -> None:
    release = Manifest.load(release_root)
    assert release.simulated
    for split in SPLITS:
        data = LuisaSeg(release_root, split=split, sensors=("landsat", "sentinel2"), level=3, window=1200, stride=600)
        assert len(data) == release.splits[split] * 49
        sample = data[len(data) // 2]
        assert sample["image"]["sentinel2"].shape[-2:] == (120, 120)
        assert sample["image"]["landsat"].shape[-2:] == sample["mask"].shape == (40, 40)
        mask = sample["mask"].numpy()
        assert ((mask < 41) | (mask == IGNORE_INDEX)).all()


def test_predictions_become_scores(runs: Path, release_root: Path) -> None:
    scores = {name: Scores.load(runs / name / "scores.json") for name in ("unet", "majority")}
    for one in scores.values():
        assert one.release_digest == Manifest.load(release_root).data_digest
        assert one.simulated
        assert sorted(one.levels) == list(LEVELS)
        accuracy = [one.levels[level]["overall_accuracy"] for level in LEVELS]
        assert accuracy == sorted(accuracy, reverse=True)  # a coarser level can only forgive
        for level in one.levels.values():
            assert 0 <= level["miou"] <= level["overall_accuracy"] <= 1
            assert np.isfinite(level["log_loss"])
    for level in LEVELS:
        learnt, reference = scores["unet"].levels[level], scores["majority"].levels[level]
        assert learnt["overall_accuracy"] > reference["overall_accuracy"]
        assert learnt["macro_f1"] > reference["macro_f1"]


def test_baselines_are_submitted_like_any_other_model(runs: Path, release_root: Path) -> None:
    for name in ("unet", "majority"):
        folder = runs / name
        said = lulcbench(
            "check", folder / "predictions.zip", "--root", release_root, "--card", folder / "submission.toml"
        )
        assert "is valid" in said
    card = load_card(runs / "unet" / "submission.toml")
    assert card.parameters > 10_000
    assert card.training_data == (f"{Manifest.load(release_root).id}, train split",)
    assert not card.saw_scored_labels


def test_page_shows_it_and_says_simulated(runs: Path) -> None:
    page = runs / "index.html"
    run("-m", "baselines", "page", runs / "unet.toml", runs / "majority.toml", "--to", page, "--out", runs)
    text = page.read_text()
    assert "simulated" in text.lower()
    assert text.count("data:image/png;base64,") >= 2
    assert "http://" not in text.replace("http://www.w3.org", "")
