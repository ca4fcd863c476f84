"""Grids of images and features: padding to multiples of a stride, and alignment in metres."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def pad_to(image: Tensor, stride: int) -> Tensor:
    """Repeat the last rows and columns of ``(b, channel, y, x)`` until both are multiples of ``stride``.

    Example:
        >>> pad_to(torch.zeros(1, 1, 40, 32), 16).shape
        torch.Size([1, 1, 48, 32])
    """
    down, right = (-size % stride for size in image.shape[-2:])
    return nn.functional.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


class Padded(nn.Module):
    """A network for images of any size: they are padded to multiples of its stride, and outputs are cropped.

    Images whose size is a multiple of the stride are passed through unchanged.

    Args:
        net: maps ``(b, channel, y, x)`` to ``(b, output, y, x)``.
        stride: the multiple that it requires.
    """

    def __init__(self, net: nn.Module, stride: int) -> None:
        super().__init__()
        self.net, self.stride = net, stride

    def forward(self, image: Tensor) -> Tensor:
        """Compute outputs ``(b, output, y, x)``."""
        height, width = image.shape[-2:]
        outputs: Tensor = self.net(pad_to(image, self.stride))[..., :height, :width]
        return outputs


def align(features: Tensor, resolution: float, size: tuple[int, int], to: float) -> Tensor:
    """Resample features to a grid with the same upper left corner, by the positions of pixel centres in metres.

    Bilinear; beyond the last centres the nearest value is used. Where the grids are the same, values are unchanged.

    Args:
        features: ``(b, channel, y, x)``.
        resolution: pixel size of the features in metres.
        size: height and width of the other grid in pixels.
        to: pixel size of the other grid in metres.

    Example:
        >>> aligned = align(torch.tensor([[[[0.0, 30.0]]]]), 30, (1, 6), 10)  # centres at 15 m and 45 m
        >>> aligned.round(decimals=3).flatten().tolist()
        [0.0, 0.0, 10.0, 20.0, 30.0, 30.0]
    """
    if resolution == to:
        return features[..., : size[0], : size[1]]
    values = features.to(torch.promote_types(features.dtype, torch.float32))  # bf16 coordinates are too coarse
    # grid_sample counts from -1 at the outer edge of the first pixel to 1 at that of the last.
    y, x = (
        (torch.arange(n, device=values.device, dtype=values.dtype) + 0.5) * (2 * to / (extent * resolution)) - 1
        for n, extent in zip(size, features.shape[-2:], strict=True)
    )
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).expand(features.shape[0], -1, -1, -1)
    with torch.autocast(features.device.type, enabled=False):
        return nn.functional.grid_sample(values, grid, padding_mode="border", align_corners=False)
