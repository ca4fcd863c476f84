"""Batches read ahead by threads, or gathered from memory: no worker processes, no copies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler

from lulcbench.datasets.batch import Sample, collate
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.datasets.resident import ResidentDataset

AHEAD = 1  # batches: decoding and converting one keeps all processors busy; more only compete for the caches


class Resumable:
    """A loader that knows how many batches of an epoch it has handed out, and can go on behind them.

    Lightning keeps this state in its checkpoints. In a loop of one's own, call ``load_state_dict(state)`` and
    ``sampler.set_epoch(state["epoch"])`` before iterating; ``len`` stays that of the whole epoch.
    """

    sampler: Any
    _epoch = _given = 0
    _resumes = False

    def state_dict(self) -> dict[str, int]:
        """``epoch`` of the sampler, and the number of ``batches`` of it that were handed out, not only read ahead."""
        return {"epoch": self._epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration leaves out what was handed out, if it is of the same epoch."""
        self._epoch, self._given, self._resumes = state["epoch"], state["batches"], True

    def _begin(self) -> int:
        """Number of batches that the iteration that begins has to leave out."""
        epoch = getattr(self.sampler, "epoch", 0)
        self._given = self._given if self._resumes and epoch == self._epoch else 0
        self._epoch, self._resumes = epoch, False
        return self._given


class WindowLoader(Resumable):
    """Iterates over batches, of which the next is always under way and the one after it lined up.

    Reading, decoding and converting run outside the interpreter lock, so that threads suffice. Lightning takes it in
    place of a ``DataLoader``.

    Args:
        dataset: what to read.
        batch_size: samples per batch.
        sampler: order of the samples; None keeps theirs.
        drop_last: leave out a last batch that is not full.

    Example:
        >>> loader = WindowLoader(LuisaSeg(root, sensors="landsat"), batch_size=8)
        >>> next(iter(loader))["image"].shape
        torch.Size([8, 24, 40, 40])
    """

    def __init__(
        self,
        dataset: BatchDataset,
        batch_size: int,
        sampler: Sampler[int] | None = None,
        *,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler if sampler is not None else SequentialSampler(dataset)
        self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Sample]:
        """Batches in the sampler's order; an error while reading is raised when its batch is due."""
        coming: deque[Future[Sample]] = deque()
        with ThreadPoolExecutor(AHEAD, "lulcbench-read") as pool:
            try:
                for indices in islice(self.batch_sampler, self._begin(), None):
                    coming.append(pool.submit(self._read, indices))
                    if len(coming) > AHEAD:
                        yield self._due(coming)
                while coming:
                    yield self._due(coming)
            finally:
                for future in coming:
                    future.cancel()

    def _read(self, indices: list[int]) -> Sample:
        return collate(self.dataset.__getitems__(indices))

    def _due(self, coming: deque[Future[Sample]]) -> Sample:
        batch = coming.popleft().result()
        self._given += 1
        return batch


class ResidentLoader(Resumable):
    """Iterates over batches that are gathered, by index, from a dataset that lies in memory whole.

    On a GPU only sample numbers are transferred to it. Lightning takes it in place of a ``DataLoader``.

    Args:
        dataset: what to read; a ``ResidentDataset`` is taken as it is, any other is read whole, at once.
        batch_size: samples per batch.
        sampler: order of the samples; None keeps theirs.
        drop_last: leave out a last batch that is not full.
        device: where a dataset that is read is kept.

    Raises:
        LulcbenchError: see ``ResidentDataset``.
    """

    def __init__(
        self,
        dataset: BatchDataset | ResidentDataset,
        batch_size: int,
        sampler: Sampler[int] | None = None,
        *,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset = dataset if isinstance(dataset, ResidentDataset) else ResidentDataset(dataset, device)
        self.sampler = sampler if sampler is not None else SequentialSampler(self.dataset)
        self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Sample]:
        """Batches in the sampler's order, on the dataset's device."""
        for indices in islice(self.batch_sampler, self._begin(), None):
            batch = self.dataset.read(indices)
            self._given += 1
            yield batch


class ResumableDataLoader(Resumable, DataLoader[Sample]):
    """A ``DataLoader`` with worker processes and a ``WindowSampler`` that can go on within an epoch."""

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Batches in the sampler's order.

        Workers start with the first batch, not before: Lightning asks for the iterator before it sets the epoch.
        """
        self.sampler.start = self._begin() * (self.batch_size or 1)
        workers = super().__iter__()  # they are sent their first batches here, so that the sampler has begun
        self.sampler.start = 0
        for batch in workers:
            self._given += 1
            yield batch
