"""Base class of networks, which are trained by gradient descent and stored as safetensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from baselines.data import Input
from baselines.devices import Images
from baselines.models.base import Fitted, ModelConfig, Predictor
from baselines.predicting.views import average_views
from lulcbench._console import console
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.experiment import Experiment
    from baselines.run import About
    from baselines.tasks import Task


class NetworkConfig(ModelConfig):
    """Base class of the settings of networks.

    Attributes:
        weights: name of pretrained weights; None trains from scratch.
    """

    weights: str | None = None

    @abstractmethod
    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """Build a network that maps images ``(b, channel, y, x)``, or a dict by sensor, to ``(b, output[, y, x])``.

        Args:
            inputs: sensor → input.
            outputs: number of output channels.

        Raises:
            LulcbenchError: a name in the settings is unknown, or weights are not available or do not fit.
        """

    def without_weights(self) -> Self:
        """The same network from scratch."""
        return self.model_copy(update={"weights": None})

    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Train the network, or resume training."""
        from lightning import seed_everything  # takes seconds

        from baselines.training.network import fit_network

        config, info = experiment.config, experiment.info
        seed_everything(config.seed, verbose=False)
        task = config.task.build(info)  # a new task, because it may have trainable weights
        net = self.build(info.inputs, task.outputs)
        count = count_parameters(net)
        channels = sum(len(imagery.channels) for imagery in info.inputs.values())
        console.print(
            f"{self.label}: {count['trainable']:,} of {count['total']:,} parameters are trained; "
            f"{len(experiment.data.datasets['train']):,} samples of {channels} channels, {len(info.classes)} classes; "
            f"on {'the GPU' if torch.cuda.is_available() else 'the CPU (no GPU available)'}"
        )
        predictor = NetworkPredictor(net, task, config)
        return Fitted(predictor, *fit_network(net, task, predictor, experiment, folder, deadline))

    def load(self, folder: Path, config: Config, task: Task) -> NetworkPredictor:
        """Read the trained network."""
        try:
            state = load((folder / NetworkPredictor.file).read_bytes())
        except (OSError, SafetensorError) as error:
            raise LulcbenchError(f"The model in {folder} is damaged: {error!r}.", "Train it again.") from error
        net = self.without_weights().build(task.info.inputs, task.outputs)  # trained weights follow
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise LulcbenchError(
                f"The weights in {folder} do not match their description: {error}", "Train it again."
            ) from error
        return NetworkPredictor(net.eval(), task, config)

    def describe(self, about: About) -> str:
        """Type of network and length of training."""
        return f"{self.label}, {about.effort.steps} steps ({about.effort.epochs} epochs)."

    @property
    def pretraining(self) -> str:
        """Name of the weights."""
        return {None: "none", "imagenet": "ImageNet"}.get(self.weights, str(self.weights))


class NetworkPredictor(Predictor):
    """A trained network.

    Args:
        net: the network; in evaluation mode for prediction.
        task: converts outputs to probabilities.
        config: config with the settings for prediction.
    """

    file: ClassVar[str] = "model.safetensors"
    media_type: ClassVar[str] = "application/octet-stream; application=safetensors"
    framework: ClassVar[str] = "PyTorch"
    artifact_type: ClassVar[str] = "safetensors.torch.save_file"

    def __init__(self, net: nn.Module, task: Task, config: Config) -> None:
        self.net = net.to(memory_format=torch.channels_last)
        self.task, self.config = task, config

    @torch.inference_mode()
    def __call__(self, images: Images) -> Tensor:
        """Predict class probabilities; with ``predict.tta`` averaged over eight views, in bf16 on a GPU by default."""
        mixed = self.config.train.precision != "32-true"
        return average_views(self.net, self.task.activate, images, self.config.predict.tta, mixed)

    def save(self, folder: Path) -> None:
        """Write the weights."""
        state = {k: v.detach().cpu().contiguous().clone() for k, v in self.net.state_dict().items()}
        write_atomic(folder / self.file, save(state))

    def graph(self, inputs: Mapping[str, Input]) -> bytes:
        """The network with its activation, without test-time augmentation."""
        from baselines.exporting.graphs import network_graph

        return network_graph(self.net, self.task.activate, inputs)

    def reach(self, inputs: Mapping[str, Input]) -> int | None:
        """Receptive field of the network."""
        from baselines.exporting.reach import receptive_field

        return receptive_field(self.net, inputs)

    def count_parameters(self) -> dict[str, int]:
        """Numbers of ``trainable`` and of ``total`` weights."""
        return count_parameters(self.net)

    def to(self, device: torch.device) -> Self:
        """Move network and task to a device."""
        self.net.to(device)
        self.task.to(device)
        return self


def count_parameters(net: nn.Module) -> dict[str, int]:
    """Count trainable and all parameters.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        {'trainable': 8, 'total': 8}
    """
    sizes = [(p.numel(), p.requires_grad) for p in net.parameters()]
    return {"trainable": sum(n for n, trainable in sizes if trainable), "total": sum(n for n, _ in sizes)}
