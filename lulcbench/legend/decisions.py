"""Decisions: from class probabilities to classes that agree at all levels of the legend."""

from __future__ import annotations

import itertools

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


def _decide(p: npt.NDArray[np.floating], level: int) -> npt.NDArray[np.uint8]:
    best = _first_maximum(aggregate(p, level, 1))
    for finer in range(2, level + 1):
        sums = aggregate(p, level, finer) if finer < level else p
        parents = legend().parents(finer, finer - 1)
        first = np.searchsorted(parents, np.arange(parents[-1] + 2))  # siblings follow each other
        children = np.stack([_first_maximum(sums[i:j]) + np.uint8(i) for i, j in itertools.pairwise(first)])
        best = np.take_along_axis(children, best[None].astype(np.intp), axis=0)[0]
    return best


def _first_maximum(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """``values.argmax(0)`` of fewer than 256 rows, row by row: argmax itself goes through memory in columns."""
    highest = values[0].copy()
    at = np.zeros(highest.shape, np.uint8)
    for i, row in enumerate(values[1:], start=1):
        np.maximum(at, (row > highest).view(np.uint8) * np.uint8(i), out=at)
        np.maximum(highest, row, out=highest)
    return at


def aggregate(p: npt.NDArray[np.floating], level: int, to: int) -> npt.NDArray[np.floating]:
    """Probabilities ``(class, …)`` of the classes of level ``to``: sums over their children at ``level``.

    The children are added in the order of their codes, so that the sum of a pixel does not depend on the shape of the
    array.
    """
    sums = np.zeros((len(legend().codes(to)), *p.shape[1:]), p.dtype)
    for child, parent in enumerate(legend().parents(level, to)):
        sums[parent] += p[child]
    return sums
