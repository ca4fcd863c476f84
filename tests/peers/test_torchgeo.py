"""torchgeo and Lightning from their command lines, and torchgeo's tasks, on the datasets as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lulcbench import LuisaChange, LuisaDataModule, LuisaSeg
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning and torchgeo
TRAINER: dict[str, Any] = {"accelerator": "cpu", "fast_dev_run": True, "logger": False, "enable_progress_bar": False}
TASK: dict[str, Any] = {"model": "unet", "backbone": "resnet18", "loss": "ce", "ignore_index": IGNORE_INDEX}


class Model(pl.LightningModule):
    """A model as a user of LightningCLI writes it."""

    def __init__(self, channels: int = 24, classes: int = 5) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(channels, classes, 1)

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch["image"]), batch["mask"], ignore_index=IGNORE_INDEX)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def config(tmp_path: Path, **content: Any) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(content))  # which is YAML
    return str(path)


@pytest.mark.parametrize("subclass", [False, True])
def test_lightning_cli_trains_from_a_config(release_root: Path, tmp_path: Path, subclass: bool) -> None:
    from lightning.pytorch.cli import LightningCLI

    options = {"root": str(release_root), "sensors": "landsat", "level": 1}
    data: dict[str, Any] = {"dataset": "lulcbench.LuisaSeg", "batch_size": 4, "options": options}
    if subclass:
        data = {"class_path": "lulcbench.LuisaDataModule", "init_args": data}
    path = config(tmp_path, trainer=TRAINER, data=data)
    cli = LightningCLI(
        Model, LuisaDataModule, subclass_mode_data=subclass, args=["fit", "--config", path], save_config_callback=None
    )
    assert cli.trainer.global_step == 1
    assert isinstance(cli.datamodule.datasets["train"], LuisaSeg)
    assert cli.datamodule.batch_size == 4


def test_torchgeo_fit_trains_from_a_config(release_root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The command of torchgeo sets variables of GDAL in the environment."""
    from torchgeo.main import main

    for name in ("GDAL_DISABLE_READDIR_ON_OPEN", "AWS_NO_SIGN_REQUEST", "GDAL_MAX_RAW_BLOCK_CACHE_SIZE"):
        monkeypatch.setenv(name, "")
    for name in ("GDAL_SWATH_SIZE", "VSI_CURL_CACHE_SIZE"):
        monkeypatch.setenv(name, "")
    options = {"root": str(release_root), "sensors": "landsat", "level": 1, "window": 960}
    path = config(
        tmp_path,
        trainer=TRAINER,
        model={
            "class_path": "torchgeo.trainers.SemanticSegmentationTask",
            "init_args": TASK | {"in_channels": 24, "task": "multiclass", "num_classes": 5},
        },
        data={
            "class_path": "lulcbench.datasets.torchgeo.TorchGeoDataModule",
            "init_args": {"batch_size": 4, "options": options},
        },
    )
    main(["fit", "--config", path])
    main(["test", "--config", path])


def test_change_detection_task_takes_change_unchanged(release_root: Path) -> None:
    from torchgeo.trainers import ChangeDetectionTask

    data = LuisaDataModule(
        LuisaChange, root=release_root, sensors="landsat", level=1, window=960, layout="torchgeo", batch_size=4
    )
    task = ChangeDetectionTask(
        model="unet", backbone="resnet18", in_channels=24, task="binary", loss="bce", ignore_index=IGNORE_INDEX
    )
    trainer = pl.Trainer(**TRAINER)
    trainer.fit(task, data)
    trainer.test(task, data)
    assert trainer.predict(task, data)
    pair = LuisaChange(release_root, sensors="landsat", level=1, window=960)[0]
    one = LuisaChange(release_root, sensors="landsat", level=1, window=960, layout="torchgeo")[0]
    assert torch.equal(one["image"], torch.stack([pair["image_from"], pair["image_to"]]))
    assert torch.equal(one["mask"], pair["mask"][None])


def test_transforms_are_those_of_rasterio(release_root: Path) -> None:
    from rasterio.transform import from_bounds

    data = LuisaSeg(release_root, sensors="landsat", window=960, stride=480)
    sample = data[3]
    height, width = sample["image"].shape[-2:]
    expected = from_bounds(*sample["bounds"].tolist(), width, height)
    assert sample["transform"].tolist() == pytest.approx(torch.tensor(expected, dtype=torch.float64).tolist())


def test_layouts_that_a_task_cannot_take_are_refused(release_root: Path) -> None:
    with pytest.raises(LulcbenchError, match="one sensor and one level"):
        LuisaChange(release_root, sensors="landsat", level=(1, 2), layout="torchgeo")
    with pytest.raises(LulcbenchError, match="layout is"):
        LuisaChange(release_root, sensors="landsat", layout="stack")  # type: ignore[arg-type]
