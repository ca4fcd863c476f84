"""Interface of tasks: loss of a batch, class probabilities of outputs, scores and figures of predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.data import DataConfig, DataInfo
from baselines.predicting.unit_counts import UnitCounts
from baselines.registry import Fraction, Kind, NotNegative, Registry
from baselines.tasks.losses import FlatLoss, HierarchicalLoss, LossSettings
from lulcbench.datasets.batch import Sample
from lulcbench.evaluation.scores import ClassScores
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.plotting import Panel

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.run import Trained


class TaskConfig(Kind):
    """Base class of the settings of tasks.

    Attributes:
        target: the entry of batches with the labels, such as ``mask``; the data must have the same.
        dense: whether there is one output per pixel, or one per sample.
        spatial: whether samples are images, or series of single pixels; the data must be the same.
        addition: what the task adds to classes, for the name of a run.
        level_weights: weights of the log-likelihood at levels 1 to 4 (LUISA data); levels finer than that of the model
            are left out.
        smoothing, focal, dice, class_balance: see ``LossSettings``.
    """

    target: ClassVar[str]
    dense: ClassVar[bool]
    spatial: ClassVar[bool] = True
    addition: ClassVar[str] = ""
    level_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    smoothing: Fraction = 0.0
    focal: NotNegative = 0.0
    dice: Fraction = 0.0
    class_balance: Annotated[float, Field(ge=0, le=1)] = 0.0

    def check(self, data: DataConfig) -> None:
        """Check that the settings fit the data.

        Raises:
            ValueError: they do not fit, or would have no effect.
        """
        if data.target != self.target:
            raise ValueError(f"task {self.kind} requires a {self.target}, but data {data.kind} have a {data.target}")
        if data.spatial != self.spatial:
            samples = {True: "images", False: "series of single pixels"}
            raise ValueError(
                f"task {self.kind} requires {samples[self.spatial]}, but data {data.kind} are {samples[data.spatial]}"
            )
        if data.legend_level is None:
            if self.level_weights != type(self).model_fields["level_weights"].default:
                raise ValueError(f"task.level_weights requires LUISA levels, which data {data.kind} do not have")
        elif min(self.level_weights) < 0 or not any(self.level_weights[: data.legend_level]):
            raise ValueError(
                "task.level_weights must not be negative, and at least one level of the model needs a weight above 0"
            )

    @property
    def options(self) -> dict[str, Any]:
        """Options of the datasets that the task requires, in addition to those of the data."""
        return {}

    @abstractmethod
    def build(self, info: DataInfo) -> Task:
        """Build the task for these data."""


TASKS: Registry[TaskConfig] = Registry("task", TaskConfig)  # type: ignore[type-abstract]


@dataclass(frozen=True, slots=True)
class Report:
    """Scores and facts of a run for its page.

    Attributes:
        tables: title → metric → value; None if the metric is missing. Empty if the split has no labels.
        data: name of the data.
        summary: a sentence on the data and the split that was predicted.
        facts: facts about data and predictions, such as sources and their licences, as (name, text).
        intervals: title → metric → ends of the 95 % interval over spatial blocks, where there is one.
        classes: scores of each class, at the finest level.
        places: tile id → split, of all tiles of the release.
    """

    tables: dict[str, dict[str, float | None]]
    data: str
    summary: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    classes: tuple[ClassScores, ...] = ()
    places: dict[str, str] = field(default_factory=dict)


class Task(nn.Module, ABC):
    """Base class of tasks that predict classes; subclasses define the layout of labels and predictions.

    A module, because losses may hold tensors on the device and trainable weights.

    Args:
        config: settings of the task.
        info: description of the data.

    Attributes:
        outputs: number of output channels of networks.
        criterion: maps outputs and targets ``(b, level, …)`` to the loss.
    """

    def __init__(self, config: TaskConfig, info: DataInfo) -> None:
        super().__init__()
        self.config, self.info = config, info
        self.outputs = len(info.classes)
        settings = LossSettings(config.smoothing, config.focal, config.dice, config.class_balance)
        frequencies = np.array(info.frequencies) if config.class_balance else None
        self.criterion: nn.Module = (
            FlatLoss(settings, frequencies)
            if info.level is None
            else HierarchicalLoss(info.level, config.level_weights, settings, frequencies)
        )

    # -- training ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        """The loss of a batch: a scalar.

        Args:
            outputs: outputs of the network for ``batch["image"]``.
            batch: batch of the data module, augmented.
        """

    def activate(self, outputs: Tensor) -> Tensor:
        """Convert outputs ``(b, output, …)`` to class probabilities ``(b, class, …)``, float32, on the same grid."""
        return outputs.float().softmax(1)

    @abstractmethod
    def truth(self, batch: Sample) -> Tensor:
        """Class indices of a batch, ``(b, …)``; ignored samples or pixels have ``IGNORE_INDEX``."""

    def on_labels(self, p: Tensor, batch: Sample) -> Tensor:
        """Resample probabilities ``(b, class, …)`` to the grid of ``truth``."""
        return p

    def metrics(self, p: Tensor, truth: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Metrics of a batch in validation, as (sum, weight): the metric of a split is Σ sum / Σ weight.

        Args:
            p: ``(b, class, …)`` on the grid of the labels; ``b`` may be 0.
            truth: ``(b, …)`` class indices.
        """
        labelled = truth != IGNORE_INDEX
        correct = (p.argmax(1) == truth) & labelled
        return {"accuracy": (correct.sum(), labelled.sum())}

    # -- predicting --------------------------------------------------------------------------------------------------

    @abstractmethod
    def predict(self, trained: Trained, folder: Path) -> Path:
        """Predict ``predict.split`` and write the predictions into the folder of the run; returns their file.

        If the split has no labels, scores in the folder are deleted, and a message states it.

        Raises:
            LulcbenchError: the model was trained on other data, or memory ran out.
        """

    @abstractmethod
    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Scores of the predictions in the folder of a run, including ``overall_accuracy`` and ``log_loss``."""

    @abstractmethod
    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts of the predictions in the folder of a run by spatial block or patch, for paired tests."""

    @abstractmethod
    def report(self, config: Config, folder: Path) -> Report:
        """Scores and facts of a run for its page.

        Raises:
            LulcbenchError: predictions or scores are missing or belong to other data.
        """

    @abstractmethod
    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """Yield ``count`` samples of the predicted split with predictions, and labels if any: name and panels."""

    def extremes(
        self, config: Config, folder: Path, count: int, level: int
    ) -> list[tuple[str, float, Sequence[Panel]]]:
        """The best ``count`` and the worst ``count`` tiles: name, share of right pixels, panels.

        Empty for tasks without maps.
        """
        return []


class LevelTargets(nn.Module):
    """Map class indices of one level to levels 1 to 4 (ignored at finer ones); those of flat legends are unchanged."""

    def __init__(self, level: int | None) -> None:
        super().__init__()
        self.level = level
        table = torch.full((len(LEVELS), 256), IGNORE_INDEX, dtype=torch.int64)
        for n in range(1, (level or 0) + 1):
            parents = torch.from_numpy(legend().parents(level or n, n)).long()
            table[n - 1, : len(parents)] = parents
        self.register_buffer("table", table, persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        """Map ``(b,)`` to ``(b, 4)``, or to ``(b, 1)`` for flat legends."""
        if self.level is None:
            return label[:, None]
        table: Tensor = self.table  # type: ignore[assignment]
        return table[:, label].T
