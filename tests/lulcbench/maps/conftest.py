"""Exported models, fitted for a moment on the small release of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.export import export
from baselines.run import Trained
from baselines.train import train
from lulcbench.maps import map_release
from tests.lulcbench.maps.kill import PART

TRAIN = {"steps": 2, "batch_size": 2}
STACK = {"samples": 1500, "folds": 2, "trees": 5, "rounds": 3, "leaves": 4, "hidden": 8, "epochs": 3}
# At 10 m, a block is as large as a tile; at 30 m it is three times as wide.
RUNS = {
    "unet": {
        "data": {"sensors": "sentinel2", "level": 2},
        "model": {"kind": "unet", "encoder": "tu-test_resnet", "depth": 3, "decoder_channels": [16, 16, 8]},
        "train": TRAIN,
    },
    "deeplabv3plus": {"model": {"kind": "deeplabv3plus", "encoder": "tu-test_resnet"}, "train": TRAIN},
    "fusion": {
        "data": {"sensors": ["sentinel2", "landsat"], "window": 2400},
        "model": {
            "kind": "fusion",
            "encoder": "tu-test_resnet",
            "depth": 3,
            "decoder_channels": [16, 16, 8],
            "width": 8,
        },
        "train": TRAIN,
    },
    "forest": {"model": {"kind": "forest", "trees": 9, "samples": 4000}},
    "stack": {"data": {"level": 2}, "model": {"kind": "stack"} | STACK},
    "trends": {"data": {"level": 2, "history": [6]}, "model": {"kind": "stack"} | STACK},
    "boosting": {"data": {"level": 2}, "model": {"kind": "stack", "use": "boosting"} | STACK},
    "city": {
        "data": {"level": 4, "subset": "settlement"},
        "model": {"kind": "forest", "trees": 3, "samples": 1000},
    },
    "majority": {"model": {"kind": "majority"}},
}


@pytest.fixture(scope="session")
def fitted(release_root: Path, tmp_path_factory: pytest.TempPathFactory):
    """A function of the name of a run → the fitted model; each is fitted once."""
    known: dict[str, Trained] = {}

    def get(name: str) -> Trained:
        if name not in known:
            data = {"kind": "luisa-seg", "root": str(release_root), "sensors": "landsat", "level": 3}
            content = RUNS[name] | {"name": name, "threads": 1, "predict": {"calibrate": False}}
            run = Config.parse(content | {"data": data | RUNS[name].get("data", {})})
            known[name] = train(Experiment.open(run), tmp_path_factory.mktemp("runs"))
        return known[name]

    return get


@pytest.fixture(scope="session")
def exported(fitted, tmp_path_factory: pytest.TempPathFactory):
    """A function of the name of a run → the folder of the exported model; each is exported once."""
    known: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in known:
            known[name] = export(fitted(name), tmp_path_factory.mktemp(name) / "model").folder
        return known[name]

    return get


@pytest.fixture(scope="session")
def overlapping_part(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return map_release(exported("unet"), release_root, tmp_path_factory.mktemp("map") / "map", PART).folder
