"""Interface of models: a section of a config that fits a model, and the fitted model, which predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from baselines.data import Input
from baselines.devices import Images
from baselines.registry import Kind, Registry
from baselines.training.effort import Effort
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.experiment import Experiment
    from baselines.run import About
    from baselines.tasks import Task


class Predictor(ABC):
    """Base class of fitted models.

    Attributes:
        file: name of the file of the model in the folder of a run.
        media_type: media type of the file.
        framework: framework that reads the file, as spelled by the mlm extension of STAC.
        artifact_type: function that wrote the file.
    """

    file: ClassVar[str]
    media_type: ClassVar[str]
    framework: ClassVar[str]
    artifact_type: ClassVar[str]

    @abstractmethod
    def __call__(self, images: Images) -> Tensor:
        """Predict class probabilities of normalised images: float32 ``(b, class)``, if dense ``(b, class, y, x)``."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write ``file`` into the folder of a run."""

    def for_year(self, year: int) -> Predictor:
        """The model for imagery of a year: this one, unless a model was fitted to each year.

        Raises:
            LulcbenchError: there is none for that year.
        """
        return self

    def graph(self, inputs: Mapping[str, Input]) -> bytes:
        """The model as ONNX, see ``baselines.exporting.graphs``.

        Raises:
            LulcbenchError: models of this kind cannot be exported.
        """
        raise LulcbenchError(f"{type(self).__name__} has no ONNX form.", "Export another kind of model.")

    @property
    def stacked(self) -> tuple[str, ...]:
        """Names of the members of a stack, whose probabilities its graph returns too; empty for other models."""
        return ()

    def reach(self, inputs: Mapping[str, Input]) -> int | None:
        """Pixels around a cell that its predictions depend on; None if unbounded, 0 for models of single pixels."""
        return 0

    def count_parameters(self) -> dict[str, int]:
        """Numbers of ``trainable`` and of ``total`` weights; 0 for models without weights."""
        return {"trainable": 0, "total": 0}

    def to(self, device: torch.device) -> Self:
        """Move the model to a device; no effect on models without tensors."""
        return self


@dataclass(frozen=True, slots=True)
class Fitted:
    """Result of fitting a model.

    Attributes:
        predictor: the fitted model.
        effort: time and steps of fitting.
        temperature: divides logits before the softmax, so that probabilities are calibrated on the val split.
    """

    predictor: Predictor
    effort: Effort
    temperature: float = 1.0


class ModelConfig(Kind):
    """Base class of the settings of models.

    Attributes:
        title: name of the kind.
        dense: whether the model predicts every pixel, or one class per sample; None if it can do both.
        uses_images: whether predictions depend on images.
        has_loss: whether the loss of the task trains it.
    """

    title: ClassVar[str]
    dense: ClassVar[bool | None]
    uses_images: ClassVar[bool] = True
    has_loss: ClassVar[bool] = True

    @abstractmethod
    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Fit the model to the train split.

        Args:
            experiment: config, data and task.
            folder: folder of the run; an interrupted fit is resumed from its files.
            deadline: ``time.monotonic()`` at which to stop; the next call resumes.

        Raises:
            OutOfTime: the deadline was reached.
            LulcbenchError: the data do not fit the model; memory ran out; the loss diverged.
        """

    @abstractmethod
    def load(self, folder: Path, config: Config, task: Task) -> Predictor:
        """Read the fitted model of a run.

        Raises:
            LulcbenchError: the file is missing or damaged, or does not match its description.
        """

    @abstractmethod
    def describe(self, about: About) -> str:
        """A sentence for the model card of a submission."""

    @property
    def label(self) -> str:
        """Name in tables and pages."""
        return self.title

    @property
    def pretraining(self) -> str:
        """Name of the pretrained weights; ``none`` if there are none."""
        return "none"

    def small(self) -> dict[str, Any]:
        """Settings of the smallest model of this kind, for rehearsals on a CPU."""
        return {}


MODELS: Registry[ModelConfig] = Registry("model", ModelConfig)  # type: ignore[type-abstract]
