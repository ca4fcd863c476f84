"""Interface of data: a section of a config that opens datasets and describes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy.typing as npt
from pydantic import model_validator

from baselines.registry import Kind, Part, Registry
from lulcbench.datasets.protocol import BatchDataset
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.release import Manifest
from lulcbench.seasons import Season


class Input(Part):
    """Imagery of one sensor as input of models.

    Attributes:
        channels: names of the channels, such as ``summer:red``, or ``-6:summer:red`` for those of 6 years before.
        mean, std: mean and standard deviation of each channel over the training samples, in stored units (reflectance,
            or 0 to 255), by which images are normalised.
        resolution: pixel size in metres.
        seasons: those of the channels, with their days; empty for single images and series.
        history: years before that of the samples whose channels come first, the earliest year first.
        composite: how the observations of a season, or a date, became one; None for single images.
    """

    channels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resolution: float
    seasons: tuple[Season, ...] = ()
    history: tuple[int, ...] = ()
    composite: Literal["median", "medoid"] | None = None

    @model_validator(mode="after")
    def _one_per_channel(self) -> Input:
        if not len(self.channels) == len(self.mean) == len(self.std):
            raise ValueError("there must be one mean and one std per channel")
        return self


def check_composites(manifest: Manifest, inputs: Mapping[str, Input]) -> None:
    """Check that the composites of a release were made as those that a model was trained on, where both are known.

    Raises:
        NotAvailableError: those of a sensor were not.
    """
    for sensor, imagery in inputs.items():
        if imagery.composite and (held := manifest.sensor(sensor).composite) not in (None, imagery.composite):
            raise NotAvailableError(
                f"{manifest.id} has composites of {sensor} by {held}, not by {imagery.composite}, as in training.",
                "Use a release with the same composites, or a model that was trained on these.",
            )


class DataInfo(Part):
    """Description of data that is needed to build a model for them and to apply it later.

    Attributes:
        inputs: sensor → input.
        classes: names of the classes in the order of their indices.
        level: LUISA level of the classes; None for other legends.
        digest: digest of the data of the release, or of archives and split lists.
        simulated: whether the data are simulated.
        frequencies: frequency of each class in training, with sum 1.
        subset: name → LUISA codes of the classes, if they are a legend subset.
    """

    inputs: dict[str, Input]
    classes: tuple[str, ...]
    level: int | None
    digest: str
    simulated: bool
    frequencies: tuple[float, ...]
    subset: dict[str, tuple[int, ...]] | None = None

    @model_validator(mode="after")
    def _one_per_class(self) -> DataInfo:
        if len(self.frequencies) != len(self.classes):
            raise ValueError("there must be one frequency per class")
        return self

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of classes without a training sample."""
        return tuple(name for name, f in zip(self.classes, self.frequencies, strict=True) if not f)


class DataConfig(Kind):
    """Base class of the settings of data.

    Attributes:
        spatial: whether images have neighbouring pixels, so that flips, rotations and views make sense.
        target: the entry of batches with the labels, such as ``mask``.
        task: default kind of the task.
        root: folder of the data.
    """

    spatial: ClassVar[bool] = True
    target: ClassVar[str]
    task: ClassVar[str]
    root: str

    @property
    @abstractmethod
    def dataset(self) -> Callable[..., BatchDataset]:
        """Class of the datasets; its arguments are ``split`` and ``options``."""

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Options of the datasets of all splits."""

    @property
    def train_options(self) -> dict[str, Any]:
        """Options of only the training dataset."""
        return {}

    def fitted_options(self, info: DataInfo) -> dict[str, Any]:
        """Options of datasets that a model trained on these data predicts."""
        return {}

    def normalize_alike(self, dataset: Any, info: DataInfo) -> None:
        """Have another split normalised as the train split, where it would be by statistics of its own."""

    @property
    def has_val(self) -> bool:
        """Whether there is a val split that is not used for training."""
        return True

    @property
    def legend_level(self) -> int | None:
        """LUISA level of the classes; None for other legends."""
        return None

    @property
    @abstractmethod
    def sensor_names(self) -> tuple[str, ...]:
        """Sensors of the images, the first of which gives the grid of predictions."""

    @abstractmethod
    def units(self, dataset: Any) -> tuple[str, Sequence[str]]:
        """What paired tests resample, ``spatial blocks`` or ``patches``, and the unit of each sample of a dataset."""

    @abstractmethod
    def digest(self) -> str:
        """Digest that identifies the data.

        Raises:
            LulcbenchError: the data are missing or damaged.
        """

    def facts(self) -> dict[str, float]:
        """Figures of the training data for the page of a study."""
        return {}

    @abstractmethod
    def describe(self, train: Any) -> DataInfo:
        """Describe the training dataset."""


DATA: Registry[DataConfig] = Registry("data", DataConfig)  # type: ignore[type-abstract]


def only_input(inputs: Mapping[str, Input], model: str) -> Input:
    """The input of the only sensor.

    Raises:
        LulcbenchError: there are several sensors.
    """
    if len(inputs) > 1:
        raise LulcbenchError(f"{model} takes images of one sensor; the data have {', '.join(inputs)}.", "Choose one.")
    return next(iter(inputs.values()))


def shares(counts: npt.NDArray[Any]) -> tuple[float, ...]:
    """Shares of counts in their sum.

    Raises:
        LulcbenchError: there are none.

    Example:
        >>> import numpy as np
        >>> shares(np.array([3, 1]))
        (0.75, 0.25)
    """
    total = counts.sum()
    if not total:
        raise LulcbenchError("The train split has no labels.", "Choose a year or a level that has labels.")
    return tuple((counts / total).tolist())
