"""Decisions: from class probabilities to classes that agree at all levels of the legend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lulcbench.legend.classes import legend


def decide(p: npt.NDArray[np.floating], level: int) -> npt.NDArray[np.intp]:
    """Decide the class of each pixel from the top of the legend down.

    This is the most probable class of level 1, within it the most probable one of level 2, and so on: the most probable
    fine class may be a child of an improbable coarse one. Of equally probable classes, the one with the lowest code is
    taken.

    Args:
        p: probabilities ``(class, …)`` at ``level``.
        level: legend level.

    Returns:
        Class indices ``(…)`` at ``level``.

    Examples:
        >>> p = np.zeros((14, 1), np.float32)
        >>> p[[0, 1, 8], 0] = 0.3, 0.3, 0.4  # urban fabric, industry, forest: artificial surfaces have 0.6
        >>> [legend().codes(2)[i] for i in decide(p, 2)]
        [11]
    """
    allowed = p
    for coarse in range(1, level):
        parents = legend().parents(level, coarse)
        best = aggregate(allowed, level, coarse).argmax(0)
        allowed = np.where(parents.reshape(-1, *[1] * best.ndim) == best, allowed, 0)
    return allowed.argmax(0)


def aggregate(p: npt.NDArray[np.floating], level: int, to: int) -> npt.NDArray[np.floating]:
    """Probabilities ``(class, …)`` of the classes of level ``to``: sums over their children at ``level``.

    The children are added in the order of their codes, so that the sum of a pixel does not depend on the shape of the
    array.
    """
    sums = np.zeros((len(legend().codes(to)), *p.shape[1:]), p.dtype)
    for child, parent in enumerate(legend().parents(level, to)):
        sums[parent] += p[child]
    return sums
