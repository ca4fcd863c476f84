"""Interface of datasets for samplers, loaders and the data module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lulcbench.datasets.batch import Sample


class BatchDataset(Protocol):
    """A dataset that reads whole batches; all datasets of this package do.

    Other datasets with these members work with the same samplers, loaders and data module.

    Attributes:
        split: name of the split.
    """

    split: str

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Read several samples, with transforms."""
        ...

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Sample:
        """Read a batch, without transforms: every entry has a leading batch dimension, or is a list."""
        ...

    def finish(self, batch: Sample) -> Sample:
        """Normalise the images of a batch on its device, if they are stored integers."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which may determine the positions of the windows."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether samples are the same in every epoch."""
        ...
