"""Augmentations of a config, built from those of ``lulcbench.datasets.augment``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from lulcbench.datasets.augment import Affine, Dihedral, Gain, Mix, Noise

if TYPE_CHECKING:
    from baselines.settings import AugmentConfig


def augmentation(config: AugmentConfig) -> nn.Module | None:
    """Build the chain of augmentations; None if there are none."""
    steps: list[nn.Module] = []
    if config.dihedral:
        steps.append(Dihedral())
    if config.affine:
        steps.append(Affine(*config.affine))
    if config.gain:
        steps.append(Gain(config.gain))
    if config.noise:
        steps.append(Noise(config.noise))
    if config.mixup or config.cutmix:
        steps.append(Mix(config.mixup, config.cutmix, config.mix_probability))
    return nn.Sequential(*steps) if steps else None
