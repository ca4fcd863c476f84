"""The order of samples: shuffled or balanced, seeded, shared by several processes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed
from torch.utils.data import DistributedSampler

from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.datasets.seeds import mix
from lulcbench.errors import LulcbenchError
from lulcbench.grid import LABEL_RESOLUTION

_AT_ONCE = 2**16  # number of samples that are drawn or listed at once
_TILES_AT_ONCE = 512


class WindowSampler(DistributedSampler[int]):
    """Shuffles in every epoch, moves the windows of the dataset, and can start within an epoch.

    It is a ``DistributedSampler``: with Lightning and torchrun, each process gets its share. The order depends only on
    seed and epoch: to resume, call ``set_epoch(epoch, start)``. Torch's sampler adds the two numbers; here, seed 0 in
    epoch 1 and seed 1 in epoch 0 have different orders.

    Args:
        dataset: dataset to sample from.
        shuffle: False keeps the order.
        weights: relative frequency of each sample, float ``(len(dataset),)``; samples are then drawn with replacement.
        seed: seed of the order.
        drop_last: if the samples cannot be divided evenly among processes, leave out the rest of an epoch; False
            repeats its first samples.

    Raises:
        LulcbenchError: there is not one weight per sample, or none is above 0, or the seed is negative.

    Example:
        >>> sampler = WindowSampler(LuisaSeg(root, sensors="landsat"), seed=3)
        >>> sampler.set_epoch(1)
        >>> sorted(sampler) == list(range(64))
        True
    """

    def __init__(
        self,
        dataset: BatchDataset,
        *,
        shuffle: bool = True,
        weights: torch.Tensor | None = None,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(dataset, *_share(), shuffle=shuffle, seed=seed, drop_last=drop_last)  # type: ignore[arg-type]
        if seed < 0:
            raise LulcbenchError(f"The seed is {seed}.", "Use 0 or a larger integer.")
        self._windows = dataset
        self._bounds = None if weights is None else _cumulated(weights, len(dataset))
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Set the epoch (as Lightning does), skipping the first ``start`` samples of the share of this process."""
        super().set_epoch(epoch)
        self._windows.set_epoch(epoch)
        self.start = start

    def __iter__(self) -> Iterator[int]:
        """Yield sample numbers as they are needed: 25 million of them at once would take a gigabyte."""
        return islice(chain.from_iterable(part.tolist() for part in self._parts()), self.start, None)

    def _parts(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the share of this process in parts."""
        if self._bounds is not None:
            draw = np.random.default_rng((self.seed, self.epoch))
            for first in range(0, self.total_size, _AT_ONCE):
                count = min(_AT_ONCE, self.total_size - first)
                uniform = draw.random(count)[(self.rank - first) % self.num_replicas :: self.num_replicas]
                yield np.searchsorted(self._bounds, uniform, side="right")
            return
        order, n = None, len(self._windows)
        if self.shuffle:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.seed, self.epoch))).numpy()
        for first in range(self.rank, self.total_size, _AT_ONCE * self.num_replicas):
            last = min(first + _AT_ONCE * self.num_replicas, self.total_size)
            # If samples cannot be divided evenly and none are left out, the first ones are repeated.
            at = np.arange(first, last, self.num_replicas) % n
            yield at if order is None else order[at]

    def __len__(self) -> int:
        return max(0, self.num_samples - self.start)


class InOrder(DistributedSampler[int]):
    """Samples in order; each of several processes takes every n-th.

    Args:
        dataset: dataset to iterate over.
        pad: repeat some samples, so that all processes get the same number, as is required if they synchronise at every
            step. False yields each sample exactly once.
    """

    def __init__(self, dataset: BatchDataset, *, pad: bool = False) -> None:
        super().__init__(dataset, *_share(), shuffle=False)  # type: ignore[arg-type]
        if not pad:
            self.total_size = len(dataset)
            self.num_samples = len(range(self.rank, self.total_size, self.num_replicas))


def _share() -> tuple[int, int]:
    """(number of processes, rank of this one)."""
    several = distributed.is_available() and distributed.is_initialized()
    return (distributed.get_world_size(), distributed.get_rank()) if several else (1, 0)


def balanced(dataset: BatchDataset) -> torch.Tensor:
    """Weights by which all classes (at the finest level of the dataset) are drawn about equally often.

    This corresponds to drawing a class uniformly, then a window in proportion to its share of that class: the weight of
    a window is the mean of 1 / (share of the class in the split) over its labels, and 0 if all are ignored. For moving
    windows it is the mean over positions, for pairs of years the mean over both. Where each sample has one label
    (``LuisaCls``), the weight is 1 / (number of samples with the same label). Reads all labels of the split once.

    Returns:
        float64 ``(len(dataset),)``, sum 1.

    Raises:
        LulcbenchError: all labels of the split are ignored at that level, or the dataset has no labels.
    """
    labels = getattr(dataset, "labels", None)
    if labels is not None:
        weights = 1 / np.bincount(labels)[labels]
    elif isinstance(dataset, LuisaDataset) and dataset.label_years:
        weights = _window_weights(dataset)
    else:
        raise LulcbenchError(f"{type(dataset).__name__} has no labels to balance by.", "Use balanced=False.")
    total = weights.sum()
    if not total > 0:
        raise LulcbenchError("All labels of the split are ignored.", "Balance at a coarser level.")
    weights /= total
    return torch.from_numpy(weights)


def _window_weights(dataset: LuisaDataset) -> npt.NDArray[np.float64]:
    level, years = max(dataset.levels), dataset.label_years
    cover = dataset.windows.cover(LABEL_RESOLUTION).astype(np.float32)
    weights = np.empty((len(dataset.tiles), dataset.windows.per_tile, len(years)))
    for k, year in enumerate(years):
        share = dataset.class_fractions(year, level).mean(axis=0)
        worth = np.zeros(256, np.float32)  # by class index; 0 for ignored labels
        np.divide(1, share, out=worth[: len(share)], where=share > 0, casting="same_kind")
        for first in range(0, len(weights), _TILES_AT_ONCE):
            rows = dataset.tiles["row"].to_numpy()[first : first + _TILES_AT_ONCE]
            worths = worth[dataset.label_classes(rows, year, level)]
            weights[first : first + len(rows), :, k] = (cover @ worths @ cover.T).reshape(len(rows), -1)
    if years != dataset.years:
        weights = weights.mean(axis=-1, keepdims=True).repeat(len(dataset.years), axis=-1)
    return weights.ravel()


def _cumulated(weights: torch.Tensor, n: int) -> npt.NDArray[np.float64]:
    """Cumulative weights, for inverse-transform sampling."""
    if len(weights) != n:
        raise LulcbenchError(f"There are {len(weights)} weights for {n} samples.", "Give one weight per sample.")
    bounds: npt.NDArray[np.float64] = weights.numpy().cumsum(dtype=np.float64)
    if not 0 < bounds[-1] < np.inf or (weights < 0).any():
        raise LulcbenchError("Weights are negative, not finite, or all 0.", "Give weights of 0 or more, one above 0.")
    bounds /= bounds[-1]
    return bounds
