"""The call of Kornia that the data module's docstring names trains a task of torchgeo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kornia.augmentation as K
import lightning.pytorch as pl
import pytest
import torch

from lulcbench import LuisaDataModule
from lulcbench.legend import IGNORE_INDEX

pytestmark = pytest.mark.filterwarnings("ignore")


def test_augmentation_sequential_in_the_data_module(release_root: Path) -> None:
    assert "data_keys=None, keepdim=True" in " ".join((LuisaDataModule.__doc__ or "").split())
    seen: list[dict[str, Any]] = []

    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(24, 5, 1)

        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            seen.append(batch)
            return torch.nn.functional.cross_entropy(
                self.layer(batch["image"]), batch["mask"], ignore_index=IGNORE_INDEX
            )

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    augment = K.AugmentationSequential(K.RandomRotation(45.0, p=1.0), data_keys=None, keepdim=True)
    data = LuisaDataModule(root=release_root, sensors="landsat", level=1, window=960, batch_size=4, augment=augment)
    trainer = pl.Trainer(accelerator="cpu", fast_dev_run=True, logger=False, enable_progress_bar=False)
    trainer.fit(Model(), data)
    mask = seen[0]["mask"]
    assert mask.shape == (4, 32, 32)
    assert (mask == IGNORE_INDEX).any()
    assert set(mask.unique().tolist()) <= {0, 1, 2, 3, 4, IGNORE_INDEX}
