"""The three splits of a release for Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from lulcbench.datasets import LuisaSeg, collate
from lulcbench.datasets._transforms import apply
from lulcbench.datasets.augment import seeded
from lulcbench.datasets.batch import Sample
from lulcbench.datasets.loader import ResidentLoader, ResumableDataLoader, WindowLoader
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.datasets.resident import ResidentDataset
from lulcbench.datasets.sampler import InOrder, WindowSampler, balanced
from lulcbench.datasets.seeds import mix
from lulcbench.errors import LulcbenchError

Loader = DataLoader[Sample] | WindowLoader | ResidentLoader


class LuisaDataModule(pl.LightningDataModule):
    """Train, val and test loaders of a dataset class, with augmentation on the device.

    Everything random depends on (``seed``, epoch, batch, process) alone: a run that was stopped and resumed goes on as
    if nothing had happened, augmentation included.

    Args:
        dataset: the class, such as ``LuisaSeg``, or another that makes a ``BatchDataset``.
        batch_size: samples per batch.
        num_workers: loader processes; by default none, but threads that read ahead (``WindowLoader``).
        augment: module called with each training batch (a dict) on the device, such as
            ``lulcbench.datasets.augment.Dihedral()`` or ``kornia.augmentation.AugmentationSequential(...,
            data_keys=None, keepdim=True)``. Masks are treated as by ``transforms`` of ``LuisaDataset``; torchvision's
            transforms do the same to all samples of a batch.
        train: options of the train split alone, such as ``phase="random"`` or ``fraction=0.1``.
        test: options of the val and test splits alone, such as ``stride``.
        balanced: draw windows with rare classes more often (see ``lulcbench.datasets.sampler.balanced``).
        resident: True reads train and val once and keeps them in memory, on the device that trains
            (``ResidentLoader``); ``"auto"`` does so if their samples are the same in every epoch and both together
            take at most ``resident_gib``. The test split, which is read once, is never kept.
        resident_gib: GiB of memory for ``resident="auto"``.
        drop_last: leave the rest of a training epoch out that fills no batch, and what several processes cannot share
            evenly; batch norms need more than one sample. A split of less than one batch is not left out.
        pad: on several devices, repeat some val samples, so that all devices take equally many steps; False takes each
            sample exactly once, for models that do not wait for each other in validation.
        seed: of shuffling and augmentation.
        **options: of the dataset class, for all splits save ``phase``, which is for train; ``root`` is needed. Where
            there is a GPU, images travel to it as uint16 and are normalised there, unless ``transforms`` or
            ``normalize`` are given.

    Attributes:
        datasets: by split, those that ``setup`` opened.

    Raises:
        LulcbenchError: ``resident`` is none of the three; see also ``ResidentDataset``.

    Example:
        >>> data = LuisaDataModule(LuisaSeg, root=root, sensors="landsat", batch_size=16, resident="auto")
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["image"].shape
        torch.Size([16, 24, 40, 40])
    """

    def __init__(
        self,
        dataset: Callable[..., BatchDataset] = LuisaSeg,
        *,
        batch_size: int = 32,
        num_workers: int = 0,
        augment: nn.Module | None = None,
        train: dict[str, Any] | None = None,
        test: dict[str, Any] | None = None,
        balanced: bool = False,
        resident: bool | Literal["auto"] = False,
        resident_gib: float = 8.0,
        drop_last: bool = False,
        pad: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        if resident not in (True, False, "auto"):
            raise LulcbenchError(f"resident is {resident!r}.", 'Use True, False or "auto".')
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augment = augment
        self.balanced = balanced
        self.resident = resident
        self.resident_gib = resident_gib
        self.drop_last = drop_last
        self.pad = pad
        self.seed = seed
        self._options = {"train": options | (train or {})}
        evaluated = {name: value for name, value in options.items() if name != "phase"} | (test or {})
        self._options["val"] = self._options["test"] = evaluated
        self.datasets: dict[str, Any] = {}
        self._kept: dict[str, ResidentDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """Open the splits that ``stage`` (fit, validate, test, predict; None: all) needs."""
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
        for split in splits.get(stage or "", ("train", "val", "test")):
            if split not in self.datasets:
                options = {"split": split} | self._options[split]
                if torch.cuda.is_available() and not {"transforms", "normalize"} & set(options):
                    options["normalize"] = "device"
                self.datasets[split] = self.dataset(**options)

    def train_dataloader(self) -> Loader:
        """Shuffled or balanced; windows move from epoch to epoch if the options ask for it.

        Resumed from a checkpoint within an epoch, it goes on with the batch after the last that was trained on.
        """
        dataset = self.datasets["train"]
        weights = balanced(dataset) if self.balanced else None
        sampler = WindowSampler(dataset, weights=weights, seed=self.seed, drop_last=self.drop_last)
        return self._loader("train", sampler, self.drop_last and len(sampler) >= self.batch_size, ResumableDataLoader)

    def val_dataloader(self) -> Loader:
        """In order; see ``pad`` for several devices."""
        return self._loader("val", InOrder(self.datasets["val"], pad=self.pad))

    def test_dataloader(self) -> Loader:
        """In order, each sample once, on several devices too."""
        return self._loader("test", InOrder(self.datasets["test"]))

    def predict_dataloader(self) -> Loader:
        """The test split, as in ``test_dataloader``."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Normalise on the device and, in training, augment."""
        dataset = next(iter(self.datasets.values()))
        batch = dataset.finish(batch)
        trainer = self.trainer
        if self.augment is not None and trainer is not None and trainer.training:
            number = trainer.fit_loop.batch_idx + 1  # of the batch that is about to be trained on
            seed = mix(self.seed, trainer.current_epoch, number, trainer.global_rank)
            with seeded(seed, trainer.strategy.root_device):
                batch = apply(self.augment, batch, batched=True)
        return batch

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """``plot`` of the dataset."""
        return next(iter(self.datasets.values())).plot(*args, **kwargs)

    def loader(self, split: str, batch_size: int | None = None) -> WindowLoader | ResidentLoader:
        """All samples of a split that is open, in order, in this process alone; from memory if they are kept there.

        Example:
            >>> data = LuisaDataModule(LuisaSeg, root=root, sensors="landsat", window=4800, batch_size=1)
            >>> data.setup("validate")
            >>> len(list(data.loader("val"))) == len(data.datasets["val"])
            True
        """
        if split in self._kept:
            return ResidentLoader(self._kept[split], batch_size or self.batch_size)
        return WindowLoader(self.datasets[split], batch_size or self.batch_size)

    def _loader(
        self,
        split: str,
        sampler: Sampler[int],
        drop_last: bool = False,
        with_workers: type[DataLoader[Sample]] = DataLoader,
    ) -> Loader:
        dataset = self.datasets[split]
        if self._keeps(split):
            if split not in self._kept:
                device = "cpu" if self.trainer is None else self.trainer.strategy.root_device
                self._kept[split] = ResidentDataset(dataset, device)
            return ResidentLoader(self._kept[split], self.batch_size, sampler, drop_last=drop_last)
        if self.num_workers == 0:
            return WindowLoader(dataset, self.batch_size, sampler, drop_last=drop_last)
        return with_workers(
            dataset,
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            drop_last=drop_last,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=True,
            # Forked from a process that has read, workers could not use TensorStore (see lulcbench.release.shards).
            multiprocessing_context="forkserver",
        )

    def _keeps(self, split: str) -> bool:
        """Whether a split is kept in memory; train and val are, or neither."""
        if split == "test" or self.resident != "auto":
            return split != "test" and bool(self.resident)
        datasets = [dataset for name, dataset in self.datasets.items() if name != "test"]
        fixed = all(dataset.fixed for dataset in datasets)
        return fixed and sum(map(ResidentDataset.size, datasets)) <= self.resident_gib * 2**30
