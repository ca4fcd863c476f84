"""What samplers, loaders and the data module ask of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lulcbench.datasets.batch import Sample


class BatchDataset(Protocol):
    """A dataset that reads whole batches; all datasets of this package do.

    Another dataset that has these members goes through the same samplers, loaders and data module.

    Attributes:
        split: name of the split.
    """

    split: str

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Several samples, with transforms."""
        ...

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Sample:
        """A batch, without transforms: every entry has a leading batch dimension, or is a list."""
        ...

    def finish(self, batch: Sample) -> Sample:
        """A batch, on any device, as networks take it: images of stored integers are normalised."""
        ...

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, of which the place of the windows may depend."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether samples are the same in every epoch."""
        ...
