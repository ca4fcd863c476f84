"""Training follows steps, not the clock; a run that the time limit cuts short is marked in all of its files."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from baselines import measure
from baselines.config import Config
from baselines.experiment import Experiment
from baselines.models.network import NetworkPredictor
from baselines.predicting.submission import submission
from baselines.reports.page import read_entry, write_page
from baselines.run import Trained
from baselines.train import train
from baselines.training import module
from baselines.training.history import HISTORY, OutOfTime
from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scoring import score
from lulcbench.release import Release
from tests.stac import check_stac

STEPS = 7  # the 4 train tiles make 2 steps an epoch: the last epoch is cut in the middle


def config_of(root: Path, **train: float) -> Config:
    model = {"kind": "unet", "encoder": "resnet18", "depth": 3, "decoder_channels": [32, 16, 16]}
    length = {"steps": STEPS, "max_minutes": 10, "batch_size": 2, "lr": 3e-3, "ema": 0.9, "checkpoint_seconds": 0}
    data = {"kind": "luisa-seg", "root": str(root), "sensors": "landsat"}
    content = {"name": "tiny", "threads": 1, "model": model, "train": length | train, "augment": {"noise": 0.1}}
    return Config.parse(content | {"data": data, "predict": {"calibrate": False, "tta": False}})


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """A machine on which each step takes so many seconds."""
    clock = itertools.count(0, seconds)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock), process_time=lambda: 0.0))


def made_by(trained: Trained, folder: Path) -> tuple[str, str]:
    """SHA-256 of weights and of predictions."""
    return hash_file(folder / NetworkPredictor.file), hash_file(trained.task.predict(trained, folder))


@pytest.fixture(scope="module")
def quick(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What a run without interruption made."""
    out = tmp_path_factory.mktemp("quick")
    return made_by(train(Experiment.open(config_of(release_root)), out), out / "tiny")


@pytest.mark.slow
def test_a_slow_machine_trains_the_same_network(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: tuple[str, str]
) -> None:
    experiment = Experiment.open(config_of(release_root))
    with monkeypatch.context() as patch:
        slow_down(patch, 60)
        trained = train(experiment, tmp_path / "slow")
    assert trained.about.effort.seconds == 60 * STEPS
    assert made_by(trained, tmp_path / "slow" / "tiny") == quick
    assert [getattr(trained.about.effort, key) for key in ("steps", "planned_steps", "cut_short")] == [
        STEPS,
        STEPS,
        False,
    ]
    rows = list(csv.DictReader((tmp_path / "slow" / "tiny" / HISTORY).read_text().splitlines()))
    assert [int(row["step"]) for row in rows] == [2, 4, 6, 7]
    assert float(rows[-1]["lr"]) == 0  # the schedule came to its end


@pytest.mark.slow
def test_a_run_that_is_resumed_makes_the_same_steps(release_root: Path, tmp_path: Path, quick: tuple[str, str]) -> None:
    experiment = Experiment.open(config_of(release_root))
    for _ in range(4):  # once after each epoch
        with pytest.raises(OutOfTime):
            train(experiment, tmp_path / "parts", deadline=0)
    assert made_by(train(experiment, tmp_path / "parts"), tmp_path / "parts" / "tiny") == quick


@pytest.mark.slow
def test_threads_are_those_of_the_config_and_afterwards_as_before(release_root: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    for threads in (1, 2):
        config = config_of(release_root, steps=1).replace(threads=threads)
        assert train(Experiment.open(config), tmp_path / str(threads)).about.hardware["threads"] == threads
        assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_run_that_its_time_limit_cut_short_is_marked_everywhere(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, warning = config_of(release_root), f"cut short after 3 of {STEPS} steps by train.max_minutes = 10."
    experiment, folder = Experiment.open(config), tmp_path / "tiny"
    with monkeypatch.context() as patch:
        slow_down(patch, 200)
        trained = train(experiment, tmp_path)
    assert trained.about.effort.cut_short
    assert warning in " ".join(capsys.readouterr().err.split())
    card = json.loads((folder / "model.stac.json").read_text())
    assert warning in card["properties"]["description"]
    check_stac(card)
    (read,) = card["properties"]["mlm:input"]
    assert read["bands"] == card["assets"]["weights"]["bands"]
    assert warning in submission(trained, Release.open(release_root)).description
    predictions = trained.task.predict(trained, folder)
    score(predictions, release_root).write(folder / "scores.json")
    page = write_page([read_entry(config, tmp_path)], tmp_path / "index.html").read_text()
    assert f'<p class="notice">UNet: Training was {warning}' in page
    assert "UNet (cut short)" in page
    with pytest.raises(LulcbenchError, match=r"not a reference score.*cut short after 1 of"):
        measure.measure(config.replace(train={"max_minutes": 1e-6}), 0, tmp_path)


@pytest.mark.slow
def test_pages_of_whole_runs_tell_steps_and_limit(release_root: Path, tmp_path: Path) -> None:
    config = config_of(release_root, steps=2)
    trained = train(Experiment.open(config), tmp_path)
    predictions = trained.task.predict(trained, tmp_path / "tiny")
    score(predictions, release_root).write(tmp_path / "tiny" / "scores.json")
    page = write_page([read_entry(config, tmp_path)], tmp_path / "index.html").read_text()
    assert "2 of 2 steps (1 epochs) in" in page
    assert "at most 10 minutes" in page
    assert "cut short" not in page


def test_a_config_gives_epochs_or_steps(release_root: Path) -> None:
    assert config_of(release_root).train.epochs is None
    assert Config.parse(config_of(release_root).model_dump()) == config_of(release_root)
    with pytest.raises(LulcbenchError, match="give only one of them"):
        config_of(release_root, epochs=3)
    with pytest.raises(LulcbenchError, match="minutes"):
        config_of(release_root, minutes=3)
