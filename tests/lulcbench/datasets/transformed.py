"""Transforms of several libraries, and the masks that they must give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import pytest
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from lulcbench import LuisaChange, LuisaSeg
from lulcbench.legend import IGNORE_INDEX

Sample = dict[str, Any]


def kornia(*steps: nn.Module, **options: Any) -> nn.Module:
    return K.AugmentationSequential(*steps, data_keys=None, **{"keepdim": True} | options)


KORNIA: dict[str, Callable[[], nn.Module]] = {
    "rotation": lambda: K.RandomRotation(45.0, p=1.0),
    "affine": lambda: K.RandomAffine(20.0, (0.2, 0.2), (0.7, 1.3), 10.0, p=1.0),
    "perspective": lambda: K.RandomPerspective(0.5, p=1.0),
    "shear": lambda: K.RandomShear(30.0, p=1.0),
    "translation": lambda: K.RandomTranslate((0.1, 0.4), (0.1, 0.4), p=1.0),
    "elastic": lambda: K.RandomElasticTransform(alpha=(8.0, 8.0), p=1.0),
    "padded crop": lambda: K.RandomCrop((40, 40), padding=6, p=1.0),
    "padding": lambda: K.PadTo((48, 52)),
    "erasing": lambda: K.RandomErasing((0.1, 0.3), p=1.0),
    "flip": lambda: K.RandomHorizontalFlip(p=1.0),
}


TORCHVISION: dict[str, Callable[[], nn.Module]] = {
    "rotation": lambda: v2.RandomRotation((20, 70)),
    "expanding rotation": lambda: v2.RandomRotation((20, 70), expand=True),
    "bilinear rotation": lambda: v2.RandomRotation((20, 70), interpolation=v2.InterpolationMode.BILINEAR),
    "affine": lambda: v2.RandomAffine(20, (0.2, 0.2), (0.7, 1.3), 10),
    "perspective": lambda: v2.RandomPerspective(0.5, p=1.0),
    "elastic": lambda: v2.ElasticTransform(150.0),
    "padding": lambda: v2.Pad((3, 5)),
    "reflected padding": lambda: v2.Pad((3, 5), padding_mode="reflect"),
    "replicated padding": lambda: v2.Pad((3, 5), padding_mode="edge"),
    "padded crop": lambda: v2.RandomCrop(40, padding=6),
    "large crop": lambda: v2.CenterCrop(50),
    "zoom out": lambda: v2.RandomZoomOut(p=1.0),
    "resized crop": lambda: v2.RandomResizedCrop(40),
    "resizing": lambda: v2.Resize(25),
    "perhaps": lambda: v2.RandomApply([v2.RandomRotation((20, 70))], p=0.5),
}


BOTH = [
    *(pytest.param(lambda make=make: kornia(make()), id=f"kornia {name}") for name, make in KORNIA.items()),
    *(pytest.param(make, id=f"torchvision {name}") for name, make in TORCHVISION.items()),
]


def numbered(mask: Tensor) -> Tensor:
    """A mask in which each pixel holds its number, from 1 on."""
    plane = torch.arange(1, mask[..., :, :].numel() + 1)
    return plane.view(mask.shape)


def expected(make: Callable[[], Any], sample: Sample, seed: int, batched: bool = False) -> dict[str, Tensor]:
    """Each mask after the transform, by where its pixels came from."""
    masks = {key: value for key, value in sample.items() if key.startswith("mask")}
    numbers = {key: numbered(mask) for key, mask in masks.items()}
    kinds = {"image": tv_tensors.Image, "mask": tv_tensors.Mask}
    transform = make()
    given = sample | numbers
    if isinstance(transform, v2.Transform):
        given = {k: kinds[k.split("_")[0]](v) if k.split("_")[0] in kinds else v for k, v in given.items()}
    torch.manual_seed(seed)
    done = transform(given)
    found = {}
    for key, mask in masks.items():
        source = torch.as_tensor(done[key]).as_subclass(Tensor)  # type: ignore[arg-type]
        values = torch.cat([torch.tensor([IGNORE_INDEX]), mask.flatten()])
        found[key] = values[source]
    return found


def with_seed(transform: Callable[[Sample], Sample], sample: Sample, seed: int) -> Sample:
    torch.manual_seed(seed)
    return transform(sample)


def samples(root: Path) -> Iterator[tuple[Any, Sample]]:
    """One sample of each form of masks that fits images of (channel, y, x)."""
    for kind, options in (
        (LuisaSeg, {"sensors": "landsat", "level": 4}),
        (LuisaSeg, {"sensors": "landsat", "level": (1, 2, 3, 4)}),
        (LuisaSeg, {"sensors": "landsat", "level": 1}),
        (LuisaChange, {"level": 3}),
        (LuisaChange, {"level": (1, 4)}),
    ):
        yield (kind, options), kind(root, **options)[9]
