"""Loaders without worker processes and copies: batches are prefetched by threads or gathered from memory."""

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

AHEAD = 1  # batches: reading one keeps all processors busy; more would compete for the caches


class Resumable:
    """A loader that counts the batches of an epoch that it has returned, and can continue after them.

    Lightning stores this state in its checkpoints. In other training loops, call ``load_state_dict(state)`` and
    ``sampler.set_epoch(state["epoch"])`` before iterating; ``len`` remains that of the complete epoch.
    """

    sampler: Any
    _epoch = _given = 0
    _resumes = False

    def state_dict(self) -> dict[str, int]:
        """``epoch`` of the sampler, and the number of its ``batches`` that were returned, without prefetched ones."""
        return {"epoch": self._epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next iteration of the same epoch skip the batches that were returned."""
        self._epoch, self._given, self._resumes = state["epoch"], state["batches"], True

    def _begin(self) -> int:
        """Number of batches that this iteration skips."""
        epoch = getattr(self.sampler, "epoch", 0)
        self._given = self._given if self._resumes and epoch == self._epoch else 0
        self._epoch, self._resumes = epoch, False
        return self._given


class WindowLoader(Resumable):
    """Iterates over batches; the next one is always being read, and the one after it is scheduled.

    Reading, decoding and converting release the interpreter lock, so that threads suffice. Lightning accepts it in
    place of a ``DataLoader``; for libraries that do not, such as accelerate, there is ``dataloader``.

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

    def dataloader(self) -> DataLoader[Sample]:
        """A ``DataLoader`` of the same batches, for libraries that divide and move those of this class alone.

        ``accelerator.prepare(loader.dataloader())`` gives each process its part of the batches, on its device; they are
        read without prefetching.

        Example:
            >>> loader = WindowLoader(LuisaSeg(root, sensors="landsat"), batch_size=8)
            >>> next(iter(loader.dataloader()))["image"].shape
            torch.Size([8, 24, 40, 40])
        """
        return DataLoader(self.dataset, batch_sampler=self.batch_sampler, collate_fn=collate)  # type: ignore[arg-type]

    def _read(self, indices: list[int]) -> Sample:
        return collate(self.dataset.__getitems__(indices))

    def _due(self, coming: deque[Future[Sample]]) -> Sample:
        batch = coming.popleft().result()
        self._given += 1
        return batch


class ResidentLoader(Resumable):
    """Iterates over batches that are gathered, by index, from a dataset in memory.

    With a GPU, only sample numbers are transferred. Lightning accepts it in place of a ``DataLoader``.

    Args:
        dataset: dataset to read; unless it is a ``ResidentDataset``, it is read completely at once.
        batch_size: samples per batch.
        sampler: order of the samples; None keeps theirs.
        drop_last: leave out a last batch that is not full.
        device: device on which a dataset that is read is kept.

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
    """A ``DataLoader`` with worker processes and a ``WindowSampler`` that can continue within an epoch."""

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Batches in the sampler's order.

        Workers start with the first batch, not before: Lightning asks for the iterator before it sets the epoch.
        """
        self.sampler.start = self._begin() * (self.batch_size or 1)
        workers = super().__iter__()  # workers get their first batches here, so the sampler has started
        self.sampler.start = 0
        for batch in workers:
            self._given += 1
            yield batch
