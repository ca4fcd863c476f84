"""A release as training data, read through the project's own datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from baselines.config import Config, LuisaData, expand
from baselines.data.arrays import Arrays, EpochSampler, Problem, Samples, check_finite
from lulcbench import _console
from lulcbench.datasets import LuisaCls, LuisaDataset, LuisaSeg, collate
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend

READ = 8  # tiles a read: bounds the memory beside the result


def segments(data: LuisaData, split: str, window: int | None = None, stride: int | None = None) -> LuisaSeg:
    """The dataset of a config: whole tiles, or windows, with 50 m labels at all four levels."""
    return LuisaSeg(
        expand(data.root),
        split,
        sensors=data.sensor,
        year=data.year,
        level=LEVELS,
        window=window,
        stride=stride,
        seasons=data.seasons,
        bands=data.bands,
        mask_resolution="label",
    )


def chips(data: LuisaData, split: str) -> LuisaCls:
    """The 600 m chips of a config, each with the class that covers most of it."""
    return LuisaCls(
        expand(data.root),
        split,
        purity=data.purity,
        sensors=data.sensor,
        year=data.year,
        level=data.level,
        seasons=data.seasons,
        bands=data.bands,
    )


def channels(dataset: LuisaDataset) -> tuple[str, ...]:
    """Channel names in order, such as ``summer:red``."""
    (sensor,) = dataset.sensors
    return tuple(f"{season}:{band}" for season in dataset.seasons for band in dataset.bands[sensor])


@dataclass(frozen=True, slots=True)
class Stream:
    """A split that does not fit: batches are read as they are needed, through TensorStore's own threads."""

    dataset: LuisaDataset
    workers: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.dataset)

    def __deepcopy__(self, memo: Any) -> Stream:
        return self  # as ``Arrays``

    @property
    def nbytes(self) -> int:
        """None are kept."""
        return 0

    def to(self, device: torch.device, resident: bool = True) -> Stream:
        """Batches will come to that device."""
        return Stream(self.dataset, self.workers, device)

    def loader(self, batch_size: int, sampler: EpochSampler) -> DataLoader[Any]:
        """Batches of samples."""
        return DataLoader(
            self.dataset,
            batch_size,
            sampler=_Moving(sampler, self.dataset),
            drop_last=sampler.drops(batch_size),
            collate_fn=_pair,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def gather(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The batch as it is."""
        images, targets = batch
        return images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)


class _Moving(EpochSampler):
    """Moves the dataset's windows with the epoch."""

    def __init__(self, sampler: EpochSampler, dataset: LuisaDataset) -> None:
        super().__init__(sampler.n, sampler.seed, sampler.train, sampler.rank, sampler.world)
        self.dataset = dataset

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.dataset.set_epoch(epoch)


def _pair(samples: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    batch = collate(samples)
    return batch["image"], batch["target"]


def _target(sample: dict[str, Any], level: int) -> Tensor:
    """Targets at levels 1 to 4: the masks as they are; a chip's label with its ancestors, unknown below its level."""
    if "mask" in sample:
        return sample["mask"].to(torch.uint8)
    label: Tensor = sample["label"]
    target = torch.full((*label.shape, len(LEVELS)), IGNORE_INDEX, dtype=torch.uint8)
    for n in range(1, level + 1):
        target[..., n - 1] = torch.from_numpy(legend().parents(level, n))[label]
    return target


def read(dataset: LuisaDataset, level: int, what: str) -> Arrays:
    """A whole dataset in memory, with a progress bar."""
    images: list[Tensor] = []
    targets: list[Tensor] = []
    ids: list[str] = []
    n = len(dataset)
    with _console.progress() as bar:
        for start in bar.track(range(0, n, READ), description=f"read {what}"):
            batch = dataset.read(range(start, min(n, start + READ)))
            images.append(batch["image"].clone())
            targets.append(_target(batch, level))
            ids += [f"{t}:{i}" for i, t in enumerate(batch["tile"], start)] if "label" in batch else batch["tile"]
    result = Arrays(torch.cat(images), torch.cat(targets), tuple(ids))
    check_finite(result.images, what)
    return result


def load(config: Config) -> Problem:
    """Train and val splits of a release, resident if they fit in ``train.resident_gib``."""
    data = config.data
    if not isinstance(data, LuisaData):
        raise TypeError(type(data))
    datasets: dict[str, LuisaDataset] = {}
    for split in ("train", "val"):
        datasets[split] = (
            chips(data, split) if data.kind == "luisa-cls" else segments(data, split, data.window, data.stride)
        )
    train = datasets["train"]
    names = channels(train)
    pixels = sum(len(d) * (d.windows.size // d.resolution()) ** 2 for d in datasets.values())
    resident = pixels * len(names) * 4 <= config.train.resident_gib * 2**30
    splits: dict[str, Samples] = {}
    for split, dataset in datasets.items():
        if resident:
            splits[split] = read(dataset, data.level, split)
        else:
            dataset.transforms = _WithTarget(data.level)
            splits[split] = Stream(dataset, config.train.workers, torch.device("cpu"))
    release = train.release.manifest
    return Problem(
        train=splits["train"],
        val=splits["val"],
        channels=names,
        mean=None,
        std=None,
        classes=legend().names(data.level),
        level=data.level,
        digest=release.digest,
        simulated=release.simulated,
        absent=_absent(train, data),
    )


@dataclass(frozen=True, slots=True)
class _WithTarget:
    """Adds the target to a sample; picklable, for loader workers."""

    level: int

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        return sample | {"target": _target(sample, self.level)}


def _absent(train: LuisaDataset, data: LuisaData) -> tuple[str, ...]:
    if isinstance(train, LuisaCls):  # a class may cover pixels, and yet no chip
        seen = {int(code) for code in legend().decode(np.unique(train.labels), data.level)}
    else:
        counts = train.release.manifest.class_counts.get(data.year, {})
        seen = {legend().ancestor(code, data.level) for code, n in counts.items() if n and code}
    return tuple(legend().classes[code].name for code in legend().codes(data.level) if code not in seen)
