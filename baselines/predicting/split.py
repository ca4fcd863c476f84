"""The split that a run predicts, read through the public data module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from baselines.devices import best_device, to_device
from lulcbench.datasets.batch import Sample
from lulcbench.datasets.datamodule import LuisaDataModule
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.run import Trained

STAGES = {"val": "validate", "test": "test"}


def open_split(config: Config, **options: Any) -> LuisaDataModule:
    """A data module with the split ``predict.split`` open.

    Args:
        config: the run.
        **options: of the dataset, in place of those that training has.
    """
    module = LuisaDataModule(
        config.data.dataset,
        batch_size=config.predict.batch_size,
        num_workers=config.train.workers,
        **config.data.options | config.task.options | options,
    )
    module.setup(STAGES[config.predict.split])
    return module


def read_split(trained: Trained, **options: Any) -> tuple[Any, Iterator[Sample]]:
    """The dataset that a model predicts, and its batches in order, on the device, as the model takes them.

    Args:
        trained: the model.
        **options: of the dataset, in place of those that training had.

    Raises:
        LulcbenchError: the data are not those that it was trained on.
    """
    config, about = trained.config, trained.about
    digest = config.data.digest()
    if digest != about.data_digest:
        raise LulcbenchError(
            f"{config.name} was trained on other data ({about.data_digest[:12]}…) than those at {config.data.root} "
            f"({digest[:12]}…).",
            "Predict the release or archive that it was trained on, or train it on this one.",
        )
    module = open_split(config, **config.data.fitted_options(about.info) | options)
    split, device = config.predict.split, best_device()

    def batches() -> Iterator[Sample]:
        with torch.inference_mode():
            for batch in module.loader(split):
                yield module.on_after_batch_transfer(to_device(batch, device), 0)

    return module.datasets[split], batches()
