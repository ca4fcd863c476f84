"""Decisions: from class probabilities to classes that agree at all levels of the legend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lulcbench.legend.classes import legend

_PART = 2**14  # pixels that are decided at a time, so that they stay in the cache of the processor


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
    flat = p.reshape(len(p), -1)
    chosen = np.empty(flat.shape[1], np.intp)
    for start in range(0, len(chosen), _PART):
        part = slice(start, start + _PART)
        chosen[part] = _decide(flat[:, part], level)
    return chosen.reshape(p.shape[1:])


def _decide(p: npt.NDArray[np.floating], level: int) -> npt.NDArray[np.intp]:
    best = aggregate(p, level, 1).argmax(0)
    for finer in range(2, level + 1):
        sums = aggregate(p, level, finer) if finer < level else p
        best = (sums * (legend().parents(finer, finer - 1)[:, None] == best)).argmax(0)
    return best


def aggregate(p: npt.NDArray[np.floating], level: int, to: int) -> npt.NDArray[np.floating]:
    """Probabilities ``(class, …)`` of the classes of level ``to``: sums over their children at ``level``.

    The children are added in the order of their codes, so that the sum of a pixel does not depend on the shape of the
    array.
    """
    sums = np.zeros((len(legend().codes(to)), *p.shape[1:]), p.dtype)
    for child, parent in enumerate(legend().parents(level, to)):
        sums[parent] += p[child]
    return sums
