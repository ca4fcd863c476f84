"""Labels and predictions, as models and batches give them, in the form that pictures take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend

if TYPE_CHECKING:
    from lulcbench.plotting import Panel


def finest(classes: Any, levels: tuple[int, ...], ndim: int = 2) -> npt.NDArray[np.int64]:
    """Class indices at the finest of their levels.

    Args:
        classes: whole numbers, ``(y, x)`` or ``(level, y, x)``; one, or one for each level, if ``ndim`` is 0.
        levels: their levels.
        ndim: 2 for maps, 0 for single classes.

    Raises:
        LulcbenchError: they have another shape or type, such as probabilities.
    """
    indices = torch.as_tensor(classes).detach().cpu()
    if indices.ndim == ndim + 1 and len(indices) == len(levels):
        indices = indices[levels.index(max(levels))]
    if indices.ndim != ndim or indices.is_floating_point():
        what = f"{indices.dtype} of shape {tuple(indices.shape)}"
        form = "(y, x)" if ndim else "a single number"
        raise LulcbenchError(f"A prediction is {what}.", f"Give class indices, {form}, such as logits.argmax(0).")
    return indices.to(torch.int64).numpy()


def class_panels(masks: dict[str, Any], levels: tuple[int, ...]) -> list[Panel]:
    """Maps of class indices in legend colours, by their titles; those that are None are left out."""
    from lulcbench.plotting import class_panel

    return [class_panel(finest(m, levels), max(levels), title) for title, m in masks.items() if m is not None]


def class_name(label: Any, levels: tuple[int, ...]) -> str:
    """Name of the class of a single label or prediction.

    Raises:
        LulcbenchError: it is not a class.
    """
    from lulcbench.plotting import check_classes

    index, names = finest(label, levels, 0), legend().names(max(levels))
    check_classes(index, len(names), "The prediction")
    return "ignored" if index == IGNORE_INDEX else names[int(index)]
