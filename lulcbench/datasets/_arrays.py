"""Transforms of albumentations, which take NumPy arrays with the channels last, by keyword."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError


def on_arrays(transform: Any, sample: Sample) -> Sample:
    """Apply a transform of albumentations to the image and the mask of a sample.

    Masks are passed as uint8, since OpenCV cannot move int64; values of masks are at most 255.

    Args:
        transform: called as ``transform(image=…, mask=…)``.
        sample: a sample with one image and at most one mask; further axes (seasons, levels) become channels.

    Raises:
        LulcbenchError: the sample is a batch, or has several images or masks, or its mask has another size.
    """
    keys = [key for key, value in sample.items() if key.startswith(("image", "mask")) and not isinstance(value, str)]
    values = [sample[key] for key in keys]
    kinds = [key.partition("_")[0] for key in keys]
    if isinstance(sample.get("tile"), list) or len(set(kinds)) < len(kinds) or not all(map(_is_tensor, values)):
        raise LulcbenchError(
            f"{type(transform).__name__} takes one image and one mask at a time, not {', '.join(keys)}.",
            "Use transforms= of a dataset with one sensor and one year, or transforms of torchvision v2 or Kornia.",
        )
    if any(value.ndim < (3 if kind == "image" else 2) for kind, value in zip(kinds, values, strict=True)):
        raise LulcbenchError(f"{type(transform).__name__} needs images.", "Leave it out of series of single pixels.")
    if len({value.shape[-2:] for value in values}) > 1:  # parameters drawn for the image would not fit the mask
        raise LulcbenchError(
            f"{type(transform).__name__} needs an image and a mask of one size.", 'Use mask_resolution="image".'
        )
    given = {kind: _channels_last(value) for kind, value in zip(kinds, values, strict=True)}
    if "mask" in given:
        given["mask"] = given["mask"].astype(np.uint8)
    done = transform(**given)
    return sample | {
        key: _channels_first(done[kind], value) for key, kind, value in zip(keys, kinds, values, strict=True)
    }


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _channels_last(value: Tensor) -> np.ndarray:
    array = value.numpy()
    if array.ndim == 2:
        return array
    return np.ascontiguousarray(np.moveaxis(array.reshape(-1, *array.shape[-2:]), 0, -1))


def _channels_first(array: np.ndarray, like: Tensor) -> Tensor:
    if like.ndim > 2:
        array = np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)
        array = array.reshape(*like.shape[:-2], *array.shape[-2:])
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.dtype)
