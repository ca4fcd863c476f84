"""Runs on small drawn patches: what validation sees, what a folder keeps, which temperature predictions have."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss

from baselines.config import Config
from baselines.data.eurosat import CLASSES
from baselines.experiment import Experiment
from baselines.models.timm import Timm
from baselines.run import Trained, load_run
from baselines.train import STARTED, train
from baselines.training.history import LAST, read_history
from lulcbench.errors import LulcbenchError


def config(root: Path, **predict: Any) -> Config:
    model, length = {"kind": "timm", "name": "test_resnet"}, {"epochs": 1, "batch_size": 20, "lr": 3e-3}
    data = {"kind": "eurosat", "root": str(root)}
    return Config.parse({"name": "tiny", "data": data, "model": model, "train": length, "predict": predict})


@pytest.fixture(scope="module")
def root(eurosat_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches whose val split has other classes, and so other colours, than the train split."""
    folder = shutil.copytree(eurosat_root, tmp_path_factory.mktemp("patches") / "eurosat")
    path = folder / "eurosat-random-val.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:8]) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    out = tmp_path_factory.mktemp("runs")
    return train(Experiment.open(config(root, calibrate=False)), out), out / "tiny"


def test_validation_sees_images_as_predictions_do(trained: tuple[Trained, Path]) -> None:
    run, folder = trained
    data = Experiment.open(run.config).data
    train_set, val = (data.datasets[role] for role in ("train", "val"))
    (stored,) = data.loader("val", 100)
    images = [split.read(range(len(split)))["image"].double() for split in (train_set, val)]
    mean, std = (getattr(images[0], name)((0, 2, 3)).view(-1, 1, 1) for name in ("mean", "std"))
    assert not torch.allclose(images[1].mean((0, 2, 3)).view(-1, 1, 1), mean, atol=5)
    expected = ((images[1] - mean) / std).float()
    torch.testing.assert_close(val.finish(stored)["image"], expected, atol=1e-3, rtol=1e-3)
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(run.predictor.net(expected), stored["label"])
    assert read_history(folder)[-1]["val_loss"] == pytest.approx(float(loss), rel=1e-4)


def test_the_file_of_predictions_has_the_probabilities_of_the_scores(
    trained: tuple[Trained, Path], tmp_path: Path
) -> None:
    run, _ = trained

    values = (3e-7 * torch.ones(10)).index_fill(0, torch.tensor([4]), 1 - 9 * 3e-7)  # sure of one class

    sure = replace(run, predictor=lambda images: values.expand(len(images), -1))
    sure.task.predict(sure, tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv")
    truth = np.array([CLASSES.index(name.rpartition("_")[0]) for name in table["id"]])
    expected = values.expand(len(table), -1).double().numpy()
    np.testing.assert_allclose(table[list(CLASSES)].to_numpy(), expected, rtol=1e-6)
    counts = run.task.count(run.config, tmp_path).sums["calibration", 0].sum((0, 2))
    assert counts[3] / counts[0] == pytest.approx(log_loss(truth, expected, labels=range(10)), rel=1e-5)
    assert json.loads((tmp_path / "scores.json").read_text())["log_loss"] == pytest.approx(counts[3] / counts[0])


def test_a_temperature_that_was_not_fitted_is_not_applied(
    trained: tuple[Trained, Path], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = trained
    assert load_run(folder, config(root, calibrate=False, tta=True)).temperature == 1
    assert "temperature" not in capsys.readouterr().err
    with pytest.raises(LulcbenchError, match=r"trained with predict\.calibrate = false"):
        load_run(folder, config(root))
    path = folder / "model.json"
    described = path.read_text()
    try:
        path.write_text(described.replace('"calibrate": false', '"calibrate": true'))
        load_run(folder, config(root, tta=True))
        assert "was fitted with predict.tta = false" in " ".join(capsys.readouterr().err.split())
    finally:
        path.write_text(described)


def test_settings_cannot_be_corrected_if_a_part_of_the_run_is_trained(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one network per year, the second of which diverges."""

    def fit(model: Timm, experiment: Experiment, folder: Path, deadline: float | None = None) -> None:
        (folder / "2018").mkdir(parents=True)
        (folder / "2018" / LAST).touch()
        raise LulcbenchError("The loss became nan in epoch 3.")

    run = config(root)
    monkeypatch.setattr(Timm, "fit", fit)
    with pytest.raises(LulcbenchError, match="became nan"):
        train(Experiment.open(run), tmp_path)
    assert (tmp_path / "tiny" / STARTED).is_file()
    monkeypatch.undo()
    with pytest.raises(LulcbenchError, match="has a run of another config"):
        train(Experiment.open(run.replace(train={"lr": 1e-4})), tmp_path)


def test_a_run_that_is_discarded_leaves_the_lock_and_the_log_of_its_study(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    (folder / "predictions" / "a").mkdir(parents=True)
    for name in (".lock", "log.txt", "old.txt", "predictions/a/counts.npz"):
        (folder / name).touch()
    before = [(folder / name).stat().st_ino for name in (".lock", "log.txt")]
    train(Experiment.open(config(root)), tmp_path, restart="always")
    assert [(folder / name).stat().st_ino for name in (".lock", "log.txt")] == before
    assert not (folder / "old.txt").exists()
    assert not (folder / "predictions").exists()
