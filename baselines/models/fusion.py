"""Fusion of several sensors: an encoder per sensor, features aligned in metres, attention over the sensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from baselines.data import Input
from baselines.models._grids import align, pad_to
from baselines.models.base import MODELS
from baselines.models.network import NetworkConfig
from baselines.registry import Count, Fraction
from lulcbench.errors import LulcbenchError


@MODELS.register
class Fusion(NetworkConfig):
    """UNet on several sensors; the first of ``data.sensors`` gives the grid of the outputs.

    A sensor is missing in a sample if all of its pixels are nodata. Attention gives it no weight, so that the others
    determine the prediction. In training, sensors are hidden at random, so that any may be missing later; which are
    missing in prediction is set by ``predict.missing``.

    Attributes:
        mode: where sensors meet. ``early``: pixels, before a common encoder; ``middle``: features of an encoder per
            sensor, before a common decoder; ``late``: outputs of a UNet per sensor.
        encoder: name of the encoder in segmentation-models-pytorch.
        weights: ``imagenet`` or None (from scratch).
        depth: number of encoder stages; each halves the resolution.
        decoder_channels: numbers of channels of the ``depth`` stages of the decoder, from deep to shallow.
        width: number of channels in which pixels of the sensors meet, of ``early`` fusion and of the per-pixel network
            whose outputs are added (see ``SmpConfig.pixel_path``).
        hide: probability that a sensor is hidden from a sample in training; at least one remains.
    """

    kind: Literal["fusion"] = "fusion"
    title: ClassVar[str] = "fusion"
    dense: ClassVar[bool] = True
    mode: Literal["early", "middle", "late"] = "middle"
    encoder: str = "resnet34"
    weights: Literal["imagenet"] | None = None
    depth: Annotated[int, Field(ge=3, le=5)] = 4
    decoder_channels: tuple[Count, ...] = (128, 64, 32, 32)
    width: Count = 32
    hide: Fraction = 0.25

    @model_validator(mode="after")
    def _channels_fit(self) -> Fusion:
        if len(self.decoder_channels) != self.depth:
            raise ValueError(f"decoder_channels must have depth = {self.depth} entries")
        return self

    @property
    def label(self) -> str:
        """Name with the mode."""
        return f"{self.mode} fusion"

    def build(self, inputs: Mapping[str, Input], outputs: int) -> nn.Module:
        """Build the network."""
        if len(inputs) < 2:
            raise LulcbenchError(
                f"Fusion takes several sensors; the data have only {', '.join(inputs)}.",
                "Choose unet, or add a sensor.",
            )
        return FusionNet(self, inputs, outputs)

    def small(self) -> dict[str, Any]:
        """Settings of a shallow network."""
        return {"encoder": "resnet18", "weights": None, "depth": 3, "decoder_channels": (16, 16, 8), "width": 8}


class FusionNet(nn.Module):
    """See ``Fusion``.

    Args:
        config: settings.
        inputs: sensor → input; the first gives the grid of the outputs.
        outputs: number of output channels.
    """

    def __init__(self, config: Fusion, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__()
        channels = [len(i.channels) for i in inputs.values()]
        self.sensors, self.hide = tuple(inputs), config.hide
        self.resolutions = [i.resolution for i in inputs.values()]
        self.depth, self.mode = config.depth, config.mode
        self.pixels = nn.ModuleList(_pixel_net(n, config.width) for n in channels)
        self.pixel_fuse = Attention([config.width] * len(channels), config.width)
        # A hidden layer after the weighted sum: what two sensors say together is not the sum of what each says.
        self.pixel_head = nn.Sequential(*_hidden(config.width, config.width), nn.Conv2d(config.width, outputs, 1))
        encoders = [_encoder(config, n) for n in ([config.width] if config.mode == "early" else channels)]
        stages: list[list[int]] = [list(encoder.out_channels) for encoder in encoders]
        self.encoders = nn.ModuleList(encoders)
        self.decoders = nn.ModuleList(_decoder(n, config) for n in (stages if config.mode == "late" else stages[:1]))
        self.meet = nn.ModuleList()
        if config.mode == "late":
            self.meet.append(Attention([config.decoder_channels[-1]] * len(channels), config.width))
        if config.mode == "middle":
            self._choose_stages(config.depth)
            for k in range(1, config.depth + 1):
                of_sensors = [n[chosen[k]] for n, chosen in zip(stages, self.stages, strict=True)]
                self.meet.append(Attention(of_sensors, stages[0][k]))
        decoded = config.width if config.mode == "late" else config.decoder_channels[-1]
        self.head = nn.Conv2d(decoded, outputs, 3, padding=1)

    def _choose_stages(self, depth: int) -> None:
        """For each sensor and stage of the first, the stage with the most similar pixel size."""
        self.stages = []
        for resolution in self.resolutions:
            shift = math.log2(self.resolutions[0] / resolution)
            self.stages.append([min(max(round(k + shift), 1), depth) for k in range(depth + 1)])

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Compute outputs ``(b, output, y, x)`` on the grid of the first sensor."""
        parts = [images[sensor] for sensor in self.sensors]
        present = self._present(parts)
        size, to = (parts[0].shape[-2], parts[0].shape[-1]), self.resolutions[0]
        aligned = [
            align(net(image), resolution, size, to)
            for net, image, resolution in zip(self.pixels, parts, self.resolutions, strict=True)
        ]
        pixels = self.pixel_fuse(aligned, present)
        if self.mode == "early":
            decoded = self.decoders[0](self.encoders[0](pad_to(pixels, 2**self.depth)))
        else:
            features = [
                encoder(pad_to(image, 2**self.depth)) for encoder, image in zip(self.encoders, parts, strict=True)
            ]
            decoded = self._late(features, size, present) if self.mode == "late" else self._middle(features, present)
        outputs: Tensor = self.head(decoded)[..., : size[0], : size[1]] + self.pixel_head(pixels)
        return outputs

    def _middle(self, features: Sequence[Sequence[Tensor]], present: Tensor) -> Tensor:
        fused = [features[0][0]]  # the decoder ignores the first
        for k in range(1, self.depth + 1):
            size = (features[0][k].shape[-2], features[0][k].shape[-1])
            stages = [self.stages[i][k] for i in range(len(features))]
            aligned = [
                align(of_sensor[stage], resolution * 2**stage, size, self.resolutions[0] * 2**k)
                for of_sensor, stage, resolution in zip(features, stages, self.resolutions, strict=True)
            ]
            fused.append(self.meet[k - 1](aligned, present))
        decoded: Tensor = self.decoders[0](fused)
        return decoded

    def _late(self, features: Sequence[Sequence[Tensor]], size: tuple[int, int], present: Tensor) -> Tensor:
        decoded = [
            align(decoder(list(of_sensor)), resolution, size, self.resolutions[0])
            for decoder, of_sensor, resolution in zip(self.decoders, features, self.resolutions, strict=True)
        ]
        fused: Tensor = self.meet[0](decoded, present)
        return fused

    def _present(self, images: Sequence[Tensor]) -> Tensor:
        """Which sensors samples have, bool ``(b, sensor)``; in training some are hidden."""
        present = torch.stack([image.flatten(1).any(1) for image in images], 1)
        if self.training and self.hide:
            order = torch.rand(present.shape, device=present.device).masked_fill(~present, 2.0)
            kept = order >= self.hide
            # Of the sensors of a sample, the one with the largest number is never hidden.
            kept |= order == order.masked_fill(~present, -1.0).amax(1, keepdim=True)
            present = present & kept
        return present


class Attention(nn.Module):
    """Weighted sum of aligned features, with weights by pixel that sum to 1 over the sensors that are present.

    Args:
        channels: numbers of channels of the sensors.
        width: number of channels of the sum.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Conv2d(n, width, 1) for n in channels)
        self.scores = nn.ModuleList(nn.Conv2d(n, 1, 1) for n in channels)

    def forward(self, features: Sequence[Tensor], present: Tensor) -> Tensor:
        """Fuse features ``(b, channel, y, x)`` of one grid; ``present`` is bool ``(b, sensor)``."""
        scores = torch.cat([score(f) for score, f in zip(self.scores, features, strict=True)], 1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        usable = present | ~present.any(1, keepdim=True)  # a sample without any data has no valid prediction anyway
        weights = scores.masked_fill(~usable[:, :, None, None], -torch.inf).softmax(1)
        total = torch.zeros((), device=scores.device)
        for i, (project, values) in enumerate(zip(self.projections, features, strict=True)):
            # where, because what an absent sensor contributes must be exactly nothing
            part = project(values) * weights[:, i : i + 1].to(values.dtype)
            total = total + torch.where(usable[:, i, None, None, None], part, torch.zeros_like(part))
        return total


def _pixel_net(channels: int, width: int) -> nn.Module:
    return nn.Sequential(*_hidden(channels, width), *_hidden(width, width))


def _hidden(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


def _encoder(config: Fusion, channels: int) -> Any:
    from segmentation_models_pytorch.encoders import get_encoder

    from baselines.models._pretrained import unavailable

    try:
        return get_encoder(config.encoder, in_channels=channels, depth=config.depth, weights=config.weights)
    except KeyError as error:
        raise LulcbenchError(
            f"smp has no encoder {config.encoder!r}.", "See segmentation_models_pytorch.encoders.get_encoder_names()."
        ) from error
    except OSError as error:
        raise unavailable(str(config.weights), error) from error


def _decoder(channels: Sequence[int], config: Fusion) -> nn.Module:
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

    decoder: nn.Module = UnetDecoder(
        encoder_channels=channels, decoder_channels=config.decoder_channels, n_blocks=config.depth
    )
    return decoder
