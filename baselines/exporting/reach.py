"""How far a network looks: the distance from a pixel to the farthest pixels that can change its prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from baselines.data import Input
from baselines.devices import Images
from baselines.exporting.positive import Positive, Unknown, positive
from baselines.series.nets import PixelSeries

CELL = 32  # px: networks halve the resolution up to five times, so that the reach repeats with this period
_FRAMES = (384, 1280)  # px
_ACROSS = 2 * CELL
_EQUAL = 1e-9  # of the largest output, in float64


def receptive_field(net: nn.Module, inputs: Mapping[str, Input]) -> int | None:
    """Reach of a dense network in pixels of the first sensor; None where it is not bounded, or not known.

    Which pixels a prediction depends on follows from the structure of the network alone. Therefore the gradient is
    taken of a copy in which nothing can cancel or saturate, see ``Positive``. The prediction of a cell of ``CELL`` ×
    ``CELL`` pixels then has a positive gradient at all pixels in reach, and at no other. Afterwards the pixels beyond
    the reach are changed for the network itself: its prediction of the cell must stay the same.

    Args:
        net: the network; it is not changed.
        inputs: sensor → input.

    Returns:
        Number of pixels that have to be read around a cell, on each side; 0 for networks of series of single pixels.
    """
    if isinstance(net, PixelSeries):
        return 0
    probe = positive(net)
    for frame in _FRAMES:
        reached = [_reach(probe, inputs, frame, axis) for axis in (2, 3)]
        if None not in reached:
            found = max(n for n in reached if n is not None)
            return found if _ends_there(net, inputs, frame, found) else None
    return None


def _sizes(inputs: Mapping[str, Input], frame: int, axis: int) -> dict[str, tuple[int, int]]:
    """Height and width of the image of each sensor, ``frame`` pixels of the first along an axis."""
    finest = next(iter(inputs.values())).resolution
    size = (_ACROSS, frame) if axis == 3 else (frame, _ACROSS)
    return {
        sensor: (round(size[0] * finest / own.resolution), round(size[1] * finest / own.resolution))
        for sensor, own in inputs.items()
    }


def _call(net: nn.Module, images: dict[str, Tensor]) -> Tensor:
    given: Images = images if len(images) > 1 else next(iter(images.values()))
    output: Tensor = net(given)
    return output


def _reach(probe: nn.Module, inputs: Mapping[str, Input], frame: int, axis: int) -> int | None:
    """Reach along one axis; None if the gradient touches the edge of the frame, or is not known."""
    finest = next(iter(inputs.values())).resolution
    images = {
        sensor: torch.ones(1, len(inputs[sensor].channels), *size, dtype=torch.float64, requires_grad=True)
        for sensor, size in _sizes(inputs, frame, axis).items()
    }
    start = frame // 2 - CELL // 2
    with torch.enable_grad():
        try:
            with Positive():
                output = _call(probe, images).narrow(axis, start, CELL).sum()
        except Unknown:
            return None
        if not output.requires_grad:
            return None
        gradients = torch.autograd.grad(output, list(images.values()), allow_unused=True)
    reached = 0.0
    for (sensor, image), gradient in zip(images.items(), gradients, strict=True):
        if gradient is None:
            return None
        scale = finest / inputs[sensor].resolution
        seen = gradient.abs().sum([d for d in range(4) if d != axis]).nonzero().ravel()
        if not len(seen):
            return None
        first, last = int(seen[0]), int(seen[-1]) + 1
        if first == 0 or last == image.shape[axis]:
            return None
        reached = max(reached, start - first / scale, last / scale - (start + CELL))
    return round(reached)


@torch.no_grad()
def _ends_there(net: nn.Module, inputs: Mapping[str, Input], frame: int, reach: int) -> bool:
    """Whether predictions of a cell do not change with the pixels beyond a reach."""
    finest = next(iter(inputs.values())).resolution
    own, rng = deepcopy(net).cpu().double().eval(), torch.Generator().manual_seed(0)
    start = frame // 2 - CELL // 2
    for axis in (2, 3):
        before, after = dict[str, Tensor](), dict[str, Tensor]()
        for sensor, size in _sizes(inputs, frame, axis).items():
            image = torch.randn(1, len(inputs[sensor].channels), *size, generator=rng, dtype=torch.float64)
            scale = finest / inputs[sensor].resolution
            first, last = math.floor((start - reach) * scale), math.ceil((start + CELL + reach) * scale)
            kept = image.narrow(axis, first, last - first)
            before[sensor], after[sensor] = image, 5 * image + 3
            after[sensor].narrow(axis, first, last - first).copy_(kept)
        one, other = (_call(own, images).narrow(axis, start, CELL) for images in (before, after))
        if not (one - other).abs().max() <= _EQUAL * one.abs().max().clamp_min(1):
            return False
    return True
