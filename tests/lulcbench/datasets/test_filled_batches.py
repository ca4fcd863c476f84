"""What transforms of batches fill is ignored in masks, on the device and through a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kornia.augmentation as K
import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torchgeo.transforms import SatSlideMix
from torchvision.transforms import v2

from lulcbench import LuisaChange, LuisaDataModule, LuisaSeg
from lulcbench.datasets._transforms import apply
from lulcbench.datasets.augment import Gain
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX
from tests.lulcbench.datasets.transformed import (
    KORNIA,
    Sample,
    expected,
    kornia,
    with_seed,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Default grid_sample and affine_grid behavior"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.*treespec.*LeafSpec"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
]


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("name", ["rotation", "affine", "translation", "perspective"])
@pytest.mark.parametrize("level", [1, 4, (1, 4)])
def test_batches_of_kornia(release_root: Path, name: str, keepdim: bool, level: Any) -> None:
    """Also without ``keepdim``, where Kornia's masks come back with a channel."""
    batch = LuisaSeg(release_root, sensors="landsat", level=level).read([0, 3, 9])
    make = lambda: kornia(KORNIA[name](), keepdim=keepdim)  # noqa: E731
    wanted = expected(make, batch, 5)["mask"].view(batch["mask"].shape)
    done = with_seed(lambda b: apply(make(), b, batched=True), batch, 5)
    assert torch.equal(done["mask"], wanted)
    assert (wanted == IGNORE_INDEX).sum() > (batch["mask"] == IGNORE_INDEX).sum()


def test_batches_of_torchvision_and_torchgeo(release_root: Path) -> None:
    batch = LuisaChange(release_root, level=2).read([0, 3, 9])
    make = lambda: v2.RandomRotation((30, 30))  # noqa: E731
    wanted = expected(make, batch, 0)
    done = apply(make(), batch, batched=True)
    for key, mask in wanted.items():
        assert torch.equal(done[key], mask)
    assert not torch.equal(done["image_from"], batch["image_from"])
    batch = LuisaSeg(release_root, sensors="landsat", level=2).read([0, 3, 9])
    slid = with_seed(lambda b: apply(kornia(SatSlideMix(gamma=1, p=1.0)), b, batched=True), batch, 0)
    assert set(slid["mask"].unique().tolist()) <= set(batch["mask"].unique().tolist())
    mixed = kornia(K.RandomMixUpV2(p=1.0, lambda_val=(0.3, 0.4)))
    with pytest.raises((LulcbenchError, NotImplementedError, ValueError)):
        apply(mixed, batch, batched=True)


@pytest.mark.parametrize(
    "augment",
    [
        pytest.param(kornia(K.RandomRotation((30.0, 30.0), p=1.0)), id="kornia"),
        pytest.param(kornia(K.RandomRotation((30.0, 30.0), p=1.0), keepdim=False), id="kornia-without-keepdim"),
        pytest.param(nn.Sequential(Gain(0.1), kornia(K.RandomRotation((30.0, 30.0), p=1.0))), id="chain"),
        pytest.param(v2.RandomRotation((30, 30)), id="torchvision"),
    ],
)
def test_augmentation_of_the_data_module(release_root: Path, tmp_path: Path, augment: nn.Module) -> None:
    """Through a real training: batches of train are turned and their corners ignored, those of val are as they were."""

    class Seen(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)
            self.masks: dict[str, Tensor] = {}

        def training_step(self, batch: Sample, index: int) -> Tensor:
            self.masks["train"] = batch["mask"].clone()
            return self.layer(batch["image"].mean().view(1, 1)).sum()

        def validation_step(self, batch: Sample, index: int) -> None:
            self.masks["val"] = batch["mask"].clone()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.0)

    model = Seen()
    data = LuisaDataModule(root=release_root, sensors="landsat", level=2, window=4800, batch_size=4, augment=augment)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        max_epochs=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(model, datamodule=data)
    assert model.masks["train"].shape == (4, 160, 160)
    corners = model.masks["train"][:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == IGNORE_INDEX).all()
    turned = v2.functional.rotate(torch.ones(1, 160, 160), 30)[0] == 0
    for mask in model.masks["train"]:
        assert int(((mask == IGNORE_INDEX) != turned).sum()) < 60  # on the very border, and labels unknown before
    assert torch.equal(
        model.masks["val"],
        LuisaSeg(release_root, split="val", sensors="landsat", level=2, window=4800).read(
            range(len(model.masks["val"]))
        )["mask"],
    )
