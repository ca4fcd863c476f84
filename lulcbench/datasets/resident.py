"""A dataset that is read once and kept in memory, on the device that uses it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lulcbench.datasets.batch import Sample
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.errors import LulcbenchError

READ_BYTES = 64 * 2**20  # of a dataset at a time, to limit temporary memory

Path = tuple[str, ...]  # of an entry in a batch: ("mask",), or ("image", "landsat")


class ResidentDataset:
    """All samples of a dataset in memory, on a device; batches are gathered there by index.

    Batches are those of ``dataset.read``, entry by entry. Masks, whose class indices are below 256, are kept as one
    byte per pixel.

    Args:
        dataset: dataset to read. Its samples must be the same in every epoch: without transforms and moving windows.
        device: device of the memory.

    Attributes:
        device: device of the memory.

    Raises:
        LulcbenchError: samples are not the same in every epoch, or an image has NaN or infinite values, which would
            turn all weights of a network into NaN.

    Example:
        >>> kept = ResidentDataset(LuisaSeg(root, sensors="landsat"))
        >>> kept.read([3, 1])["image"].shape
        torch.Size([2, 24, 40, 40])
    """

    def __init__(self, dataset: BatchDataset, device: torch.device | str = "cpu") -> None:
        if not dataset.fixed:
            raise LulcbenchError(
                f"Samples of the {dataset.split} split change from epoch to epoch: they cannot be kept in memory.",
                'Leave transforms out and use phase="fixed", or read samples as they are needed: resident=False.',
            )
        self.device = torch.device(device)
        self._n = n = len(dataset)
        self._columns: dict[Path, _Column] = {}
        step = max(1, READ_BYTES // max(1, _nbytes(dataset)))
        for start in range(0, n, step):
            for path, value in _entries(dataset.read(range(start, min(n, start + step)))):
                if not start:
                    self._columns[path] = _Column(path, value, n, self.device)
                self._columns[path].put(value, start, dataset.split)

    @staticmethod
    def size(dataset: BatchDataset) -> int:
        """Bytes that a dataset needs in memory, from the size of one sample."""
        return len(dataset) * _nbytes(dataset)

    def __len__(self) -> int:
        return self._n

    def read(self, indices: Sequence[int]) -> Sample:
        """Gather a batch of samples on the device."""
        positions = torch.as_tensor(indices, dtype=torch.int64).to(self.device, non_blocking=True)
        batch: Sample = {}
        for path, column in self._columns.items():
            entries = batch
            for name in path[:-1]:
                entries = entries.setdefault(name, {})
            entries[path[-1]] = column.take(positions, indices)
        return batch


class _Column:
    """One entry of all samples: a tensor on the device, or a list."""

    def __init__(self, path: Path, value: Any, n: int, device: torch.device) -> None:
        self.path = path
        self.dtype = value.dtype if isinstance(value, Tensor) else None
        self.values: Any = []
        if isinstance(value, Tensor):
            self.values = torch.empty((n, *value.shape[1:]), dtype=_kept_type(path, self.dtype), device=device)

    def put(self, value: Any, start: int, split: str) -> None:
        """Store the entry of samples from ``start`` on."""
        if not isinstance(value, Tensor):
            self.values.extend(value)
            return
        if value.is_floating_point() and not torch.isfinite(value).all():
            bad = next(i for i, sample in enumerate(value, start) if not torch.isfinite(sample).all())
            raise LulcbenchError(
                f"{split}: sample {bad} holds NaN or infinite values ({'.'.join(self.path)}).",
                "Mark missing pixels as nodata (0) when the release is built; find them with 'lulcbench check-files'.",
            )
        if self.values.dtype == torch.uint8 != self.dtype and (value.min() < 0 or value.max() > 255):
            raise LulcbenchError(f"{split}: {'.'.join(self.path)} holds other values than 0 to 255.", "Check it.")
        if self.dtype == torch.uint16:
            value = value.view(torch.int16)
        self.values[start : start + len(value)] = value

    def take(self, positions: Tensor, indices: Sequence[int]) -> Any:
        """Gather the entry of samples, in its original type."""
        if self.dtype is None:
            return [self.values[i] for i in indices]
        values = self.values[positions]
        return values.view(self.dtype) if self.dtype == torch.uint16 else values.to(self.dtype)


def _kept_type(path: Path, dtype: torch.dtype | None) -> torch.dtype | None:
    if path[0].startswith("mask") and dtype == torch.int64:
        return torch.uint8
    return torch.int16 if dtype == torch.uint16 else dtype  # not all devices gather uint16


def _entries(batch: Sample, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in batch.items():
        if isinstance(value, dict):
            yield from _entries(value, (*path, key))
        else:
            yield (*path, key), value


def _nbytes(dataset: BatchDataset) -> int:
    """Bytes of a sample in memory."""
    total = 0
    for path, value in _entries(dataset.read([0])):
        if isinstance(value, Tensor):
            total += value.numel() * torch.empty(0, dtype=_kept_type(path, value.dtype)).element_size()
    return total
