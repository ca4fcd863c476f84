"""How far a network looks: the distance from a pixel to the farthest pixels that can change its prediction."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from baselines.data import Input
from baselines.devices import Images
from baselines.series.nets import PixelSeries

CELL = 32  # px: networks halve the resolution up to five times, so that the reach repeats with this period
_FRAMES = (384, 1280)  # px
_ACROSS = 2 * CELL


def receptive_field(net: nn.Module, inputs: Mapping[str, Input]) -> int | None:
    """Reach of a dense network in pixels of the first sensor; None where the largest frame does not contain it.

    Which pixels a prediction depends on follows from the structure of the network alone. Therefore the gradient is
    taken of a copy in which nothing can cancel: all weights are positive, and the maximum of a window is replaced by
    its mean. The prediction of a cell of ``CELL`` × ``CELL`` pixels then has a positive gradient at all pixels in
    reach, and at no other.

    Args:
        net: the network; it is not changed.
        inputs: sensor → input.

    Returns:
        Number of pixels that have to be read around a cell, on each side; 0 for networks of series of single pixels.
    """
    if isinstance(net, PixelSeries):
        return 0
    probe = _positive(net)
    for frame in _FRAMES:
        reached = [_reach(probe, inputs, frame, axis) for axis in (2, 3)]
        if None not in reached:
            return max(n for n in reached if n is not None)
    return None


def _reach(probe: nn.Module, inputs: Mapping[str, Input], frame: int, axis: int) -> int | None:
    """Reach along one axis; None if the gradient touches the edge of the frame."""
    finest = next(iter(inputs.values())).resolution
    size = (_ACROSS, frame) if axis == 3 else (frame, _ACROSS)
    images: dict[str, Tensor] = {}
    for sensor, imagery in inputs.items():
        pixels = [round(n * finest / imagery.resolution) for n in size]
        images[sensor] = torch.ones(1, len(imagery.channels), *pixels, dtype=torch.float64, requires_grad=True)
    given: Images = images if len(images) > 1 else next(iter(images.values()))
    start = frame // 2 - CELL // 2
    output: Tensor = probe(given)
    gradients = torch.autograd.grad(output.narrow(axis, start, CELL).sum(), list(images.values()), allow_unused=True)
    reached = 0.0
    for (sensor, image), gradient in zip(images.items(), gradients, strict=True):
        if gradient is None:
            continue
        scale = finest / inputs[sensor].resolution
        seen = gradient.abs().sum([d for d in range(4) if d != axis]).nonzero().ravel()
        if not len(seen):
            continue
        first, last = int(seen[0]), int(seen[-1]) + 1
        if first == 0 or last == image.shape[axis]:
            return None
        reached = max(reached, start - first / scale, last / scale - (start + CELL))
    return round(reached)


def _positive(net: nn.Module) -> nn.Module:
    """A copy of the structure in which all paths from inputs to outputs count, and add up."""
    probe = deepcopy(net).cpu().double().eval()
    for name, module in list(probe.named_modules()):
        if isinstance(module, nn.MaxPool2d) and name:
            parent, _, own = name.rpartition(".")
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
            setattr(probe.get_submodule(parent), own, mean)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    for parameter in probe.parameters():
        value = 1 / max(1, parameter[0].numel()) if parameter.ndim > 1 else 1.0
        parameter.data.fill_(value)
        parameter.requires_grad_(False)
    return probe
