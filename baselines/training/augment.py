"""Augmentation on the device, a whole batch at a time, seeded by (seed, epoch, batch): a resumed run draws the same."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from baselines.config import AugmentConfig


def generator(*seeds: int) -> torch.Generator:
    """A CPU generator of its own for a tuple of numbers; draws are then the same on every device."""
    state = 0
    for seed in seeds:  # splitmix-like mixing, so that (0, 1) and (1, 0) differ
        state = (state * 6364136223846793005 + seed + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(state)


def dihedral(x: Tensor, k: int) -> Tensor:
    """One of the eight symmetries of the square, ``k`` in 0 … 7, of ``(…, h, w)`` (square unless k is 0, 2, 4 or 6)."""
    x = torch.rot90(x, k % 4, (-2, -1)) if k % 4 else x
    return x.flip(-1) if k >= 4 else x


def undo_dihedral(x: Tensor, k: int) -> Tensor:
    """The inverse of ``dihedral``."""
    x = x.flip(-1) if k >= 4 else x
    return torch.rot90(x, -(k % 4), (-2, -1)) if k % 4 else x


def augment(images: Tensor, targets: Tensor, config: AugmentConfig, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment a batch.

    Args:
        images: ``(b, channel, h, w)`` float, normalised.
        targets: ``(b, level)`` or, per pixel, ``(b, level, y, x)``; turned with the image.
        config: what to do.
        rng: source of all draws.
    """
    spatial = targets.ndim == 4
    if config.dihedral and images.shape[-1] == images.shape[-2]:
        # One symmetry for each eighth of a shuffled batch keeps every copy a single strided one.
        order = torch.randperm(len(images), generator=rng).to(images.device)
        turned, labels = torch.empty_like(images), torch.empty_like(targets)
        start = int(torch.randint(8, (1,), generator=rng))
        for k, part in enumerate(order.chunk(8)):
            k = (k + start) % 8
            turned[part] = dihedral(images[part], k)
            labels[part] = dihedral(targets[part], k) if spatial else targets[part]
        images, targets = turned, labels
    if config.affine and not spatial:
        images = _affine(images, config.affine, rng)
    if config.gain:
        shape = (len(images), images.shape[1], 1, 1)
        gain = 1 + config.gain * torch.randn(shape, generator=rng)
        offset = config.gain * torch.randn(shape, generator=rng)
        images = images * gain.to(images) + offset.to(images)
    if config.noise:
        seed = int(torch.randint(2**31, (1,), generator=rng))
        device_rng = torch.Generator(images.device).manual_seed(seed)
        noise = torch.randn(images.shape, generator=device_rng, device=images.device, dtype=images.dtype)
        images = images + config.noise * noise
    return images, targets


def _affine(images: Tensor, limits: tuple[float, float, float], rng: torch.Generator) -> Tensor:
    degrees, shift, zoom = limits
    n = len(images)
    uniform = torch.rand((4, n), generator=rng) * 2 - 1
    angle, scale = uniform[0] * math.radians(degrees), (uniform[1] * math.log1p(zoom)).exp()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([cos, -sin, uniform[2] * 2 * shift, sin, cos, uniform[3] * 2 * shift], 1).view(n, 2, 3)
    with torch.autocast(images.device.type, enabled=False):  # bf16 coordinates are off by up to a quarter of a pixel
        grid = torch.nn.functional.affine_grid(theta.to(images), list(images.shape), align_corners=False)
        return torch.nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def mix(images: Tensor, config: AugmentConfig, rng: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), one of the two at random where both are on.

    Returns:
        The mixed images, the partner of each, and the weight of the first label; 1.0 where nothing was mixed.
    """
    partner = torch.randperm(len(images), generator=rng)
    ways = [(name, alpha) for name, alpha in (("mixup", config.mixup), ("cutmix", config.cutmix)) if alpha]
    if not ways or float(torch.rand(1, generator=rng)) >= config.mix_probability:
        return images, partner, 1.0
    name, alpha = ways[int(torch.randint(len(ways), (1,), generator=rng))]
    weight = _beta(alpha, rng)
    other = images[partner.to(images.device)]
    if name == "mixup":
        return images * weight + other * (1 - weight), partner, weight
    h, w = images.shape[-2:]
    height, width = round(h * math.sqrt(1 - weight)), round(w * math.sqrt(1 - weight))
    top = int(torch.randint(h - height + 1, (1,), generator=rng))
    left = int(torch.randint(w - width + 1, (1,), generator=rng))
    images = images.clone()
    box = (..., slice(top, top + height), slice(left, left + width))
    images[box] = other[box]
    return images, partner, 1 - height * width / (h * w)


def _beta(alpha: float, rng: torch.Generator) -> float:
    shape = torch.full((2,), alpha)
    gamma = torch._standard_gamma(shape, generator=rng)
    return float(gamma[0] / gamma.sum())
