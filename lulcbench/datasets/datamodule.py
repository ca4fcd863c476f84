"""The splits of a release for Lightning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler

from lulcbench.datasets import LuisaDataset, LuisaSeg, collate
from lulcbench.datasets._arguments import check_arguments, has_option
from lulcbench.datasets._fetch import fetch
from lulcbench.datasets._transforms import apply
from lulcbench.datasets.augment import seeded
from lulcbench.datasets.batch import Sample
from lulcbench.datasets.loader import ResidentLoader, ResumableDataLoader, WindowLoader
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.datasets.resident import ResidentDataset
from lulcbench.datasets.sampler import InOrder, WindowSampler, balanced
from lulcbench.datasets.seeds import mix
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.release import AUTO, Manifest, Release

Role = Literal["train", "val", "test", "predict"]
ROLES: dict[str | None, tuple[Role, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
    None: ("train", "val", "test", "predict"),
}
Loader = DataLoader[Sample] | WindowLoader | ResidentLoader


class LuisaDataModule(pl.LightningDataModule):
    """Loaders of the splits of a dataset class, with augmentation on the device.

    A split is used in one of four roles: train, val, test or predict. By default the first three are the splits of
    these names, and the test split is predicted. Any split of the release can have a role, such as a region that was
    held out, or an unlabelled one that is to be mapped.

    All random numbers depend only on ``seed``, epoch, batch and process: a run that is stopped and resumed gives the
    same results as an uninterrupted one, augmentation included.

    Args:
        dataset: class of the datasets, such as ``LuisaSeg``, or another callable that returns a ``BatchDataset``.
        train_split, val_split, test_split: name of the split of each role; None leaves the role empty, such as val in
            training without validation.
        predict_split: name of the split to predict; None takes ``test_split``. It is read without labels if it has
            none.
        batch_size: samples per batch.
        num_workers: number of worker processes; by default threads prefetch instead (``WindowLoader``).
        augment: module called with each training batch (a dict) on the device, such as
            ``lulcbench.datasets.augment.Dihedral()`` or ``kornia.augmentation.AugmentationSequential(...,
            data_keys=None, keepdim=True)``. Masks are treated as by ``transforms`` of ``LuisaDataset``; transforms of
            torchvision transform all samples of a batch alike. ``bounds`` and ``transform`` remain those of the
            windows; the entry ``augmented`` tells ``plot`` that pixels may have moved.
        train: options of only the train split, such as ``phase="random"`` or ``fraction=0.1``.
        test: options of only the other splits, such as ``stride``.
        balanced: draw windows with rare classes more often (see ``lulcbench.datasets.sampler.balanced``).
        resident: True reads train and val once and keeps them in memory, on the device that trains
            (``ResidentLoader``); ``"auto"`` does so if their samples are the same in every epoch and both together
            take at most ``resident_gib``. Splits that are tested or predicted are read once, and never kept.
        resident_gib: GiB of memory for ``resident="auto"``.
        drop_last: in training, leave out samples that do not fill a batch, or that cannot be divided evenly among
            processes; batch normalisation needs more than one sample. A split of less than one batch is kept.
        pad: on several devices, repeat some val samples, so that all devices take the same number of steps; False uses
            each sample exactly once, for models that do not synchronise in validation.
        seed: seed of shuffling, of the positions of moving windows, and of augmentation.
        options: options of the dataset class for all splits, except ``phase``, which applies to train; ``root`` is
            required. With a GPU, images are transferred as uint16 and normalised there, unless ``transforms`` or
            ``normalize`` are given. Config files of ``LightningCLI`` give them here.
        **more: the same as keyword arguments.

    Attributes:
        datasets: by role, those that ``setup`` opened.

    Raises:
        ReleaseNotFoundError: there is no release at ``root``, unless it is to be downloaded.
        LulcbenchError: an argument is invalid, or the dataset class has no such option; see also ``ResidentDataset``.

    Examples:
        >>> data = LuisaDataModule(LuisaSeg, root=root, sensors="landsat", batch_size=16, resident="auto")
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["image"].shape
        torch.Size([16, 24, 40, 40])
        >>> data = LuisaDataModule(root=root, sensors="landsat", predict_split="val")
        >>> data.setup("predict")
        >>> data.datasets["predict"].split
        'val'
    """

    def __init__(
        self,
        dataset: type[LuisaDataset] | Callable[..., BatchDataset] = LuisaSeg,
        *,
        train_split: str | None = "train",
        val_split: str | None = "val",
        test_split: str | None = "test",
        predict_split: str | None = None,
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
        options: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        pl.LightningDataModule.__init__(self)
        options = (options or {}) | more
        check_arguments(
            dataset,
            options,
            train or {},
            test or {},
            {"batch_size": (batch_size, 1), "num_workers": (num_workers, 0)},
            augment,
            resident,
        )
        if not isinstance(options.get("root"), Release) and not options.get("download") and _is_luisa(dataset):
            options["root"] = Release.open(options["root"])  # so that a wrong root is an error now, not in setup
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
        self.splits: dict[Role, str | None] = {
            "train": train_split,
            "val": val_split,
            "test": test_split,
            "predict": test_split if predict_split is None else predict_split,
        }
        if val_split is None:  # with a method of the base class, Lightning skips validation
            self.val_dataloader = partial(pl.LightningDataModule.val_dataloader, self)  # type: ignore[method-assign]
        self.datasets: dict[str, Any] = {}
        evaluated = {name: value for name, value in options.items() if name != "phase"} | (test or {})
        moving = {"seed": seed} if has_option(dataset, "seed") else {}
        self._options = dict.fromkeys(self.splits, evaluated) | {"train": moving | options | (train or {})}
        self._kept: dict[str, ResidentDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """Open the splits of a stage.

        Args:
            stage: ``fit`` (train and val), ``validate``, ``test`` or ``predict``; None opens those that the release
                has.

        Raises:
            NotAvailableError: the release lacks a split of the stage, or has none at all of those named; lists the
                splits that it has.
            LulcbenchError: there is no such stage; see also the dataset class.
        """
        if stage not in ROLES:
            raise LulcbenchError(f"stage is {stage!r}.", f"Use {', '.join(name for name in ROLES if name)}, or None.")
        named = {role: split for role in ROLES[stage] if (split := self.splits[role]) is not None}
        release = self._release()
        if release is not None:
            has = release.manifest.splits
            missing = {role: split for role, split in named.items() if split not in has}
            if missing and (stage is not None or len(missing) == len(named)):
                raise NotAvailableError(
                    f"{release.id} has no split {' or '.join(map(repr, dict.fromkeys(missing.values())))}.",
                    f"It has {', '.join(has)}: choose by {', '.join(f'{role}_split' for role in missing)}.",
                )
            named = {role: split for role, split in named.items() if role not in missing}
        for role, split in named.items():
            if role not in self.datasets:
                self.datasets[role] = self._open(role, split, release)

    def _release(self) -> Release | None:
        """The release that all datasets share; None for other data."""
        options = self._options["predict"]
        root, download = options.get("root"), options.get("download")
        if root is None or not _is_luisa(self.dataset):
            return None
        if download and not isinstance(root, Release):
            fetch(download, root, splits=())  # the manifest and the index
        return Release.open(root)

    def _open(self, role: Role, split: str, release: Release | None) -> BatchDataset:
        if role == "predict" and split == self.splits["test"] and "test" in self.datasets:
            tested: BatchDataset = self.datasets["test"]
            return tested
        options = {"split": split} | self._options[role]
        if release is not None:
            options["root"] = release
            if role == "predict" and not _has_labels(release.manifest, split, options.get("labels", AUTO)):
                options["labels"] = None
        if torch.cuda.is_available() and not {"transforms", "normalize"} & set(options):
            options["normalize"] = "device"
        return self.dataset(**options)

    def train_dataloader(self) -> Loader:
        """Shuffled or balanced; windows move between epochs if ``phase`` is set.

        After a checkpoint within an epoch, it continues with the batch after the last one that was trained on.
        """
        dataset = self._opened("train")
        weights = balanced(dataset) if self.balanced else None
        sampler = WindowSampler(dataset, weights=weights, seed=self.seed, drop_last=self.drop_last)
        return self._loader("train", sampler, self.drop_last and len(sampler) >= self.batch_size, ResumableDataLoader)

    def val_dataloader(self) -> Loader:
        """In order; see ``pad`` for several devices."""
        return self._loader("val", InOrder(self._opened("val"), pad=self.pad))

    def test_dataloader(self) -> Loader:
        """In order, each sample once, on several devices too."""
        return self._loader("test", InOrder(self._opened("test")))

    def predict_dataloader(self) -> Loader:
        """In order, each sample once, on several devices too."""
        return self._loader("predict", InOrder(self._opened("predict")))

    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        """Normalise on the device, by the statistics of the split of the batch, and, in training, augment."""
        trainer = self.trainer
        batch = self._current(trainer).finish(batch)
        if self.augment is not None and trainer is not None and trainer.training:
            number = trainer.fit_loop.batch_idx + 1  # of the batch that is about to be trained on
            seed = mix(self.seed, trainer.current_epoch, number, trainer.global_rank)
            with seeded(seed, trainer.strategy.root_device):
                batch = apply(self.augment, batch, batched=True)
            if "bounds" in batch:  # those of the windows, whose pixels may have moved: figures leave them out
                batch = batch | {"augmented": torch.ones(len(batch["bounds"]), dtype=torch.bool)}
        return batch

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """``plot`` of the dataset of the stage that runs, or of the first one that is open."""
        return self._current(self.trainer).plot(*args, **kwargs)

    def _current(self, trainer: pl.Trainer | None) -> Any:
        """The dataset whose batches a trainer handles; without one, the first that is open."""
        if trainer is not None:
            running = {
                "train": trainer.training,
                "val": trainer.validating or trainer.sanity_checking,
                "test": trainer.testing,
                "predict": trainer.predicting,
            }
            for role, runs in running.items():
                if runs and role in self.datasets:
                    return self.datasets[role]
        return next(iter(self.datasets.values()))

    def loader(self, role: Role, batch_size: int | None = None) -> WindowLoader | ResidentLoader:
        """All samples of an opened split, in order, only in this process; from memory if they are kept there.

        Args:
            role: of the split: train, val, test or predict.
            batch_size: samples per batch; None takes that of training.

        Raises:
            LulcbenchError: ``setup`` has not opened it.

        Example:
            >>> data = LuisaDataModule(LuisaSeg, root=root, sensors="landsat", window=4800, batch_size=1)
            >>> data.setup("validate")
            >>> len(list(data.loader("val"))) == len(data.datasets["val"])
            True
        """
        if role in self._kept:
            return ResidentLoader(self._kept[role], batch_size or self.batch_size)
        return WindowLoader(self._opened(role), batch_size or self.batch_size)

    def _opened(self, role: Role) -> Any:
        if role not in self.datasets:
            stage = next(stage for stage, roles in ROLES.items() if role in roles)
            split = self.splits[role]
            if split is None:
                raise LulcbenchError(f"The data module has no {role} split.", f"Name one: {role}_split=….")
            raise LulcbenchError(f"The split {split!r} is not open ({role}).", f"Call setup({stage!r}) first.")
        return self.datasets[role]

    def _loader(
        self,
        role: Role,
        sampler: Sampler[int],
        drop_last: bool = False,
        with_workers: type[DataLoader[Sample]] = DataLoader,
    ) -> Loader:
        dataset = self.datasets[role]
        if self._keeps(role):
            if role not in self._kept:
                device = "cpu" if self.trainer is None else self.trainer.strategy.root_device
                self._kept[role] = ResidentDataset(dataset, device)
            return ResidentLoader(self._kept[role], self.batch_size, sampler, drop_last=drop_last)
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

    def _keeps(self, role: Role) -> bool:
        """Whether a split is kept in memory; train and val are, or neither."""
        if role not in ROLES["fit"]:
            return False
        if self.resident != "auto":
            return self.resident
        datasets = [dataset for name, dataset in self.datasets.items() if name in ROLES["fit"]]
        fixed = all(dataset.fixed for dataset in datasets)
        return fixed and sum(map(ResidentDataset.size, datasets)) <= self.resident_gib * 2**30


def _is_luisa(dataset: Any) -> bool:
    return isinstance(dataset, type) and issubclass(dataset, LuisaDataset)


def _has_labels(manifest: Manifest, split: str, source: str | None) -> bool:
    """Whether a split has labels of a source; no if the release has none at all."""
    if source is None or not manifest.labels:
        return False
    return split in manifest.label_source(manifest.choose_labels(source)).splits
