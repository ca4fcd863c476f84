"""What all networks for patches share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import nn

from baselines.data import Input, only_input
from baselines.models._pretrained import load_backbone
from baselines.models.network import NetworkConfig
from baselines.registry import Fraction


class ClassifierConfig(NetworkConfig):
    """A network that gives one class per patch.

    Attributes:
        weights: None (from scratch), ``imagenet``, or a torchgeo weight such as
            ``ResNet50_Weights.SENTINEL2_RGB_MOCO``. Images are standardised by the train split, whatever units the
            weights have seen: a network that is trained whole adapts to that, a frozen one cannot.
        weights_file: a checkpoint file to read instead of downloading.
        freeze: train only the classification head.
        drop: dropout before the head.
    """

    dense: ClassVar[bool] = False
    weights_file: str | None = None
    freeze: bool = False
    drop: Fraction = 0.0

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """The network, with pretrained weights if there are any, its backbone frozen if it is to be."""
        channels = only_input(inputs, self.title).channels
        net = self._network(len(channels), outputs)
        if self.weights_file or self.weights not in (None, "imagenet"):
            load_backbone(net, self.weights, self.weights_file, self.label, channels)
        self._change_stem(net, len(channels))
        if self.freeze:
            net.requires_grad_(False)
            head(net).requires_grad_(True)
        return net

    def without_weights(self) -> Self:
        """The same network from scratch."""
        return self.model_copy(update={"weights": None, "weights_file": None})

    @property
    def pretraining(self) -> str:
        """Name of the weights or of their file."""
        return super().pretraining if self.weights or not self.weights_file else self.weights_file

    @abstractmethod
    def _network(self, channels: int, outputs: int) -> nn.Module:
        """The network, from scratch or with ImageNet's weights."""

    def _change_stem(self, net: nn.Module, channels: int) -> None:
        """Alter the first layers, after weights were loaded."""


def head(net: nn.Module) -> nn.Module:
    """The classification layer."""
    named: Any = net  # timm's networks know theirs; torchvision's GoogLeNet calls it fc
    classifier: nn.Module = named.get_classifier() if hasattr(net, "get_classifier") else named.fc
    return classifier
