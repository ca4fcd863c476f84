"""Base class of classification networks."""

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
    """Base class of the settings of networks with one class per patch.

    Attributes:
        weights: None (from scratch), ``imagenet``, or a torchgeo weight such as
            ``ResNet50_Weights.SENTINEL2_RGB_MOCO``. Images are standardised by the statistics of the train split, also
            if the weights were trained with another normalisation, to which a frozen network cannot adapt.
        weights_file: a checkpoint file to read instead of downloading.
        freeze: train only the classification head.
        drop: dropout rate before the head.
    """

    dense: ClassVar[bool] = False
    weights_file: str | None = None
    freeze: bool = False
    drop: Fraction = 0.0

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """Build the network, with pretrained weights and a frozen encoder if the settings require them."""
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
        """Name of the weights, or of their file."""
        return super().pretraining if self.weights or not self.weights_file else self.weights_file

    @abstractmethod
    def _network(self, channels: int, outputs: int) -> nn.Module:
        """Build the network, from scratch or with ImageNet weights."""

    def _change_stem(self, net: nn.Module, channels: int) -> None:
        """Change the first layers after weights have been loaded."""


def head(net: nn.Module) -> nn.Module:
    """The classification layer of a network."""
    untyped: Any = net  # networks of timm have a method; GoogLeNet of torchvision has the attribute fc
    classifier: nn.Module = untyped.get_classifier() if hasattr(net, "get_classifier") else untyped.fc
    return classifier
