"""The three splits of a release for Lightning."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from lulcbench.datasets import LuisaSeg, collate
from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Sample
from lulcbench.datasets.loader import ResumableDataLoader, WindowLoader
from lulcbench.datasets.sampler import InOrder, WindowSampler, balanced

Loader = DataLoader[Sample] | WindowLoader


class LuisaDataModule(pl.LightningDataModule):
    """Train, val and test loaders of a dataset class, with augmentation on the device.

    Args:
        dataset: the class, such as ``LuisaSeg``.
        batch_size: samples a batch.
        num_workers: loader processes; by default none, but threads that read ahead (``WindowLoader``).
        augment: module called with each training batch (a dict) on the device, such as
            ``kornia.augmentation.AugmentationSequential(..., data_keys=None)``.
        train: options of the train split alone, such as ``phase="random"`` or ``fraction=0.1``.
        test: options of the val and test splits alone, such as ``stride``.
        balanced: draw windows with rare classes more often (see ``lulcbench.datasets.sampler.balanced``).
        seed: of the shuffling.
        **options: of the dataset class, for all splits save ``phase``, which is for train; ``root`` is needed. Where
            there is a GPU, images travel to it as uint16 and are normalised there, unless ``transforms`` or
            ``normalize`` are given.
    """

    def __init__(
        self,
        dataset: type[LuisaDataset] = LuisaSeg,
        *,
        batch_size: int = 32,
        num_workers: int = 0,
        augment: nn.Module | None = None,
        train: dict[str, Any] | None = None,
        test: dict[str, Any] | None = None,
        balanced: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augment = augment
        self.balanced = balanced
        self.seed = seed
        self._options = {"train": options | (train or {})}
        judged = {name: value for name, value in options.items() if name != "phase"} | (test or {})
        self._options["val"] = self._options["test"] = judged
        self.datasets: dict[str, LuisaDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """Open the splits that ``stage`` (fit, validate, test, predict; None: all) needs."""
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
        for split in splits.get(stage or "", ("train", "val", "test")):
            if split not in self.datasets:
                options = self._options[split]
                on_device = torch.cuda.is_available() and not {"transforms", "normalize"} & set(options)
                self.datasets[split] = self.dataset(
                    split=split, **({"normalize": "device"} if on_device else {}) | options
                )

    def train_dataloader(self) -> Loader:
        """Shuffled or balanced; windows move from epoch to epoch if the options say so.

        Resumed from a checkpoint within an epoch, it goes on with the batch after the last that was trained on.
        """
        dataset = self.datasets["train"]
        weights = balanced(dataset) if self.balanced else None
        return self._loader(dataset, WindowSampler(dataset, weights=weights, seed=self.seed), ResumableDataLoader)

    def val_dataloader(self) -> Loader:
        """In order. On several devices, some samples may come twice, so that all devices take equally many steps."""
        return self._loader(self.datasets["val"], InOrder(self.datasets["val"], pad=True))

    def test_dataloader(self) -> Loader:
        """In order, each sample once, on several devices too."""
        return self._loader(self.datasets["test"], InOrder(self.datasets["test"]))

    def predict_dataloader(self) -> Loader:
        """The test split, as in ``test_dataloader``."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Normalise on the device and, in training, augment."""
        dataset = next(iter(self.datasets.values()))
        batch = dataset.finish(batch)
        if self.augment is not None and self.trainer is not None and self.trainer.training:
            batch = self.augment(batch)
        return batch

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """``plot`` of the dataset."""
        return next(iter(self.datasets.values())).plot(*args, **kwargs)

    def _loader(
        self, dataset: LuisaDataset, sampler: Sampler[int], with_workers: type[DataLoader[Sample]] = DataLoader
    ) -> Loader:
        if self.num_workers == 0:
            return WindowLoader(dataset, self.batch_size, sampler)
        return with_workers(
            dataset,
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=True,
            # Forked from a process that has read, workers could not use TensorStore (see lulcbench.release.shards).
            multiprocessing_context="forkserver",
        )
