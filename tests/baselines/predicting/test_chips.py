"""A release as training data: chips go the way of EuroSAT's patches, maps are learnt from windows."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
import torch

from baselines.config import Config
from baselines.data import load, load_evaluation
from baselines.data.release import Stream
from baselines.measure import measure
from baselines.predicting.predict import predict_network
from baselines.run import Trained
from baselines.training.calibrate import temper
from baselines.training.train import train
from lulcbench import LuisaCls
from lulcbench.legend import legend
from lulcbench.predictions import Predictions

CONFIG = Path(__file__).parents[3] / "baselines/configs/luisa-sim-cls.toml"


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
    truth = load_evaluation(config, result["data_digest"]).targets[:, 0].numpy()
    right = [names[i] == name for i, name in zip(truth, table["predicted"], strict=True)]
    assert sum(right) / len(right) == result["overall_accuracy"]
    with (folder / "history.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6


def test_classes_without_a_chip_are_named(release_root: Path) -> None:
    config = Config.load(CONFIG).replace(data={"root": str(release_root), "level": 3, "purity": 1.0})
    found = set(LuisaCls(release_root, "train", sensors="sentinel2", level=3, purity=1.0).chips["code"])
    absent = [legend().classes[code].name for code in legend().codes(3) if code not in found]
    assert load(config).absent == tuple(absent)


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
    problem = load(config)
    assert isinstance(problem.train, Stream)
    trained = train(config, problem, tmp_path)
    with (tmp_path / "map" / "history.csv").open(newline="") as file:
        losses = [float(row["val_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]

    def noise(net: torch.nn.Module, images: torch.Tensor, config: Config) -> torch.Tensor:
        shape = len(images), len(trained.about["classes"]), *images.shape[-2:]
        return (4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).softmax(1)

    monkeypatch.setattr("baselines.predicting.predict.average_views", noise)
    found = {}
    for temperature in (1.0, 4.0):
        run = Trained(trained.net, trained.config, trained.about | {"temperature": temperature})
        with Predictions.open(predict_network(run, tmp_path / f"{temperature}.zip"), release_root) as predictions:
            found[temperature] = torch.from_numpy(predictions.probabilities(0))[None]
    # It acts on the label grid, where it is fitted: an average of tempered pixels is another thing.
    torch.testing.assert_close(found[4.0], temper(found[1.0], 4.0), rtol=0, atol=0.02)
