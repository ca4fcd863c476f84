"""Exported models, fitted for a moment on the small release of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.export import export
from baselines.run import Trained
from baselines.train import train

MODELS = {
    "unet": {"kind": "unet", "encoder": "resnet18", "depth": 3, "decoder_channels": [16, 16, 8]},
    "deeplabv3plus": {"kind": "deeplabv3plus", "encoder": "resnet18"},
    "forest": {"kind": "forest", "trees": 9, "samples": 4000},
    "majority": {"kind": "majority"},
}


@pytest.fixture(scope="session")
def fitted(release_root: Path, tmp_path_factory: pytest.TempPathFactory):
    """A function of the kind of a model → the fitted model; each is fitted once."""
    known: dict[str, Trained] = {}

    def get(kind: str) -> Trained:
        if kind not in known:
            config = {
                "name": kind,
                "threads": 1,
                "data": {"kind": "luisa-seg", "root": str(release_root), "sensors": "landsat", "level": 3},
                "model": MODELS[kind],
                "predict": {"calibrate": False},
            }
            if kind not in ("forest", "majority"):
                config["train"] = {"steps": 2, "batch_size": 2}
            run = Config.parse(config)
            known[kind] = train(Experiment.open(run), tmp_path_factory.mktemp("runs"))
        return known[kind]

    return get


@pytest.fixture(scope="session")
def exported(fitted, tmp_path_factory: pytest.TempPathFactory):
    """A function of the kind of a model → the folder of the exported model; each is exported once."""
    known: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in known:
            known[kind] = export(fitted(kind), tmp_path_factory.mktemp(kind) / "model").folder
        return known[kind]

    return get
