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

_AT_ONCE = 2**16  # numbers of samples that are drawn or listed at once
_TILES_AT_ONCE = 512


class WindowSampler(DistributedSampler[int]):
    """Shuffles again every epoch, moves the dataset's windows along, and can begin in the middle of an epoch.

    Being a ``DistributedSampler``, Lightning and torchrun use it as it is; each process gets its share. The order
    depends on (seed, epoch) alone: to resume, call ``set_epoch(epoch, start)``. Unlike in torch's own sampler, which
    adds the two numbers, seed 0 in epoch 1 is not seed 1 in epoch 0.

    Args:
        dataset: what to draw from.
        shuffle: False keeps the order.
        weights: how often to draw each sample, float ``(len(dataset),)``; samples are then drawn with replacement.
        seed: of the order.
        drop_last: where several processes do not share evenly, leave the rest of an epoch out; False repeats its
            first samples instead.

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
        """Go to an epoch (Lightning calls this), skipping the first ``start`` samples of this process's share."""
        super().set_epoch(epoch)
        self._windows.set_epoch(epoch)
        self.start = start

    def __iter__(self) -> Iterator[int]:
        """Numbers of samples, listed as they are asked for: 25 million of them at once would take a gigabyte."""
        return islice(chain.from_iterable(part.tolist() for part in self._parts()), self.start, None)

    def _parts(self) -> Iterator[npt.NDArray[np.int64]]:
        """This process's share of the epoch, piece by piece."""
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
            # Where processes do not share evenly and nothing is left out, the first samples come a second time.
            at = np.arange(first, last, self.num_replicas) % n
            yield at if order is None else order[at]

    def __len__(self) -> int:
        return max(0, self.num_samples - self.start)


class InOrder(DistributedSampler[int]):
    """Samples in order; each of several processes takes every n-th.

    Args:
        dataset: what to go through.
        pad: repeat some samples, so that all processes get equally many: needed where they wait for each other at every
            step. Without it, each sample comes exactly once.
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
    """Weights with which all classes (at the dataset's finest level) come up about equally often.

    They amount to drawing a class, all classes alike, then a window in proportion to its share of that class: a
    window's weight is the mean of 1 / (class's share of the split) over its own labels, 0 where all are ignored.
    Windows that move count with where they lie on average; pairs of years with both. Where each sample has one label
    (``LuisaCls``), the weight is 1 / (number of samples with the same label). Reads all labels of the split once.

    Returns:
        float64 ``(len(dataset),)``, sum 1.

    Raises:
        LulcbenchError: all labels of the split are ignored at that level, or the dataset holds no labels.
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
        worth = np.zeros(256, np.float32)  # by class index; ignored labels are worth nothing
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
