"""Conformal answers of pixels, given the threshold that ``lulcbench.maps.conformal`` finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.legend import ClassScheme

UNCERTAIN = 65535  # in place of a code: not even a class of the coarsest level is certain


def answers(
    p: npt.NDArray[np.float32], scheme: ClassScheme, limit: float, chosen: npt.NDArray[np.intp] | None = None
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """The finest certain class of each pixel, and the number of classes of the deepest level in it.

    Args:
        p: probabilities ``(class, …)``.
        scheme: the classes.
        limit: the threshold.
        chosen: the decided classes ``(…)``, if they are known already.

    Returns:
        Codes of any level, ``UNCERTAIN`` where none is certain; and sizes: uint16 and uint8 ``(…)``.
    """
    chosen = scheme.decide(p) if chosen is None else chosen
    codes = np.full(chosen.shape, UNCERTAIN, np.uint16)
    sizes = np.full(chosen.shape, len(p), np.uint8)
    for at in scheme.levels:
        over = scheme.over(at)
        certain = probability_of(p, chosen, scheme, at) >= np.float32(limit)
        codes = np.where(certain, scheme.codes_over(at)[chosen], codes)
        sizes = np.where(certain, np.bincount(over).astype(np.uint8)[over][chosen], sizes)
    return codes, sizes


def probability_of(
    p: npt.NDArray[np.float32], chosen: npt.NDArray[np.intp], scheme: ClassScheme, at: int
) -> npt.NDArray[np.float32]:
    """Probability of the ancestor at a level of the decided classes."""
    sums = scheme.aggregate(p, at)
    parent = scheme.over(at)[chosen]
    taken: npt.NDArray[Any] = np.take_along_axis(sums, parent[None], axis=0)[0]
    return taken.astype(np.float32)
