"""The majority-class baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from baselines.data import Input
from baselines.devices import Images, first_image
from baselines.models.base import MODELS, Fitted, ModelConfig, Predictor
from baselines.training.effort import Stopwatch
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.experiment import Experiment
    from baselines.run import About
    from baselines.tasks import Task


@MODELS.register
class Majority(ModelConfig):
    """Predicts the most frequent class of the train split everywhere, with the class frequencies as probabilities."""

    kind: Literal["majority"] = "majority"
    title: ClassVar[str] = "majority class"
    dense: ClassVar[None] = None
    has_loss: ClassVar[bool] = False
    uses_images: ClassVar[bool] = False

    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Count the labels of the train split."""
        watch = Stopwatch()
        counts = torch.zeros(experiment.task.outputs, dtype=torch.float64)
        for batch in experiment.data.loader("train"):
            labels = experiment.task.truth(batch)
            counts += torch.bincount(labels[labels != IGNORE_INDEX], minlength=len(counts))
        predictor = MajorityPredictor((counts / counts.sum()).float(), dense=experiment.config.task.dense)
        return Fitted(predictor, watch.effort())

    def load(self, folder: Path, config: Config, task: Task) -> MajorityPredictor:
        """Read the class frequencies."""
        path = folder / MajorityPredictor.file
        try:
            frequencies = load(path.read_bytes())["frequencies"]
        except (OSError, SafetensorError, KeyError) as error:
            raise LulcbenchError(f"{path} is damaged: {error!r}.", "Train it again.") from error
        if frequencies.shape != (task.outputs,):
            raise LulcbenchError(f"{path} has {len(frequencies)} classes, not {task.outputs}.", "Train it again.")
        return MajorityPredictor(frequencies, config.task.dense)

    def describe(self, about: About) -> str:
        """Description of the method."""
        return "The most frequent class of the train split everywhere; class frequencies as probabilities."


class MajorityPredictor(Predictor):
    """Predicts class frequencies for any image.

    Args:
        frequencies: float32 ``(class,)`` with sum 1.
        dense: whether to predict every pixel.
    """

    file: ClassVar[str] = "model.safetensors"
    media_type: ClassVar[str] = "application/octet-stream; application=safetensors"
    framework: ClassVar[str] = "PyTorch"
    artifact_type: ClassVar[str] = "safetensors.torch.save_file"

    def __init__(self, frequencies: Tensor, dense: bool) -> None:
        self.frequencies, self.dense = frequencies, dense

    def __call__(self, images: Images) -> Tensor:
        """Repeat the frequencies for all images or pixels."""
        image = first_image(images)
        if not self.dense:
            return self.frequencies.expand(len(image), -1)
        return self.frequencies[:, None, None].expand(len(image), -1, *image.shape[-2:])

    def graph(self, inputs: Mapping[str, Input]) -> bytes:
        """The frequencies as a constant."""
        from baselines.exporting.graphs import frequencies_graph

        return frequencies_graph(self.frequencies.numpy(), inputs, self.dense)

    def save(self, folder: Path) -> None:
        """Write the class frequencies."""
        write_atomic(folder / self.file, save({"frequencies": self.frequencies}))
