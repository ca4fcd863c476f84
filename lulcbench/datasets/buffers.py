"""Memory that is used again: fresh pages for every batch would cost more time than decoding and converting it."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# Enough for a batch in use, two being read and one waiting; whatever more comes back is freed.
KEEP = 4


class Buffers:
    """Hands out tensors whose memory returns here when the last tensor, view or array that shares it is gone."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)

    def __getstate__(self) -> dict[str, Any]:
        return {"_free": defaultdict(list)}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor with arbitrary content, in memory that nothing else uses."""
        size = math.prod(shape) * dtype.itemsize
        free = self._free[size]
        owner = free.pop() if free else np.empty(size, np.uint8)
        # A tensor's storage holds the very array it was made from, so that this view dies with the storage.
        view = owner[:]
        weakref.finalize(view, _give_back, self._free, owner).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)


def _give_back(free: dict[int, list[npt.NDArray[np.uint8]]], owner: npt.NDArray[np.uint8]) -> None:
    kept = free[owner.nbytes]
    if len(kept) < KEEP:
        kept.append(owner)
