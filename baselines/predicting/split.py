"""Reading the split that a run predicts, with ``LuisaDataModule``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from baselines.devices import best_device, to_device
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.run import Trained
    from lulcbench.datasets.datamodule import LuisaDataModule


def open_split(config: Config, **options: Any) -> LuisaDataModule:
    """Open the split ``predict.split`` in the role ``predict``; without labels if it has none.

    Args:
        config: config of the run.
        **options: options of the dataset that replace those of training.

    Raises:
        NotAvailableError: the data have no such split.
    """
    from lulcbench.datasets.datamodule import LuisaDataModule  # imports Lightning, which takes seconds

    module = LuisaDataModule(
        config.predicted.dataset,
        predict_split=config.predict.split,
        batch_size=config.predict.batch_size,
        num_workers=config.train.workers,
        **config.predicted.options | config.task.options | options,
    )
    module.setup("predict")
    return module


def read_split(trained: Trained, **options: Any) -> tuple[Any, Iterator[Sample]]:
    """Read the split that a model predicts.

    Args:
        trained: the trained model.
        **options: options of the dataset that replace those of training.

    Returns:
        The dataset, and its batches in order, on the device, normalised.

    Raises:
        LulcbenchError: the model was trained on other data.
    """
    check_data(trained)
    module = open_split(trained.config, **trained.config.predicted.fitted_options(trained.about.info) | options)
    device = best_device()

    def batches() -> Iterator[Sample]:
        with torch.inference_mode():
            for batch in module.loader("predict"):
                yield module.on_after_batch_transfer(to_device(batch, device), 0)

    return module.datasets["predict"], batches()


def check_data(trained: Trained) -> None:
    """Check that a model predicts the data that it was trained on, unless ``predict.root`` names others.

    Raises:
        LulcbenchError: the data have changed.
    """
    config, about = trained.config, trained.about
    digest = config.data.digest()
    if config.predict.root is None and digest != about.data_digest:
        raise LulcbenchError(
            f"{config.name} was trained on other data ({about.data_digest[:12]}…) than those at {config.data.root} "
            f"({digest[:12]}…).",
            "Predict the release or archive that it was trained on, set predict.root to predict another one, or train "
            "it on this one.",
        )


def unlabelled(split: str, years: Sequence[int] = ()) -> str:
    """A sentence that states why predictions have no scores: of a split, or of years of it."""
    of = f" of {', '.join(map(str, years))}" if years else ""
    return f"The {split} split has no labels{of}: its predictions are not scored."
