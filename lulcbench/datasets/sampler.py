"""In which order samples come: shuffled or balanced, seeded, on many GPUs too."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import distributed
from torch.utils.data import DistributedSampler

from lulcbench.datasets.base import LuisaDataset
from lulcbench.legend import legend


class WindowSampler(DistributedSampler[int]):
    """Shuffles anew every epoch, moves the dataset's windows along, and can begin in the middle of an epoch.

    Being a ``DistributedSampler``, Lightning and torchrun use it as it is; each process gets its share. The order
    depends on (seed, epoch) alone: to resume, call ``set_epoch(epoch, start)``.

    Args:
        dataset: what to draw from.
        shuffle: False keeps the order.
        weights: how often to draw each sample, float ``(len(dataset),)``; samples are then drawn with replacement.
        seed: of the order.
    """

    def __init__(
        self,
        dataset: LuisaDataset,
        *,
        shuffle: bool = True,
        weights: torch.Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, *_share(), shuffle=shuffle, seed=seed)
        self._windows = dataset
        self.weights = weights
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to an epoch (Lightning calls this), skipping the first ``start`` samples of this process's share."""
        super().set_epoch(epoch)
        self._windows.set_epoch(epoch)
        self.start = start

    def __iter__(self) -> Iterator[int]:
        if self.weights is None:
            order = list(super().__iter__())
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            drawn = torch.multinomial(self.weights, self.total_size, replacement=True, generator=generator)
            order = drawn[self.rank : self.total_size : self.num_replicas].tolist()
        return iter(order[self.start :])

    def __len__(self) -> int:
        return max(0, self.num_samples - self.start)


class InOrder(DistributedSampler[int]):
    """Samples in order; each of several processes takes every n-th.

    Args:
        dataset: what to go through.
        pad: repeat some samples, so that all processes get equally many: needed where they wait for each other at every
            step, as in the validation of a training run. Without it, each sample comes exactly once.
    """

    def __init__(self, dataset: LuisaDataset, *, pad: bool = False) -> None:
        super().__init__(dataset, *_share(), shuffle=False)
        if not pad:
            self.total_size = len(dataset)
            self.num_samples = len(range(self.rank, self.total_size, self.num_replicas))


def _share() -> tuple[int, int]:
    """(number of processes, which this is)."""
    here = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_world_size(), distributed.get_rank()) if here else (1, 0)


def balanced(dataset: LuisaDataset) -> torch.Tensor:
    """Weights with which all classes (at the dataset's finest level) come up about equally often.

    A sample's weight is the mean of 1 / (class's share of the split) over the labels of its tile, so tiles with rare
    classes come more often. For ``LuisaCls`` it is 1 / (number of samples with the same label).

    Returns:
        float64 ``(len(dataset),)``, sum 1.
    """
    labels = getattr(dataset, "labels", None)
    if labels is not None:
        weights = 1 / np.bincount(labels)[labels]
    else:
        codes = legend().codes(max(dataset.levels))
        weights = np.empty((len(dataset.tiles), len(dataset.label_years)))
        for k, year in enumerate(dataset.label_years):
            fractions = dataset.tiles[[f"luisa_{year}_{code}" for code in codes]].to_numpy(np.float64)
            share = fractions.mean(axis=0)
            weights[:, k] = fractions @ np.divide(1, share, out=np.zeros_like(share), where=share > 0)
        weights = weights.mean(axis=1).repeat(len(dataset) // len(dataset.tiles))
    return torch.from_numpy(weights / weights.sum())
