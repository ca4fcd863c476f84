"""Memory that is used again: fresh pages for every batch would cost more time than decoding and converting it."""

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

# Enough for a batch in use, one waiting and one being read; whatever more comes back is freed.
KEEP = 3


class Buffers:
    """Hands out tensors whose memory returns here when the last tensor, view or array that shares it is gone.

    Where there is a GPU, memory is pinned, and torch keeps it instead: a copy to the device may go on after the last
    tensor is gone, and only torch's own allocator knows when it is done. Worker processes pin nothing, since what they
    send is copied anyway (``pin_memory`` of the DataLoader pins that).
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)

    def __getstate__(self) -> dict[str, Any]:
        return {"_free": defaultdict(list)}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor with arbitrary content, in memory that nothing else uses; safe to call from several threads."""
        if self._pinned:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        size = math.prod(shape) * dtype.itemsize
        try:
            owner = self._free[size].pop()
        except IndexError:
            owner = np.empty(size, np.uint8)
        # A tensor's storage holds the very array it was made from, so that this view dies with the storage.
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
