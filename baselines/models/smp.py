"""UNet and DeepLabv3+ of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from baselines.data import Input, only_input
from baselines.models._grids import Padded
from baselines.models._pretrained import load_encoder, unavailable
from baselines.models.base import MODELS
from baselines.models.network import NetworkConfig
from baselines.registry import Count
from lulcbench.errors import LulcbenchError


class SmpConfig(NetworkConfig):
    """Base class of the settings of segmentation networks with an encoder.

    Attributes:
        encoder: name of the encoder in segmentation-models-pytorch (smp).
        weights: ``imagenet`` or None (from scratch).
        weights_file: a file with the weights of a network of smp, of which the encoder is loaded (safetensors, PyTorch
            or ONNX), instead of ``weights``.
        pixel_path: width of a per-pixel network whose outputs are added; the UNet of smp has no skip connection at full
            resolution, where single pixels are informative already. None omits it.
    """

    dense: ClassVar[bool] = True
    encoder: str = "resnet34"
    weights: Literal["imagenet"] | None = None
    weights_file: str | None = None
    pixel_path: Count | None = None

    def _build(self, network: Callable[..., nn.Module], inputs: Mapping[str, Input], outputs: int, **more: Any) -> Any:
        channels = len(only_input(inputs, self.title).channels)
        options = {"encoder_name": self.encoder, "encoder_weights": self.weights, "in_channels": channels}
        try:
            net: Any = network(**options, classes=outputs, **more)
        except KeyError as error:
            raise LulcbenchError(
                f"smp has no encoder {self.encoder!r}.", "See segmentation_models_pytorch.encoders.get_encoder_names()."
            ) from error
        except OSError as error:
            raise unavailable(str(self.weights), error) from error
        if self.weights_file is not None:
            load_encoder(net.encoder, self.weights_file, self.encoder)
        net = Padded(net, net.encoder.output_stride)
        return net if self.pixel_path is None else PixelPath(net, channels, self.pixel_path, outputs)

    def without_weights(self) -> Self:
        """The same network from scratch."""
        return self.model_copy(update={"weights": None, "weights_file": None})

    @property
    def pretraining(self) -> str:
        """Name of the weights, or of their file."""
        return Path(self.weights_file).name if self.weights_file else super().pretraining

    def describe(self, about: Any) -> str:
        """Type of network, encoder and length of training."""
        effort = about.effort
        return f"{self.title} with a {self.encoder} encoder, {effort.steps} steps ({effort.epochs} epochs)."


@MODELS.register
class UNet(SmpConfig):
    """UNet (Ronneberger et al. 2015).

    Attributes:
        depth: number of encoder stages; each halves the resolution.
        decoder_channels: numbers of channels of the ``depth`` stages of the decoder, from deep to shallow.
    """

    kind: Literal["unet"] = "unet"
    title: ClassVar[str] = "UNet"
    depth: Annotated[int, Field(ge=3, le=5)] = 5
    decoder_channels: tuple[Count, ...] | None = None

    @model_validator(mode="after")
    def _channels_fit(self) -> UNet:
        if self.decoder_channels and len(self.decoder_channels) != self.depth:
            raise ValueError(f"decoder_channels must have depth = {self.depth} entries")
        return self

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """Build the network."""
        import segmentation_models_pytorch as smp

        channels = self.decoder_channels or (256, 128, 64, 32, 16)[: self.depth]
        net: nn.Module = self._build(
            smp.Unet, inputs, outputs, encoder_depth=self.depth, decoder_channels=list(channels)
        )
        return net

    def small(self) -> dict[str, Any]:
        """Settings of a shallow UNet."""
        return {
            "encoder": "resnet18",
            "weights": None,
            "weights_file": None,
            "depth": 3,
            "decoder_channels": (16, 16, 8),
        }


@MODELS.register
class DeepLabV3Plus(SmpConfig):
    """DeepLabv3+ (Chen et al. 2018)."""

    kind: Literal["deeplabv3plus"] = "deeplabv3plus"
    title: ClassVar[str] = "DeepLabv3+"

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """Build the network."""
        import segmentation_models_pytorch as smp

        net: nn.Module = self._build(smp.DeepLabV3Plus, inputs, outputs)
        return net

    def small(self) -> dict[str, Any]:
        """Settings with a small encoder."""
        return {"encoder": "resnet18", "weights": None, "weights_file": None}


class PixelPath(nn.Module):
    """Sum of the outputs of a segmentation network and of a small per-pixel network."""

    def __init__(self, net: nn.Module, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.net = net
        self.path = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute outputs ``(b, output, y, x)``."""
        outputs: torch.Tensor = self.net(x) + self.path(x)
        return outputs
