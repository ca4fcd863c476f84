"""Resampling of predictions to the 50 m label grid, on which they are scored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.grid import area_weights
from lulcbench.release import label_shape


def to_label_grid(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Resample class probabilities of a tile from any resolution to the 50 m label grid, by area.

    Args:
        probabilities: float ``(class, h, w)`` over one tile (4,800 m × 4,800 m), such as 480 × 480 at 10 m.

    Returns:
        ``(class, 96, 96)``, same dtype; sums over classes are preserved.

    Examples:
        >>> ramp = np.linspace(0, 1, 160) * np.ones((1, 160, 160))  # 30 m
        >>> to_label_grid(ramp).shape
        (1, 96, 96)
    """
    if probabilities.ndim != 3:
        raise LulcbenchError(f"Probabilities are {probabilities.shape}.", "Give (class, h, w) of one whole tile.")
    height, width = label_shape()
    rows = area_weights(probabilities.shape[1], height).astype(probabilities.dtype)
    columns = area_weights(probabilities.shape[2], width).astype(probabilities.dtype)
    result: npt.NDArray[np.floating] = rows @ probabilities @ columns.T
    return result
