"""Conformal answers of pixels, given the threshold that ``lulcbench.maps.conformal`` finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.legend import aggregate, decide, legend

UNCERTAIN = 65535  # in place of a code: not even a class of level 1 is certain


def answers(
    p: npt.NDArray[np.float32], level: int, limit: float, chosen: npt.NDArray[np.intp] | None = None
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """The finest certain class of each pixel, and the number of classes of ``level`` in it.

    Args:
        p: probabilities ``(class, …)`` at ``level``.
        level: legend level.
        limit: the threshold.
        chosen: the decided classes ``(…)``, if they are known already.

    Returns:
        LUISA codes of any level, ``UNCERTAIN`` where none is certain; and sizes: uint16 and uint8 ``(…)``.
    """
    chosen = decide(p, level) if chosen is None else chosen
    codes = np.full(chosen.shape, UNCERTAIN, np.uint16)
    sizes = np.full(chosen.shape, len(p), np.uint8)
    for at in range(1, level + 1):
        parents = legend().parents(level, at)
        certain = probability_of(p, chosen, level, at) >= np.float32(limit)
        codes = np.where(certain, np.array(legend().codes(at), np.uint16)[parents][chosen], codes)
        sizes = np.where(certain, np.bincount(parents).astype(np.uint8)[parents][chosen], sizes)
    return codes, sizes


def probability_of(
    p: npt.NDArray[np.float32], chosen: npt.NDArray[np.intp], level: int, at: int
) -> npt.NDArray[np.float32]:
    """Probability of the ancestor at a level of the decided classes."""
    sums = aggregate(p, level, at)
    parent = legend().parents(level, at)[chosen]
    taken: npt.NDArray[Any] = np.take_along_axis(sums, parent[None], axis=0)[0]
    return taken.astype(np.float32)
