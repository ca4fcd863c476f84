"""Base class of classification networks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator
from torch import nn

from baselines.data import Input, only_input
from baselines.models._pretrained import InputOfWeights, load_backbone
from baselines.models.base import Fitted
from baselines.models.network import NetworkConfig
from baselines.registry import Fraction, Positive

if TYPE_CHECKING:
    from baselines.experiment import Experiment
    from baselines.run import About


class ClassifierConfig(NetworkConfig):
    """Base class of the settings of networks with one class per patch.

    Attributes:
        weights: None (from scratch), ``imagenet``, or a torchgeo weight such as
            ``ResNet50_Weights.SENTINEL2_RGB_MOCO``.
        weights_file: a checkpoint file to read instead of downloading.
        weights_by_order: the tensors of the file have other names, but the same order and shapes.
        weights_mean, weights_std: mean and standard deviation by which the images of the weights were normalised, one
            per channel, in stored units (0 to 255 for RGB). None: images are standardised by the statistics of the
            train split, to which a frozen network cannot adapt if its weights were trained otherwise.
        size: side in pixels to which images are resampled, such as that of the images of the weights; None leaves it.
        freeze: train only the classification head.
        probe: train only the head, as a logistic regression on features that are computed once, without augmentation;
            the value is the inverse of the strength of its L2 penalty (``C`` of scikit-learn). Settings of the loss, of
            ``train`` and of ``augment`` then have no effect, and probabilities are not calibrated. None trains by
            gradient descent.
        drop: dropout rate before the head.
    """

    dense: ClassVar[bool] = False
    weights_file: str | None = None
    weights_by_order: bool = False
    weights_mean: tuple[float, ...] | None = None
    weights_std: tuple[Positive, ...] | None = None
    size: Annotated[int, Field(ge=16, le=1024)] | None = None
    freeze: bool = False
    probe: Positive | None = None
    drop: Fraction = 0.0

    @model_validator(mode="after")
    def _both_statistics(self) -> Self:
        if (self.weights_mean is None) != (self.weights_std is None):
            raise ValueError("weights_mean and weights_std belong together: give both or neither")
        return self

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """Build the network, with pretrained weights and a frozen encoder if the settings require them."""
        imagery = only_input(inputs, self.title)
        channels = imagery.channels
        net = self._network(len(channels), outputs)
        if self.weights_file or self.weights not in (None, "imagenet"):
            load_backbone(net, self.weights, self.weights_file, self.label, channels, self.weights_by_order)
        self._change_stem(net, len(channels))
        if self.freeze or self.probe is not None:
            net.requires_grad_(False)
            head(net).requires_grad_(True)
        if self.weights_mean is None and self.size is None:
            return net
        return InputOfWeights(net, imagery, self.weights_mean, self.weights_std, self.size)

    def fit(self, experiment: Experiment, folder: Path, deadline: float | None = None) -> Fitted:
        """Train the network, or with ``probe`` only its head."""
        if self.probe is None:
            return super().fit(experiment, folder, deadline)
        from baselines.models._probe import fit_head

        return fit_head(self, self.probe, experiment, deadline)

    def describe(self, about: About) -> str:
        """Type of network, and length or kind of training."""
        if self.probe is None:
            return super().describe(about)
        return f"{self.label}, a logistic regression on its features."

    def without_weights(self) -> Self:
        """The same network from scratch."""
        return self.model_copy(update={"weights": None, "weights_file": None})

    @property
    def pretraining(self) -> str:
        """Name of the weights, or of their file."""
        return super().pretraining if self.weights or not self.weights_file else self.weights_file

    @abstractmethod
    def _network(self, channels: int, outputs: int) -> nn.Module:
        """Build the network, from scratch or with ImageNet weights."""

    def _change_stem(self, net: nn.Module, channels: int) -> None:
        """Change the first layers after weights have been loaded."""


def head(net: nn.Module) -> nn.Module:
    """The classification layer of a network."""
    untyped: Any = (
        net.net if isinstance(net, InputOfWeights) else net
    )  # networks of timm have a method; GoogLeNet of torchvision has the attribute fc
    classifier: nn.Module = untyped.get_classifier() if hasattr(untyped, "get_classifier") else untyped.fc
    return classifier
