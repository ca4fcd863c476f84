"""Batches read ahead by threads: what a DataLoader's worker processes are for, without processes or copies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from torch.utils.data import BatchSampler, Sampler, SequentialSampler

from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Sample, collate

AHEAD = 1  # batches: decoding and converting one keeps all processors busy; more only compete for the caches


class WindowLoader:
    """Iterates over batches, of which the next is always under way and the one after it lined up.

    Reading, decoding and converting run outside the interpreter lock, so that threads suffice. Lightning takes it in
    place of a ``DataLoader``.

    Args:
        dataset: what to read.
        batch_size: samples a batch.
        sampler: order of the samples; None keeps theirs.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        dataset: LuisaDataset,
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
                for indices in self.batch_sampler:
                    coming.append(pool.submit(self._read, indices))
                    if len(coming) > AHEAD:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                for future in coming:
                    future.cancel()

    def _read(self, indices: list[int]) -> Sample:
        return collate(self.dataset.__getitems__(indices))
