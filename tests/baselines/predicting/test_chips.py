"""A release as training data: chips go the way of EuroSAT's patches, maps are learnt from windows."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.measure import measure
from baselines.models.network import NetworkPredictor
from baselines.predicting.views import temper
from baselines.train import train
from lulcbench import LuisaCls
from lulcbench.datasets import WindowLoader
from lulcbench.legend import legend
from lulcbench.predictions import Predictions

CONFIG = Path(__file__).parents[3] / "baselines/configs/luisa-sim-cls.toml"


@pytest.mark.slow
def test_a_classifier_learns_the_chips_of_a_release(release_root: Path, tmp_path: Path) -> None:
    config = Config.load(CONFIG).replace(
        data={"root": str(release_root), "level": 1},
        model={"name": "test_resnet", "stem": "standard", "drop_path": 0.0},
        train={"epochs": 6, "batch_size": 32, "lr": 5e-3},
        augment={"mixup": 0.0, "cutmix": 0.0},
        predict={"tta": False},
    )
    result = measure(config, 0, tmp_path)
    losses = [row["train_loss"] for row in result["learning_curve"]]
    assert losses[-1] < 0.8 * losses[0]
    assert result["simulated"]
    chips = LuisaCls(release_root, "test", sensors="sentinel2", level=1, purity=0.5)
    assert result["patches"] == len(chips)

    folder = tmp_path / f"{config.name}-seed0"
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == len(chips)
    names = [name for name in table.columns if name not in ("id", "predicted")]
    assert (table[names].sum(axis=1) - 1).abs().max() < 1e-3
    right = [names[i] == name for i, name in zip(chips.labels, table["predicted"], strict=True)]
    assert sum(right) / len(right) == result["overall_accuracy"]
    with (folder / "history.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6


def test_classes_without_a_chip_are_named(release_root: Path) -> None:
    config = Config.load(CONFIG).replace(data={"root": str(release_root), "level": 3, "purity": 1.0})
    found = set(LuisaCls(release_root, "train", sensors="sentinel2", level=3, purity=1.0).chips["code"])
    absent = [legend().classes[code].name for code in legend().codes(3) if code not in found]
    assert Experiment.open(config).info.absent == tuple(absent)


@pytest.mark.slow
def test_maps_are_learnt_in_mixed_precision_from_a_stream(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config.parse(
        {
            "name": "map",
            "data": {"kind": "luisa-seg", "root": str(release_root), "level": 2, "window": 2400},
            "model": {"kind": "unet", "encoder": "resnet18", "depth": 3, "decoder_channels": [16, 16, 8]},
            "train": {"epochs": 3, "batch_size": 4, "ema": 0.9, "precision": "bf16-mixed", "resident_gib": 1e-6},
            "predict": {"window": 2400},
        }
    )
    experiment = Experiment.open(config)
    trained = train(experiment, tmp_path)
    assert type(experiment.data.train_dataloader()) is WindowLoader
    with (tmp_path / "map" / "history.csv").open(newline="") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]

    def noise(predictor: NetworkPredictor, images: torch.Tensor) -> torch.Tensor:
        shape = len(images), len(trained.about.info.classes), *images.shape[-2:]
        return (4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).softmax(1)

    monkeypatch.setattr(NetworkPredictor, "__call__", noise)
    found = {}
    for temperature in (1.0, 4.0):
        run = replace(trained, about=trained.about.model_copy(update={"temperature": temperature}))
        with Predictions.open(run.task.predict(run, tmp_path / "map"), release_root) as predictions:
            found[temperature] = torch.from_numpy(predictions.probabilities(0))[None]
    # It acts on the label grid, where it is fitted: an average of tempered pixels is another thing.
    torch.testing.assert_close(found[4.0], temper(found[1.0], 4.0), rtol=0, atol=0.02)
