"""Application of transforms to samples and batches: images and masks stay aligned, and no labels are invented."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lulcbench.datasets._arrays import on_arrays
from lulcbench.datasets._masks import checked, moved
from lulcbench.datasets.augment import Mix
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError

Transform = Callable[[Sample], Sample]
# Transforms of these libraries only move pixels of masks, except for those that depend on labels or call functions of
# the user.
_LIBRARIES = {"torchvision", "kornia", "torchgeo", "albumentations"}
_UNKNOWN = {"Lambda", "MaskDropout", "OverlayElements", "RandomTransplantation", "RandomTransplantation3D"}


class SpatialTransform(nn.Module):
    """Wrapper of a transform that moves pixels and does not depend on their classes.

    The transform gets masks in a code of integers from 0 to 255, to be resampled by nearest neighbour; pixels that it
    fills (with 0, 255, any constant) are ignored afterwards. Transforms of torchvision, Kornia, torchgeo and
    albumentations need no wrapping.

    Args:
        transform: takes and returns a sample, or a batch.

    Raises:
        LulcbenchError: on a call, if the transform averages the classes of neighbouring pixels.

    Example:
        >>> def shift(sample):  # by one pixel, filled with 0
        ...     return {key: torch.nn.functional.pad(value[..., :-1], (1, 0)) for key, value in sample.items()}
        >>> SpatialTransform(shift)({"mask": torch.tensor([[7, 0, 255]])})["mask"]
        tensor([[255,   7,   0]])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, sample: Sample) -> Sample:
        """The transformed sample, or batch."""
        return _move(self.transform, sample, isinstance(sample.get("tile"), list))


class LabelTransform(nn.Module):
    """Wrapper of a transform that changes labels on purpose, such as merging classes; its masks are not checked.

    Args:
        transform: takes and returns a sample, or a batch.

    Example:
        >>> water = LabelTransform(lambda sample: sample | {"mask": (sample["mask"] == 4).long()})
        >>> water({"mask": torch.tensor([[4, 2]])})["mask"]
        tensor([[1, 0]])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, sample: Sample) -> Sample:
        """The transformed sample, or batch."""
        return _call(self.transform, sample, isinstance(sample.get("tile"), list))


def apply(transform: Transform, sample: Sample, batched: bool = False) -> Sample:
    """Apply a transform to a sample or a batch.

    Args:
        transform: any callable; the parts of chains (torchvision's ``Compose``, ``nn.Sequential``) are applied one by
            one if some of them are unknown.
        sample: sample of a dataset.
        batched: whether the sample is a batch.

    Raises:
        LulcbenchError: labels were averaged or invented (see ``lulcbench.datasets._masks``), or the sample has numbers
            of clear observations, which the transform would not move with the images.
    """
    if isinstance(transform, LabelTransform):
        return _call(transform.transform, sample, batched)
    spatial = transform.transform if isinstance(transform, SpatialTransform) else None
    if spatial is None and _of_batches(transform):
        return _call(transform, sample, batched)
    moves = spatial is not None or _only_moves(transform)
    if not moves and (parts := _chain(transform)) is not None:
        for part in parts:
            sample = apply(part, sample, batched)
        return sample
    if any(key.startswith("clear") for key in sample):
        raise LulcbenchError(
            f"{_name(transform)} would not move the numbers of clear observations with the images.",
            "Use clear_counts=False, or lulcbench.datasets.augment.Dihedral.",
        )
    if moves:
        return _move(spatial or transform, sample, batched)
    return checked(lambda given: _call(transform, given, batched), sample, _name(transform))


def _move(transform: Transform, sample: Sample, batched: bool) -> Sample:
    return moved(lambda given: _call(transform, given, batched), sample, _name(transform), batched)


def _only_moves(transform: Any) -> bool:
    """Whether a transform and all its parts are from a known library and do not depend on labels."""
    kind = type(transform)
    if kind.__module__.split(".")[0] not in _LIBRARIES | {"torch"} or kind.__name__ in _UNKNOWN:
        return False
    return all(_only_moves(part) for part in _parts(transform))


def _parts(transform: Any) -> list[Any]:
    listed = getattr(transform, "transforms", ())
    parts = list(transform.children()) if isinstance(transform, nn.Module) else []
    return parts + (list(listed) if isinstance(listed, list | tuple) else [])


def _chain(transform: Any) -> list[Any] | None:
    """Parts of a chain of transforms; None for anything else."""
    if type(transform) is nn.Sequential:
        return list(transform)
    if type(transform).__name__ == "Compose" and type(transform).__module__.startswith("torchvision."):
        return list(transform.transforms)
    return None


def _call(transform: Transform, sample: Sample, batched: bool) -> Sample:
    """Call a transform; for torchvision, images and masks are marked as such.

    torchvision's v2 transforms treat the first plain tensor as the image and leave all others unchanged, masks
    included. Only for them, images and masks are converted to ``tv_tensors`` and back.
    """
    if (parts := _chain(transform)) is not None:
        for part in parts:
            sample = _call(part, sample, batched)
        return sample
    if type(transform).__module__.split(".")[0] == "albumentations":
        return on_arrays(transform, sample)
    if _of_batches(transform) and not batched:
        return _on_one(transform, sample)
    if not _of_torchvision(transform):
        return transform(sample)
    from torchvision import tv_tensors

    kinds = {"image": tv_tensors.Image, "mask": tv_tensors.Mask}
    pixels = set()  # entries of a single pixel, which torchvision sees as images of 1 × 1

    def wrap(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: wrap(key, part) for name, part in value.items()}
        for kind, wrapper in kinds.items():
            if key.startswith(kind) and isinstance(value, torch.Tensor):
                if value.ndim < (3 if kind == "image" else 2) + batched:
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


def _of_batches(transform: Any) -> bool:
    """Whether a transform is one of ``lulcbench.datasets.augment``, which take batches only."""
    return type(transform).__module__ == "lulcbench.datasets.augment"


def _on_one(transform: Transform, sample: Sample) -> Sample:
    """Apply a transform of batches to a batch of one sample, so that its first axis is never that of the samples."""
    if isinstance(transform, Mix):
        raise LulcbenchError(
            "Mix mixes the samples of a batch, and was given one sample.", "Give it to LuisaDataModule(augment=…)."
        )

    def batch(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: batch(part) for name, part in value.items()}
        return value[None] if isinstance(value, torch.Tensor) else value

    def single(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: single(part) for name, part in value.items()}
        return value[0] if isinstance(value, torch.Tensor) else value

    done: Sample = single(transform(batch(sample)))
    return done


def _of_torchvision(transform: Any) -> bool:
    """Whether a transform is one of torchvision's v2, which then has been imported."""
    v2 = sys.modules.get("torchvision.transforms.v2")
    return v2 is not None and isinstance(transform, v2.Transform)


def _name(transform: Any) -> str:
    return getattr(transform, "__name__", type(transform).__name__)
