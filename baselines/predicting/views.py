"""Class probabilities of a network, for images as they are or averaged over flips and quarter turns."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from baselines.devices import Images, first_image, map_images
from lulcbench.datasets.augment import dihedral, undo_dihedral

EPSILON = 1e-7  # minimum probability: keeps the logarithm finite, at most 16 nats


def temper(p: Tensor, temperature: float) -> Tensor:
    """Apply a temperature to probabilities ``(b, class, …)``, which is to divide the logits by it.

    Example:
        >>> temper(torch.tensor([[0.9, 0.1]]), 2.0)
        tensor([[0.7500, 0.2500]])
    """
    if temperature == 1:
        return p
    return (p.clamp_min(EPSILON).log() / temperature).softmax(1)


def average_views(
    net: nn.Module, activate: Callable[[Tensor], Tensor], images: Images, tta: bool, mixed_precision: bool
) -> Tensor:
    """Predict class probabilities ``(b, class, …)``, float32.

    Args:
        net: maps images to outputs.
        activate: maps outputs to probabilities, float32.
        images: normalised images on the device of the network.
        tta: average over the eight flips and quarter turns (test-time augmentation).
        mixed_precision: compute in bf16 on a GPU.
    """
    images = map_images(images, lambda image: image.contiguous(memory_format=torch.channels_last))
    device = first_image(images).device
    views = range(8 if tta else 1)
    total = torch.zeros((), device=device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and mixed_precision):
        for k in views:
            p = activate(net(map_images(images, lambda image, k=k: dihedral(image, k))))  # type: ignore[misc]
            total = total + (undo_dihedral(p, k) if p.ndim == 4 else p)
    return total / len(views)
