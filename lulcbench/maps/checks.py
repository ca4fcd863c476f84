"""Checks of what models predict, exported ones and others: probabilities of all classes for each pixel of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from lulcbench.maps.model import Image, ModelInfo

_TOLERANCE = 0.01  # of sums of probabilities, for half precision
_ROUNDING = 1e-6  # below 0
_ROWS = 16  # that are checked at a time, so that they stay in the cache


def checked(p: npt.NDArray[Any], images: Mapping[str, Image], info: ModelInfo, parts: int = 1) -> Image:
    """Probabilities, as float32.

    Args:
        p: what the model predicts of the images: ``(part·class, y, x)``, or ``(part·class,)`` of patches.
        images: the images.
        info: description of the model.
        parts: number of sets of probabilities, one after the other.

    Raises:
        LulcbenchError: these are not probabilities of all classes on the grid of the first sensor. NaN is allowed:
            where images have no data, anything may be predicted.
    """
    pixels = images[next(iter(info.inputs))].shape[1:] if info.dense else ()
    expected = (parts * len(info.classes), *pixels)
    if p.shape != expected:
        axes = "(class, y, x)" if info.dense else "(class,)"
        raise LulcbenchError(
            f"{info.name} predicts an array {p.shape} of a window, not {axes} = {expected}.",
            f"Predict all {len(info.classes)} classes"
            f"{' for each pixel of the first sensor' if info.dense else ' once for each patch'}.",
        )
    p = np.asarray(p, np.float32)
    by_part = p.reshape(parts, len(info.classes), *(p.shape[1:] or (1,)))
    for start in range(0, by_part.shape[2], _ROWS):
        rows = by_part[:, :, start : start + _ROWS]
        # Values of at least 0 that sum to 1 are at most 1.
        if rows.min() < -_ROUNDING or not (np.abs(rows.sum(axis=1) - 1) <= _TOLERANCE).all():
            _explain(rows, info)
    return p


def _explain(p: Image, info: ModelInfo) -> None:
    """Raise what is wrong with probabilities ``(part, class, …)``; NaN alone is not an error here."""
    if (p < -_ROUNDING).any() or (p > 1 + _TOLERANCE).any():
        raise LulcbenchError(
            f"{info.name} predicts values from {np.nanmin(p):.3g} to {np.nanmax(p):.3g}; probabilities are 0 to 1.",
            "Apply a softmax over the classes.",
        )
    total = p.sum(axis=1)
    if (wrong := np.abs(total - 1) > _TOLERANCE).any():
        raise LulcbenchError(
            f"{info.name} predicts probabilities that sum to {total[wrong][0]:.3g} in a pixel, not 1.",
            "Apply a softmax over the classes; predict NaN where there is no prediction.",
        )
