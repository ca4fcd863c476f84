"""The current epoch of a dataset, which determines the positions of its windows."""

from __future__ import annotations

import warnings

import torch


class Epochs:
    """Epoch, and number of samples read since it was set, in shared memory, so that persistent workers see changes."""

    def __init__(self) -> None:
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._read = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return int(self._epoch[0])

    @property
    def samples_read(self) -> int:
        """Samples read since the epoch was set, by all workers."""
        return int(self._read[0])

    def set(self, epoch: int) -> None:
        """Begin an epoch."""
        self._epoch[0] = epoch
        self._read[0] = 0

    def count(self, n: int, length: int, phase: str) -> None:
        """Count ``n`` samples of moving windows; warn once when two epochs of ``length`` were read without ``set``."""
        before = self.samples_read
        self._read[0] = before + n
        if before < 2 * length <= before + n:
            warnings.warn(
                f"Windows of phase {phase!r} have been read twice and did not move: call set_epoch(epoch) before each "
                "epoch, or sample with WindowSampler or LuisaDataModule, which do.",
                stacklevel=4,
            )
