"""Trains for a step and tests on two processes; each writes what it was given. Started by test_ddp.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from lulcbench import LuisaDataModule

WINDOW = 960


class Watch(pl.LightningModule):
    """A model that keeps the windows it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[str, list[list[float]]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        self.seen["train"] += batch["bounds"].tolist()
        return self.layer(batch["image"].mean().view(1, 1)).sum()

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        self.seen["val"] += batch["bounds"].tolist()

    def test_step(self, batch: dict[str, Any], index: int) -> None:
        self.seen["test"] += batch["bounds"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def main(root: str, out: str) -> None:
    """Run on this process's share: train with reading threads, test with a worker process."""
    torch.set_num_threads(1)
    options = {"root": root, "sensors": "landsat", "window": WINDOW, "batch_size": 4}
    model = Watch()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        limit_train_batches=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=out,
    )
    trainer.fit(model, datamodule=LuisaDataModule(**options))
    trainer.test(model, datamodule=LuisaDataModule(**options, num_workers=1), verbose=False)
    result = model.seen | {"weight": model.layer.weight.item()}
    Path(out, f"{trainer.global_rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
