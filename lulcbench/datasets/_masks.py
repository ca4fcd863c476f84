"""Encoding of masks for transforms of other libraries, which fill uncovered pixels with 0, the first class.

Transforms that only move pixels get masks in a code that differs from all usual fill values. A class index ``c``
becomes ``254 - 2 · (top - c)``, where ``top`` is the largest index in the mask, so that codes are even numbers up to
254 (exact in bfloat16 and uint8), and ``IGNORE_INDEX`` is unchanged. Afterwards, even numbers in the range of the codes
are classes, and numbers outside it were filled by the transform and are ignored. Odd numbers or fractions in that range
mean that classes were averaged, which is an error.

All other transforms get unchanged masks, and the result is checked: label pixels may be reordered or dropped, but no
class may have more pixels than before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

_LAST = IGNORE_INDEX - 1
_AVERAGE = IGNORE_INDEX + 1


def moved(call: Callable[[Sample], Sample], sample: Sample, name: str, batched: bool) -> Sample:
    """Apply a transform that moves pixels and does not depend on their values.

    Args:
        call: the transform.
        sample: a sample, or a batch.
        name: name of the transform, for error messages.
        batched: whether the sample is a batch.

    Raises:
        LulcbenchError: the transform interpolated classes, or gave the mask other dimensions.
    """
    masks = _masks(sample)
    coders = {key: _Code(mask) for key, mask in masks.items()}
    done = call(sample | {key: coders[key].encode(mask) for key, mask in masks.items()})
    if not isinstance(done, dict):
        raise LulcbenchError(f"{name} gave a {type(done).__name__}.", "A transform takes a sample and returns one.")
    decoded = {}
    wrong = []
    for key, mask in masks.items():
        if key not in done:
            continue
        after = torch.as_tensor(done[key])
        if batched and after.ndim == mask.ndim + 1 and after.shape[-3] == 1:
            after = after.squeeze(-3)  # Kornia's masks have a channel unless keepdim=True
        if after.ndim != mask.ndim:
            raise LulcbenchError(
                f"{name} turned {key} from {tuple(mask.shape)} into {tuple(after.shape)}.",
                "Images with an axis of seasons or dates do not fit it: choose flatten=True, or another transform; "
                "Kornia's need keepdim=True.",
            )
        decoded[key], averaged = coders[key].decode(after)
        wrong.append(averaged)
    # Checked once for all masks, since each check synchronises the device.
    if wrong and bool(torch.stack(wrong).any()):
        raise LulcbenchError(
            f"{name} averaged the classes of neighbouring pixels.",
            "Resample masks by nearest neighbour; images may be interpolated otherwise.",
        )
    return done | decoded


def checked(call: Callable[[Sample], Sample], sample: Sample, name: str) -> Sample:
    """Apply an unknown transform, and check the masks.

    Raises:
        LulcbenchError: a mask holds more pixels of a class than before, or a value that is not a class.
    """
    before = {key: _counts(mask) for key, mask in _masks(sample).items()}
    done = call(sample)
    if not isinstance(done, dict):
        return done  # names of its masks are unknown
    for key, counts in before.items():
        if not isinstance(done.get(key), Tensor):
            continue
        after = done[key]
        whole = after.to(torch.int64)
        known = bool(((whole == after) & (whole >= 0) & (whole <= IGNORE_INDEX)).all())
        more = (_counts(whole) - counts).tolist() if known else []
        if not known or max(more[:IGNORE_INDEX]) > 0:
            what = f"more pixels of class {more.index(max(more[:IGNORE_INDEX]))} than before" if known else "no classes"
            raise LulcbenchError(
                f"{name} made a {key} with {what}.",
                "If it moves pixels (rotates, pads, resizes), give SpatialTransform(...) of it, and what it fills is "
                "ignored; if it changes labels on purpose, LabelTransform(...). Both are in lulcbench.datasets.",
            )
    return done


class _Code:
    """The code of one mask, as tables on its device, which avoids synchronisation."""

    def __init__(self, mask: Tensor) -> None:
        values = torch.arange(IGNORE_INDEX + 1, device=mask.device)
        present = torch.zeros(IGNORE_INDEX + 1, dtype=torch.bool, device=mask.device)
        present[mask.flatten().to(torch.int64)] = True
        present[IGNORE_INDEX] = False
        top = torch.where(present, values, -1).amax()
        step = torch.where(top < _LAST // 2, 2, 1)  # with more classes, fewer averages are detected
        first = _LAST - step * top
        self._codes = torch.where(values == IGNORE_INDEX, IGNORE_INDEX, first + step * values)
        index = torch.div(values - first, step, rounding_mode="floor").clamp(0, _LAST)
        inside = (values >= first) & (values <= _LAST)
        exact = inside & (first + step * index == values) & present[index]
        self._classes = torch.where(exact, index, torch.where(inside, _AVERAGE, IGNORE_INDEX))

    def encode(self, mask: Tensor) -> Tensor:
        """The code of each pixel, in the type of the mask."""
        return self._codes.take(mask.to(torch.int64)).to(mask.dtype)

    def decode(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Class indices in the code's type, and whether some of them are averages (bool, one value)."""
        averaged = torch.tensor(code.dtype == torch.bool, device=code.device)
        whole = code
        if code.is_floating_point():
            known = code.nan_to_num(nan=0.0)
            whole = known.round()
            averaged = (known != whole).any()
        classes = self._classes.take(whole.clamp(0, IGNORE_INDEX).to(torch.int64))
        return classes.to(code.dtype), averaged | (classes == _AVERAGE).any()


def _masks(sample: Sample) -> dict[str, Any]:
    return {key: value for key, value in sample.items() if key.startswith("mask") and isinstance(value, Tensor)}


def _counts(mask: Tensor) -> Tensor:
    return torch.bincount(mask.flatten(), minlength=IGNORE_INDEX + 1)
