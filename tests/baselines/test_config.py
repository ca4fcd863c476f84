from __future__ import annotations

import re
from pathlib import Path

import pytest

from baselines.config import Config
from baselines.registry import expand
from lulcbench.errors import LulcbenchError

CONFIGS = sorted((Path(__file__).parents[2] / "baselines" / "configs").glob("*.toml"))
EUROSAT = {"name": "a", "data": {"kind": "eurosat"}, "model": {"kind": "timm"}}
SEGMENTS = {"name": "a", "data": {"kind": "luisa-seg", "root": "r"}, "model": {"kind": "unet"}}

POINTS = {
    "data": {"kind": "points", "root": "r", "bands": {"B04": "red"}, "test": "a"},
    "model": {"kind": "lstm"},
    "augment": {"dihedral": False},
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_committed_configs_are_valid_and_named_like_their_file(path: Path) -> None:
    assert Config.load(path).name == path.stem


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epoch": 3}, "epoch"),
        ({"train": {"epochs": 0}}, "train.epochs"),
        ({"train": {"learning_rate": 1}}, "learning_rate"),
        ({"model": {"kind": "unet"}}, "predicts every pixel, but task classification"),
        ({"model": {"kind": "vgg"}}, "no model of kind 'vgg'; there are deeplabv3plus"),
        ({"model": {"kind": "timm", "drop": 2}}, r"model\.drop"),
        ({"task": {"kind": "segmentation"}}, "requires a mask, but data eurosat have a label"),
        ({"task": {"level_weights": (2, 1, 1, 1)}}, "LUISA levels"),
        ({"name": "A b"}, "name"),
        ({"seed": 2**32}, "seed"),
        ({"data": {"kind": "imagenet"}}, "data"),
        ({"data": {"kind": "eurosat", "train_on": []}}, "train_on"),
    ],
)
def test_bad_configs_name_the_key(change: dict, says: str) -> None:
    with pytest.raises(LulcbenchError, match=says):
        Config.parse(EUROSAT | change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"augment": {"mixup": 0.2}}, "mixup"),
        ({"augment": {"affine": (10, 0.1, 0.1)}}, "affine"),
        ({"task": {"level_weights": (0, 0, 0, 0)}}, "level_weights"),
        ({"task": {"level_weights": (1, 1, -1, 1)}}, "level_weights"),
        ({"data": {"kind": "luisa-seg", "root": "r", "level": 2}, "task": {"level_weights": (0, 0, 1, 1)}}, "level_w"),
        ({"data": {"kind": "luisa-seg", "root": "r", "bands": []}}, "bands"),
        (EUROSAT | {"predict": {"window": 1200}}, r"predict\.window and predict\.stride are for maps"),
        (EUROSAT | {"predict": {"stride": 600}}, r"predict\.window and predict\.stride are for maps"),
        (POINTS | {"predict": {"smoothing": "viterbi"}}, r"predict\.smoothing is for maps of several years"),
        ({"task": {"kind": "series"}}, "requires series of single pixels, but data luisa-seg are images"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(change: dict, says: str) -> None:
    Config.parse(SEGMENTS)
    with pytest.raises(LulcbenchError, match=says):
        Config.parse(SEGMENTS | change)


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\n[data]\nkind = "eurosat"\n[model]\nkind = "timm"\n')
    config = Config.load(path, ("train.epochs=3", "data.split=spatial", "seed=7"))
    assert (config.train.epochs, config.data.split, config.seed) == (3, "spatial", 7)
    with pytest.raises(LulcbenchError, match="is not a section"):
        Config.load(path, ("name.x=3",))
    path.write_text("name = ")
    with pytest.raises(LulcbenchError, match="not TOML"):
        Config.load(path)
    with pytest.raises(LulcbenchError, match=r"demo\.toml"):
        Config.load(tmp_path / "none.toml")


def test_digest_follows_every_setting() -> None:
    config = Config.parse(EUROSAT)
    assert config.digest == Config.parse(EUROSAT).digest
    assert config.digest != config.replace(seed=1).digest
    assert config.digest != config.replace(train={"lr": 0.5}).digest


def test_unset_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LULCBENCH_REAL_DATA", raising=False)
    with pytest.raises(LulcbenchError, match="LULCBENCH_REAL_DATA is not set"):
        expand("$LULCBENCH_REAL_DATA/eurosat_rgb")
    monkeypatch.setenv("LULCBENCH_REAL_DATA", "")  # as make sets it where there are no real data
    with pytest.raises(LulcbenchError, match="LULCBENCH_REAL_DATA is not set"):
        expand("$LULCBENCH_REAL_DATA/eurosat_rgb")


@pytest.mark.parametrize(
    "setting",
    ["task.dice=0.5", "task.level_weights=[4.0, 1.0, 1.0, 1.0]", "task.kind=segmentation-edges", "predict.tta=true"],
)
@pytest.mark.parametrize("kind", ["forest", "stack", "majority"])
def test_settings_of_the_loss_are_refused_where_no_loss_trains_the_model(kind: str, setting: str) -> None:
    name = setting.partition("=")[0]
    with pytest.raises(
        LulcbenchError, match=rf"model {kind} is not trained by a loss: {re.escape(name)}.* have no effect"
    ):
        Config.load(CONFIGS[0].with_name(f"medium-{kind}.toml"), (setting,))
