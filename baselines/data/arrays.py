"""Data ready for training: whole splits as tensors, from which batches are gathered on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lulcbench.errors import LulcbenchError


@dataclass(frozen=True, slots=True)
class Arrays:
    """One split in memory.

    Attributes:
        images: ``(n, channel, h, w)``, float32 or uint8, normalised or to be normalised batch by batch.
        targets: uint8 class indices, ``IGNORE_INDEX`` where unknown: ``(n, level)`` or ``(n, level, y, x)``; LUISA
            has levels 1 to 4, EuroSAT one.
        ids: id of each sample.
        device: where batches go.
    """

    images: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.images)

    def __deepcopy__(self, memo: Any) -> Arrays:
        return self  # nothing changes it: the copy of the task that the moving average makes shares the data

    @property
    def nbytes(self) -> int:
        """Bytes of images and targets."""
        return self.images.nbytes + self.targets.nbytes

    def to(self, device: torch.device, resident: bool = True) -> Arrays:
        """The same for a device, ``resident`` on it or left where it is."""
        place = device if resident else self.images.device
        return Arrays(self.images.to(place), self.targets.to(place), self.ids, device)

    def loader(self, batch_size: int, sampler: EpochSampler) -> DataLoader[Any]:
        """Batches of positions; ``gather`` turns them into images and targets."""
        return DataLoader(
            Positions(len(self)), batch_size, sampler=sampler, drop_last=sampler.drops(batch_size), collate_fn=_same
        )

    def gather(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Images and targets of a batch of positions, on the device."""
        batch = batch.to(self.images.device)
        return self.images[batch].to(self.device), self.targets[batch].to(self.device)


class Samples(Protocol):
    """A split, in memory (``Arrays``) or read as it is needed."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        ...

    def to(self, device: torch.device, resident: bool = True) -> Samples:
        """The same for a device; what is kept in memory moves there whole if ``resident``."""
        ...

    def loader(self, batch_size: int, sampler: EpochSampler) -> DataLoader[Any]:
        """Batches, in whatever form ``gather`` takes."""
        ...

    def gather(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Images and targets of a batch, on the device."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """What a model learns: the data, and all that must be known to apply the model later.

    Attributes:
        train, val: the splits; ``val`` is None where all labelled data are learnt from.
        channels: name of each channel, such as ``summer:red``.
        mean, std: of each channel over the train split, in stored units; None where images come normalised.
        classes: class names in order of index.
        level: LUISA level of the classes; None for other legends.
        digest: identity of the data (release digest, or hash of archives and split lists).
        simulated: made from simulated scenes.
        absent: names of classes with no training sample: no model can learn them.
    """

    train: Samples
    val: Samples | None
    channels: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    classes: tuple[str, ...]
    level: int | None
    digest: str
    simulated: bool
    absent: tuple[str, ...] = ()


def check_finite(images: Tensor, where: str) -> None:
    """Refuse NaN and infinite inputs: one of them turns every weight into NaN.

    Raises:
        LulcbenchError: names the first bad sample.
    """
    if not images.is_floating_point():
        return
    for i, image in enumerate(images):
        if not torch.isfinite(image).all():
            raise LulcbenchError(
                f"{where}: sample {i} holds NaN or infinite values.",
                "Mark missing pixels as nodata (0) when the release is built; find them with 'lulcbench verify'.",
            )


class EpochSampler(Sampler[int]):
    """Sample numbers of one process: shuffled by (seed, epoch), split over processes.

    In training every process gets equally many (the rest of an epoch is dropped, never repeated). In evaluation
    every sample is taken exactly once, by one process.
    """

    def __init__(self, n: int, seed: int, train: bool, rank: int = 0, world: int = 1) -> None:
        self.n, self.seed, self.train, self.rank, self.world = n, seed, train, rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.train:
            from baselines.training.augment import generator

            order = torch.randperm(self.n, generator=generator(self.seed, self.epoch)).tolist()
            order = order[: self.n - self.n % self.world]
        else:
            order = list(range(self.n))
        return iter(order[self.rank :: self.world])

    def drops(self, batch_size: int) -> bool:
        """Whether a last, smaller batch is left out: in training, where a batch of one would break batch norms."""
        return self.train and len(self) >= batch_size

    def __len__(self) -> int:
        return self.n // self.world if self.train else len(range(self.rank, self.n, self.world))


class Positions(Dataset[Tensor]):
    """A dataset whose samples are their own positions: the tensors already lie on the device."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitems__(self, positions: list[int]) -> Tensor:
        """A batch: int64 ``(b,)``."""
        return torch.tensor(positions)


def _same(batch: Tensor) -> Tensor:
    return batch
