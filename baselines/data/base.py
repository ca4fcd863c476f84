"""What a kind of data is: a section of a config that opens datasets and says what they hold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from baselines.registry import Kind, Part, Registry
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.errors import LulcbenchError


class Input(Part):
    """Imagery of one sensor, as models take it.

    Attributes:
        channels: name of each, such as ``summer:red``.
        mean, std: of each channel over the samples learnt from, in stored units (reflectance, or 0 to 255): images are
            normalised by them.
        resolution: pixel size in metres.
    """

    channels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: float

    @model_validator(mode="after")
    def _one_per_channel(self) -> Input:
        if not len(self.channels) == len(self.mean) == len(self.std):
            raise ValueError("there must be one mean and one std per channel")
        return self


class DataInfo(Part):
    """What must be known of data to build a model for them, and to apply the model later.

    Attributes:
        inputs: by sensor.
        classes: names in the order of their indices.
        level: LUISA level of the classes; None for other legends.
        digest: identity of the data: of a release, or of archives and split lists.
        simulated: made from simulated scenes.
        absent: names of classes without a training sample, which no model can learn.
    """

    inputs: dict[str, Input]
    classes: tuple[str, ...]
    level: int | None
    digest: str
    simulated: bool
    absent: tuple[str, ...] = ()


class DataConfig(Kind):
    """Data of one kind.

    Attributes:
        target: the entry of batches that holds the labels, such as ``mask``.
        task: kind of the task that these data are for where a config names none.
        root: folder that holds the data.
    """

    target: ClassVar[str]
    task: ClassVar[str]
    root: str

    @property
    @abstractmethod
    def dataset(self) -> Callable[..., BatchDataset]:
        """The class of the datasets; takes ``split`` and ``options``."""

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Options of all splits' datasets."""

    @property
    def train_options(self) -> dict[str, Any]:
        """Options of the dataset that is learnt from alone."""
        return {}

    def fitted_options(self, info: DataInfo) -> dict[str, Any]:
        """Options of datasets that a model of these data is applied to."""
        return {}

    @property
    def has_val(self) -> bool:
        """Whether a val split is left to validate on."""
        return True

    @property
    def legend_level(self) -> int | None:
        """LUISA level of the classes; None for other legends."""
        return None

    @abstractmethod
    def digest(self) -> str:
        """Identity of the data.

        Raises:
            LulcbenchError: they are missing or damaged.
        """

    @abstractmethod
    def describe(self, train: Any) -> DataInfo:
        """What the dataset that is learnt from holds."""


DATA: Registry[DataConfig] = Registry("data", DataConfig)  # type: ignore[type-abstract]


def only_input(inputs: Mapping[str, Input], model: str) -> Input:
    """The imagery of the only sensor.

    Raises:
        LulcbenchError: there are several.
    """
    if len(inputs) > 1:
        raise LulcbenchError(f"{model} takes images of one sensor; the data give {', '.join(inputs)}.", "Choose one.")
    return next(iter(inputs.values()))
