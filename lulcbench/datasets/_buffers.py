"""Reuse of memory: new pages for every batch would take longer than decoding and converting it."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

# For a batch in use, one waiting and one being read; memory beyond that is freed.
KEEP = 3


class Buffers:
    """A pool of memory for tensors; memory returns to it when no tensor, view or array uses it any more.

    With a GPU, memory is pinned and managed by torch: a copy to the device may continue after the last tensor is gone,
    and only torch's allocator knows when it is complete. Worker processes do not pin memory, since what they send is
    copied (and pinned by ``pin_memory`` of the DataLoader).
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)

    def __getstate__(self) -> dict[str, Any]:
        return {"_free": defaultdict(list)}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor in memory that nothing else uses; thread-safe."""
        if self._pinned:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        size = math.prod(shape) * dtype.itemsize
        try:
            owner = self._free[size].pop()
        except IndexError:
            owner = np.empty(size, np.uint8)
        # The storage of a tensor keeps the array that it was made from, so that this view is deleted with the storage.
        view = owner[:]
        weakref.finalize(view, _give_back, self._free, owner).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)

    @cached_property
    def _pinned(self) -> bool:
        return get_worker_info() is None and torch.cuda.is_available()


def _give_back(free: dict[int, list[npt.NDArray[np.uint8]]], owner: npt.NDArray[np.uint8]) -> None:
    kept = free[owner.nbytes]
    if len(kept) < KEEP:
        kept.append(owner)
