"""What a model is: a section of a config that fits itself to an experiment, and predicts once it is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from baselines.devices import Images
from baselines.registry import Kind, Registry
from baselines.training.effort import Effort

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.experiment import Experiment
    from baselines.run import About
    from baselines.tasks import Task


class Predictor(ABC):
    """A fitted model.

    Attributes:
        file: its file in the folder of a run.
        media_type: of the file.
        framework: what reads the file, as the mlm extension of STAC spells it.
        artifact_type: the function that wrote the file.
    """

    file: ClassVar[str]
    media_type: ClassVar[str]
    framework: ClassVar[str]
    artifact_type: ClassVar[str]

    @abstractmethod
    def __call__(self, images: Images) -> Tensor:
        """Class probabilities, float32, of normalised images: ``(b, class)``, or ``(b, class, y, x)`` if dense."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write ``file`` into the folder of a run."""

    def count_parameters(self) -> dict[str, int]:
        """``trainable`` and ``total`` numbers of weights; 0 of models without."""
        return {"trainable": 0, "total": 0}

    def to(self, device: torch.device) -> Self:
        """The model there; models without tensors stay where they are."""
        return self


@dataclass(frozen=True, slots=True)
class Fitted:
    """What fitting a model comes to.

    Attributes:
        predictor: the model.
        effort: that it took.
        temperature: divides logits before the softmax, so that probabilities are calibrated on the val split.
    """

    predictor: Predictor
    effort: Effort
    temperature: float = 1.0


class ModelConfig(Kind):
    """A model of one kind.

    Attributes:
        title: name of the kind.
        dense: whether it predicts every pixel, or one class per sample; None does what the task asks for.
        uses_images: whether predictions depend on images at all.
    """

    title: ClassVar[str]
    dense: ClassVar[bool | None]
    uses_images: ClassVar[bool] = True

    @abstractmethod
    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Fit the model to the train split.

        Args:
            experiment: config, data and task.
            folder: of the run; a fit that was interrupted goes on from what is there.
            deadline: ``time.monotonic()`` at which to stop, to be resumed by another call.

        Raises:
            OutOfTime: the deadline came first.
            LulcbenchError: the data do not suit the model; memory ran out; the loss diverged.
        """

    @abstractmethod
    def load(self, folder: Path, config: Config, task: Task) -> Predictor:
        """The fitted model of a run.

        Raises:
            LulcbenchError: its file is missing, damaged or does not fit its description.
        """

    @abstractmethod
    def describe(self, about: About) -> str:
        """A sentence for the card of a submission."""

    @property
    def label(self) -> str:
        """Name in tables and pages."""
        return self.title

    @property
    def pretraining(self) -> str:
        """What the model has learnt from before: ``none``, or a name."""
        return "none"

    def small(self) -> dict[str, Any]:
        """Settings of the smallest model of this kind, for rehearsals on a CPU."""
        return {}


MODELS: Registry[ModelConfig] = Registry("model", ModelConfig)  # type: ignore[type-abstract]
