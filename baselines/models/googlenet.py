"""GoogLeNet of torchvision, the second network of the EuroSAT paper."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import nn

from baselines.models._classifier import ClassifierConfig
from baselines.models._pretrained import unavailable
from baselines.models.base import MODELS
from lulcbench.errors import LulcbenchError


@MODELS.register
class GoogLeNet(ClassifierConfig):
    """GoogLeNet (Szegedy et al. 2015), without auxiliary heads."""

    kind: Literal["googlenet"] = "googlenet"
    title: ClassVar[str] = "GoogLeNet"

    def _network(self, channels: int, outputs: int) -> nn.Module:
        from timm.models import adapt_input_conv
        from torchvision.models import GoogLeNet_Weights, googlenet

        if self.weights not in (None, "imagenet") and self.weights_file is None:
            raise LulcbenchError(
                f"GoogLeNet has no weights {self.weights!r}.", "Set weights to 'imagenet', or omit it."
            )
        if self.weights is None or self.weights_file is not None:
            net: Any = googlenet(weights=None, init_weights=True, aux_logits=False, num_classes=outputs)
        else:
            try:
                net = googlenet(weights=GoogLeNet_Weights.IMAGENET1K_V1)
            except OSError as error:
                raise unavailable("imagenet", error) from error
            net.fc = nn.Linear(net.fc.in_features, outputs)
            net.transform_input = False  # inputs are already normalised by the statistics of the train split
        if channels != 3:
            first = net.conv1.conv
            net.conv1.conv = nn.Conv2d(channels, first.out_channels, 7, stride=2, padding=3, bias=False)
            # As in timm: pretrained filters are repeated over the channels and scaled so that their sum is unchanged.
            net.conv1.conv.weight = nn.Parameter(adapt_input_conv(channels, first.weight.detach()))
        net.dropout.p = self.drop
        typed: nn.Module = net
        return typed
