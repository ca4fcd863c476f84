"""Samples, batches, and their windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from torch.utils.data import default_collate

from lulcbench.errors import LulcbenchError

Sample = dict[str, Any]


class Samples(Sequence[Sample]):
    """Samples that are views of one batch; ``collate`` returns that batch instead of copying it.

    Attributes:
        batch: every entry with a leading batch dimension, or a list.
    """

    def __init__(self, batch: Sample, n: int) -> None:
        self.batch = batch
        self._n = n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, i: int) -> Sample: ...
    @overload
    def __getitem__(self, i: slice) -> list[Sample]: ...
    def __getitem__(self, i: int | slice) -> Sample | list[Sample]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(self._n))]
        if not -self._n <= i < self._n:
            raise IndexError(f"sample {i} of {self._n}")
        sample: Sample = _unstack(self.batch, i)
        return sample


def collate(samples: Sequence[Sample]) -> Sample:
    """Collate samples like torch's ``default_collate``, but without a copy of the result of ``__getitems__``."""
    if isinstance(samples, Samples):
        return samples.batch
    batch: Sample = default_collate(list(samples))
    return batch


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """The windows of a batch of samples.

    Attributes:
        samples: int64 ``(n,)``, number of each sample in the dataset.
        rows: int64 ``(n,)``, row of the tile in the arrays.
        tiles: id of the tile.
        years: int64 ``(n,)``.
        offsets: int64 ``(n, 2)``, metres from the tile's upper-left corner, downwards and to the right.
        bounds: float64 ``(n, 4)``, left, bottom, right and top in EPSG:3035 metres.
    """

    samples: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    tiles: list[str]
    years: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.samples)

    def by_year(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Years of the samples, with the positions of their samples."""
        for year in np.unique(self.years):
            yield int(year), np.flatnonzero(self.years == year)

    def in_year(self, year: int) -> WindowBatch:
        """The same windows in another year."""
        return replace(self, years=np.full_like(self.years, year))


def positions(indices: Sequence[int] | npt.NDArray[np.integer], n: int) -> npt.NDArray[np.int64]:
    """Convert sample numbers to positions among ``n`` samples; negative ones count from the end.

    Raises:
        IndexError: one is out of range (which also ends plain iteration).
        LulcbenchError: a position is not a whole number.
    """
    index = np.asarray(indices)
    if index.size and index.dtype.kind not in "iu":
        raise LulcbenchError(f"There is no sample {indices!r}.", f"Samples are numbered from 0 to {n - 1}.")
    index = index.astype(np.int64, copy=False)
    index = np.where(index < 0, index + n, index)
    if index.size and (index.min() < 0 or index.max() >= n):
        raise IndexError(f"index out of range: this dataset has {n} samples")
    return index


def _unstack(value: Any, i: int) -> Any:
    return {key: _unstack(part, i) for key, part in value.items()} if isinstance(value, dict) else value[i]
