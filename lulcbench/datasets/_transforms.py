"""Calling transforms of single samples; torchvision's are told what is an image and what is a mask."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lulcbench.datasets.batch import Sample

Transform = Callable[[Sample], Sample]


def apply(transform: Transform, sample: Sample) -> Sample:
    """A transformed sample.

    torchvision's v2 transforms take the first plain tensor for the image and leave all others as they are, masks too.
    For them alone, images and masks are wrapped as ``tv_tensors`` and unwrapped again.
    """
    if not _of_torchvision(transform):
        return transform(sample)
    from torchvision import tv_tensors  # type: ignore[import-untyped]

    kinds = {"image": tv_tensors.Image, "mask": tv_tensors.Mask}
    pixels = set()  # entries of a single pixel, which torchvision sees as images of 1 × 1

    def wrap(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: wrap(key, part) for name, part in value.items()}
        for kind, wrapper in kinds.items():
            if key.startswith(kind):
                if value.ndim < (3 if kind == "image" else 2):
                    pixels.add(key)
                    value = value[..., None, None]
                return wrapper(value)
        return value

    def unwrap(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: unwrap(key, part) for name, part in value.items()}
        if isinstance(value, tv_tensors.TVTensor):
            value = value.as_subclass(torch.Tensor)
        return value[..., 0, 0] if key in pixels else value

    done = transform({key: wrap(key, value) for key, value in sample.items()})
    return {key: unwrap(key, value) for key, value in done.items()}


def _of_torchvision(transform: Any) -> bool:
    """Whether a transform is one of torchvision's v2 or a chain with one; where v2 was not imported, there is none."""
    v2 = sys.modules.get("torchvision.transforms.v2")
    if v2 is None:
        return False
    if isinstance(transform, v2.Transform):
        return True
    parts = list(transform) if isinstance(transform, nn.Sequential) else getattr(transform, "transforms", ())
    return isinstance(parts, list | tuple) and any(_of_torchvision(part) for part in parts)
