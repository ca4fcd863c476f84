"""accelerate and the Trainer of Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lulcbench import LuisaSeg
from lulcbench.datasets import WindowLoader
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

pytestmark = pytest.mark.filterwarnings("ignore")  # of these libraries
OPTIONS: dict[str, Any] = {"sensors": "landsat", "level": 1, "window": 960}


def test_accelerate_prepares_a_window_loader(release_root: Path) -> None:
    """Two processes take every other batch; together they have all of them."""
    from accelerate import Accelerator
    from accelerate.data_loader import prepare_data_loader

    data = LuisaSeg(release_root, **OPTIONS)
    loader = WindowLoader(data, batch_size=10)
    prepared = Accelerator(cpu=True).prepare(loader.dataloader())
    for batch, expected in zip(prepared, loader, strict=True):
        assert torch.equal(batch["image"], expected["image"])
        assert batch["tile"] == expected["tile"]
    parts = [
        prepare_data_loader(loader.dataloader(), num_processes=2, process_index=i, even_batches=False) for i in (0, 1)
    ]
    seen = [tuple(bounds) for part in parts for batch in part for bounds in batch["bounds"].tolist()]
    assert len(seen) == len(data) == len(set(seen))


def test_the_trainer_of_hugging_face_takes_the_dataset(release_root: Path, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(24, 5, 1)

        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.layer(image)
            return {
                "loss": torch.nn.functional.cross_entropy(logits, mask, ignore_index=IGNORE_INDEX),
                "logits": logits,
            }

    train = LuisaSeg(release_root, keys=("image", "mask"), **OPTIONS)
    arguments = TrainingArguments(str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True)
    done = Trainer(Model(), arguments, train_dataset=train).train()
    assert done.global_step == 2
    assert done.training_loss > 0


def test_keys_choose_entries(release_root: Path) -> None:
    plain = LuisaSeg(release_root, **OPTIONS)
    kept = LuisaSeg(release_root, keys=("image", "mask"), **OPTIONS)
    turned = LuisaSeg(release_root, keys="mask", transforms=lambda sample: sample, **OPTIONS)
    assert set(kept[3]) == set(kept.read([3])) == {"image", "mask"}
    assert set(turned[3]) == {"mask"}
    assert torch.equal(kept[3]["mask"], plain[3]["mask"])
    with pytest.raises(LulcbenchError, match="no entry 'label'"):
        LuisaSeg(release_root, keys="label", **OPTIONS)[0]
