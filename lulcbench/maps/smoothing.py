"""Bayesian smoothing of class probabilities, as in the R package sits (Camara et al. 2024, doi.org/10.3390/rs16234572).

For each class, the logit of a pixel is a noisy observation of its true value, with variance ``smoothness``. The prior
is normal, with the mean and the variance of the highest logits of the class in a window around the pixel. The posterior
mean is a weighted mean of the two: in uniform neighbourhoods their mean counts, in mixed ones the pixel itself does.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from lulcbench._files import Frozen

_TINY = 1e-4  # probabilities are kept this far from 0 and 1, as in sits
_ROWS = 16  # that are smoothed at a time


class Smoothing(Frozen):
    """Parameters; the defaults are those of sits.

    Attributes:
        window: side of the window in pixels, odd.
        fraction: of the pixels of the window that are used, those with the highest logits of the class.
        smoothness: variance of the logits of a pixel; larger values smooth more.
    """

    window: Annotated[int, Field(ge=3, le=31)] = 7
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    smoothness: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("the window must have an odd number of pixels")
        return window

    @property
    def margin(self) -> int:
        """Pixels that are needed around the result."""
        return self.window // 2


def smooth(p: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], smoothing: Smoothing) -> npt.NDArray[np.float32]:
    """Smooth probabilities.

    Args:
        p: float32 ``(class, y + 2 · margin, x + 2 · margin)`` that sum to 1.
        valid: pixels with data, of the same grid; others are not part of any window.
        smoothing: parameters.

    Returns:
        float32 ``(class, y, x)`` that sum to 1, without the margin.
    """
    margin, n = smoothing.margin, smoothing.window**2
    inner = slice(margin, -margin)
    out = np.empty((len(p), p.shape[1] - 2 * margin, p.shape[2] - 2 * margin), np.float32)
    numbers = _windows(valid, smoothing.window).sum(axis=-1, dtype=np.int64)
    used = np.ceil(smoothing.fraction * numbers).astype(np.int64)
    for k, own in enumerate(p):
        clipped = np.clip(own.astype(np.float64), _TINY, 1 - _TINY)
        logits = np.log(clipped / (1 - clipped))
        ranked = np.where(valid, logits, -np.inf)
        for start in range(0, out.shape[1], _ROWS):
            rows = slice(start, min(start + _ROWS, out.shape[1]))
            parts = _windows(ranked[start : rows.stop + 2 * margin], smoothing.window)
            ordered = np.sort(parts.astype(np.float32), axis=-1)[..., ::-1]
            counts = used[rows][..., None]
            highest = np.where(np.arange(n) < counts, ordered, 0).astype(np.float64)
            number = np.maximum(counts[..., 0], 1)
            mean = highest.sum(axis=-1) / number
            deviations = np.where(np.arange(n) < counts, ordered - mean[..., None], 0)
            variance = (deviations**2).sum(axis=-1) / np.maximum(number - 1, 1)
            weight = variance / (variance + smoothing.smoothness)
            posterior = weight * logits[inner, inner][rows] + (1 - weight) * mean
            out[k, rows] = 1 / (1 + np.exp(-posterior))
    total = np.zeros(out.shape[1:], np.float32)
    for own in out:
        total += own
    result: npt.NDArray[Any] = out / total
    return result


def _windows(values: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """All windows of an image: ``(y, x, side²)``."""
    windows = np.lib.stride_tricks.sliding_window_view(values, (side, side))
    return windows.reshape(*windows.shape[:2], side * side)
