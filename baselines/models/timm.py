"""Classifiers of timm, such as ResNet-50."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import nn

from baselines.models._classifier import ClassifierConfig
from baselines.models._pretrained import unavailable
from baselines.models.base import MODELS
from baselines.registry import Fraction
from lulcbench.errors import LulcbenchError


@MODELS.register
class Timm(ClassifierConfig):
    """A classifier of timm.

    Attributes:
        name: name in timm.
        stem: ``no-pool`` omits the max-pooling, ``small`` also replaces the 7 × 7 convolution with stride 2 by a 3 × 3
            one, so that patches of 64 pixels are not reduced to 16 before the first block (ResNets only).
        drop_path: rate of stochastic depth.
    """

    kind: Literal["timm"] = "timm"
    title: ClassVar[str] = "timm"
    name: str = "resnet50"
    stem: Literal["standard", "no-pool", "small"] = "standard"
    drop_path: Fraction = 0.0

    @property
    def label(self) -> str:
        """Name of the network, and whether only its head is trained."""
        return self.name + (" with a new head" if self.freeze or self.probe is not None else "")

    def _network(self, channels: int, outputs: int) -> nn.Module:
        import timm

        if not timm.is_model(self.name):
            near = ", ".join(timm.list_models(f"{self.name[:6]}*")[:8]) or "none"
            raise LulcbenchError(f"timm has no model {self.name!r}.", f"Similar names: {near}.")
        imagenet = self.weights == "imagenet" and self.weights_file is None
        options: dict[str, Any] = {"drop_rate": self.drop, "num_classes": outputs, "in_chans": channels}
        if self.drop_path:
            options["drop_path_rate"] = self.drop_path
        try:
            net: nn.Module = timm.create_model(self.name, pretrained=imagenet, **options)
        except (OSError, RuntimeError) as error:
            raise unavailable("imagenet", error) from error
        return net

    def _change_stem(self, net: nn.Module, channels: int) -> None:
        if self.stem == "standard":
            return
        conv = getattr(net, "conv1", None)
        if not isinstance(conv, nn.Conv2d) or not hasattr(net, "maxpool"):
            raise LulcbenchError(f"stem = {self.stem!r} does not fit {self.name}.", "Use it only with plain ResNets.")
        net.maxpool = nn.Identity()
        if self.stem == "no-pool":
            return
        if self.weights or self.weights_file:
            raise LulcbenchError("stem = 'small' discards the pretrained first layer.", "Use stem = 'no-pool'.")
        net.conv1 = nn.Conv2d(channels, conv.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")

    def small(self) -> dict[str, Any]:
        """Settings of the test network of timm."""
        scratch = {"weights": None, "weights_file": None}
        return scratch | {"name": "test_resnet", "stem": "standard", "drop_path": 0.0, "size": None}
