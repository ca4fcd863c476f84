"""What a task is: from batches to a loss, from outputs to classes, from predictions to scores and pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from baselines.data import DataConfig, DataInfo
from baselines.registry import Fraction, Kind, Registry
from baselines.tasks.losses import FlatLoss, HierarchicalLoss
from lulcbench.datasets.batch import Sample
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.plotting import Panel

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.run import Trained


class TaskConfig(Kind):
    """A task of one kind.

    Attributes:
        target: the entry of batches that holds what is learnt; data of other kinds do not fit.
        dense: whether outputs are for every pixel, or one per sample.
        level_weights: weights of the log-likelihood at levels 1 to 4 (LUISA data); finer levels than the model's are
            left out.
        smoothing: label smoothing.
    """

    target: ClassVar[str]
    dense: ClassVar[bool]
    level_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    smoothing: Fraction = 0.0

    def check(self, data: DataConfig) -> None:
        """Nothing, if the settings suit the data.

        Raises:
            ValueError: they do not, or would do nothing.
        """
        if data.target != self.target:
            raise ValueError(f"task {self.kind} learns from a {self.target}, but data {data.kind} hold a {data.target}")
        if data.legend_level is None:
            if self.level_weights != type(self).model_fields["level_weights"].default:
                raise ValueError(f"task.level_weights are of LUISA levels, which data {data.kind} do not have")
        elif min(self.level_weights) < 0 or not any(self.level_weights[: data.legend_level]):
            raise ValueError("task.level_weights must not be negative, and one of a level that is learnt above 0")

    @property
    def options(self) -> dict[str, Any]:
        """What the task needs of the datasets, beyond what the data give by themselves."""
        return {}

    @abstractmethod
    def build(self, info: DataInfo) -> Task:
        """The task on these data."""


TASKS: Registry[TaskConfig] = Registry("task", TaskConfig)  # type: ignore[type-abstract]


@dataclass(frozen=True, slots=True)
class Report:
    """What a page shows of a run.

    Attributes:
        tables: by title, metric → value; None where there is no such figure.
        data: name of the data.
        summary: a sentence on the data and the split that was predicted.
        facts: about data and predictions, such as sources and their licences, as (name, text).
    """

    tables: dict[str, dict[str, float | None]]
    data: str
    summary: str
    facts: list[tuple[str, str]] = field(default_factory=list)


class Task(nn.Module, ABC):
    """Classes are learnt; how labels and predictions are laid out is for subclasses to say.

    A module, so that losses may hold tensors on the device, and weights that are trained.

    Args:
        config: its settings.
        info: the data.

    Attributes:
        outputs: number of channels that networks give.
        criterion: maps outputs and targets ``(b, level, …)`` to the loss.
    """

    def __init__(self, config: TaskConfig, info: DataInfo) -> None:
        super().__init__()
        self.config, self.info = config, info
        self.outputs = len(info.classes)
        self.criterion: nn.Module = (
            FlatLoss(config.smoothing)
            if info.level is None
            else HierarchicalLoss(info.level, config.level_weights, config.smoothing)
        )

    # -- learning ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        """The loss of a batch: a scalar.

        Args:
            outputs: of the network, for ``batch["image"]``.
            batch: as the data module gives it, augmented.
        """

    def activate(self, outputs: Tensor) -> Tensor:
        """Outputs ``(b, output, …)`` → class probabilities ``(b, class, …)``, float32, on the same grid."""
        return outputs.float().softmax(1)

    @abstractmethod
    def truth(self, batch: Sample) -> Tensor:
        """Class indices of a batch, ``(b, …)``; ``IGNORE_INDEX`` where unknown."""

    def on_labels(self, p: Tensor, batch: Sample) -> Tensor:
        """Probabilities ``(b, class, …)`` brought to the grid of ``truth``."""
        return p

    def metrics(self, p: Tensor, truth: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Figures of a batch in validation, as (sum, weight): the figure of a split is Σ sum / Σ weight.

        Args:
            p: ``(b, class, …)`` on the grid of the labels; ``b`` may be 0.
            truth: ``(b, …)``.
        """
        known = truth != IGNORE_INDEX
        correct = (p.argmax(1) == truth) & known
        return {"accuracy": (correct.sum(), known.sum())}

    # -- predicting --------------------------------------------------------------------------------------------------

    @abstractmethod
    def predict(self, trained: Trained, folder: Path) -> Path:
        """Predict ``predict.split`` and write the predictions into the run's folder; returns their file.

        Raises:
            LulcbenchError: the data are not those that the model was trained on, or memory ran out.
        """

    @abstractmethod
    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Scores of the predictions in a run's folder, with ``overall_accuracy`` and ``log_loss``."""

    @abstractmethod
    def report(self, config: Config, folder: Path) -> Report:
        """What a page shows of the scores of a run.

        Raises:
            LulcbenchError: predictions or scores are missing, or of other data.
        """

    @abstractmethod
    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """Samples of the predicted split with their labels and predictions: name and panels of each."""


class LevelTargets(nn.Module):
    """Class indices at one level → at levels 1 to 4, unknown below that level; for flat legends, as they are."""

    def __init__(self, level: int | None) -> None:
        super().__init__()
        self.level = level
        table = torch.full((len(LEVELS), 256), IGNORE_INDEX, dtype=torch.int64)
        for n in range(1, (level or 0) + 1):
            parents = torch.from_numpy(legend().parents(level or n, n)).long()
            table[n - 1, : len(parents)] = parents
        self.register_buffer("table", table, persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        """``(b,)`` → ``(b, 4)``, or ``(b, 1)``."""
        if self.level is None:
            return label[:, None]
        table: Tensor = self.table  # type: ignore[assignment]
        return table[:, label].T
