"""Prediction of any split of a release, with or without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from baselines.cli import app
from baselines.config import Config
from baselines.experiment import Experiment
from lulcbench import Release
from lulcbench.cli import app as lulcbench_app
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.evaluation.scores import Scores
from lulcbench.legend import legend
from lulcbench.predictions import Predictions
from lulcbench.release import TilePosition
from lulcbench.submission.card import load_card
from tests.builders import world
from tests.builders.labelled import MAPPED, build

MAPS = """
name = "{name}"
[data]
kind = "luisa-seg"
root = "{root}"
level = 2
[model]
kind = "majority"
"""
CHIPS = MAPS.replace("luisa-seg", "luisa-cls").replace("level = 2", "level = 1\npurity = 0.1")
ON_MAP = "predict.split=map"


def run(command: str, *arguments: str | Path) -> str:
    """Output of a command, on stdout and stderr."""
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("mapped"), MAPPED)


@pytest.fixture(scope="module")
def runs(mapped: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a trained model of maps and one of chips."""
    out = tmp_path_factory.mktemp("runs")
    for name, text in (("maps", MAPS), ("chips", CHIPS)):
        (out / f"{name}.toml").write_text(text.format(name=name, root=Path(mapped.root).as_posix()))
        run("train", out / f"{name}.toml", "--out", out)
    return out


def with_split(runs: Path, name: str, split: str) -> Path:
    """The config of a run that predicts another split."""
    path = runs / f"{name}-{split}.toml"
    path.write_text((runs / f"{name}.toml").read_text() + f'[predict]\nsplit = "{split}"\n')
    return path


def test_maps_of_an_unlabelled_split_are_written_and_not_scored(mapped: Release, runs: Path, tmp_path: Path) -> None:
    config, folder = with_split(runs, "maps", "map"), runs / "maps"
    run("predict", runs / "maps.toml", "--out", runs)  # test, with a model card and scores
    assert (folder / "submission.toml").is_file()
    scored = CliRunner().invoke(
        lulcbench_app,
        ["score", str(folder / "predictions.zip"), "--root", mapped.root, "--json", str(folder / "scores.json")],
    )
    assert scored.exit_code == 0, scored.output

    said = run("predict", runs / "maps.toml", "--out", runs, "--set", ON_MAP)
    assert "The map split has no labels: its predictions are not scored." in said
    assert not (folder / "scores.json").exists()
    assert not (folder / "submission.toml").exists()
    train = mapped.labels("train", 2018, mapped.manifest.rows("train"))
    codes, counts = np.unique(train[train > 0] // 100, return_counts=True)
    with Predictions.open(folder / "predictions.zip", mapped) as predictions:
        assert predictions.info.split == "map"
        for position in range(len(mapped.tiles("map").ids)):
            assert (predictions.codes(TilePosition(position)) == codes[counts.argmax()]).all()

    page = tmp_path / "index.html"
    run("page", config, "--to", page, "--out", runs)
    text = page.read_text(encoding="utf-8")
    assert "The map split has no labels: its predictions are not scored." in text
    assert "Scores on" not in text
    # Two tiles: true colour, prediction and its uncertainty.
    assert text.count("data:image/png;base64,") == 2 * 3
    assert "Scores by class" not in text
    assert 'class="locator"' in text


def test_a_page_never_shows_scores_of_other_predictions(mapped: Release, runs: Path, tmp_path: Path) -> None:
    folder, page = runs / "maps", tmp_path / "index.html"
    run("predict", runs / "maps.toml", "--out", runs)
    with pytest.raises(LulcbenchError, match="has predictions of test, not of map"):
        run("page", with_split(runs, "maps", "map"), "--to", page, "--out", runs)
    arguments = ["score", str(folder / "predictions.zip"), "--root", mapped.root, "--json", str(folder / "scores.json")]
    assert CliRunner().invoke(lulcbench_app, arguments).exit_code == 0
    run("page", runs / "maps.toml", "--to", page, "--out", runs)
    text = page.read_text(encoding="utf-8")
    assert "Scores on the test split" in text
    scores = Scores.load(folder / "scores.json")
    found = scores.levels[1].metrics["overall_accuracy"]
    if found.low is not None:
        assert f"{found.value:.3f}<br><small>{found.low:.3f}–{found.high:.3f}</small>" in text
    for entry in scores.levels[scores.level].classes:
        assert (f"<td>{entry.code} {entry.name}</td><td>{entry.support:,}</td>" in text) == (entry.support > 0)
    counts = {split: f">{split}: {number} tile" for split, number in mapped.manifest.splits.items()}
    assert all(line in text for line in counts.values())
    run("predict", runs / "maps.toml", "--out", runs, "--set", "predict.split=val")
    with pytest.raises(LulcbenchError, match="belong to other predictions"):
        run("page", with_split(runs, "maps", "val"), "--to", page, "--out", runs)


def test_the_card_states_that_the_model_saw_labels_of_the_predicted_split(runs: Path) -> None:
    for split, seen in (("train", True), ("val", True), ("test", False)):
        run("predict", runs / "maps.toml", "--out", runs, "--set", f"predict.split={split}")
        assert load_card(runs / "maps" / "submission.toml").saw_scored_labels is seen


def test_chips_of_an_unlabelled_split_are_classified_and_not_scored(
    mapped: Release, runs: Path, tmp_path: Path
) -> None:
    folder, page = runs / "chips", tmp_path / "index.html"
    run("predict", runs / "chips.toml", "--out", runs)
    assert (folder / "scores.json").is_file()
    with pytest.raises(LulcbenchError, match="are of test, not of val"):
        run("page", with_split(runs, "chips", "val"), "--to", page, "--out", runs)
    assert "has no labels" in run("predict", runs / "chips.toml", "--out", runs, "--set", ON_MAP)
    assert not (folder / "scores.json").exists()
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == 64 * len(mapped.tiles("map").ids)
    assert set(table["predicted"]) <= set(legend().names(1))
    run("page", with_split(runs, "chips", "map"), "--to", page, "--out", runs)
    text = page.read_text(encoding="utf-8")
    assert "The map split has no labels: its predictions are not scored." in text
    assert "Scores on" not in text


@pytest.mark.slow
def test_a_release_without_val_trains_without_validation(tmp_path: Path) -> None:
    recipe = world.RECIPE.replace("{ train = 0.5, val = 0.25, test = 0.25 }", "{ train = 0.5, test = 0.5 }")
    release = build(tmp_path / "world", recipe)
    (tmp_path / "maps.toml").write_text(MAPS.format(name="maps", root=Path(release.root).as_posix()))
    config = Config.load(tmp_path / "maps.toml")
    assert not config.data.has_val
    assert set(Experiment.open(config).data.datasets) == {"train"}


def test_a_split_that_the_release_lacks_is_refused_with_those_that_it_has(runs: Path) -> None:
    for name in ("maps", "chips"):
        with pytest.raises(NotAvailableError, match="no split 'elsewhere'") as caught:
            run("predict", runs / f"{name}.toml", "--out", runs, "--set", "predict.split=elsewhere")
        assert "train, val, test, map" in caught.value.remedy


@pytest.mark.parametrize("name", ["maps", "chips"])
def test_a_release_with_other_composites_than_in_training_is_refused(name: str, runs: Path, tmp_path: Path) -> None:
    medoids = build(tmp_path / "medoids", MAPPED.replace("years = [2018]", 'years = [2018]\ncomposite = "medoid"'))
    there = f"predict.root={Path(medoids.root).as_posix()}"
    with pytest.raises(NotAvailableError, match="composites of landsat by medoid, not by median, as in training"):
        run("predict", runs / f"{name}.toml", "--out", runs, "--set", there)
    medians = build(tmp_path / "medians", MAPPED)
    run("predict", runs / f"{name}.toml", "--out", runs, "--set", there.replace("medoids", "medians"))
    assert medians.manifest.sensor("landsat").composite == "median"
