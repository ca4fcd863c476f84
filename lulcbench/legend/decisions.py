"""Decisions: from class probabilities to classes that agree at all levels of the legend."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lulcbench._native import compiled
from lulcbench.legend.classes import LEVELS, legend

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
    return decide_over(p, [legend().parents(level, n) for n in LEVELS[:level]])


def decide_over(p: npt.NDArray[np.floating], over: Sequence[npt.NDArray[np.intp]]) -> npt.NDArray[np.intp]:
    """As ``decide``, in any tree of classes.

    Args:
        p: probabilities ``(class, …)`` of the deepest level.
        over: for each level from the coarsest to the deepest, the class indices there of the classes of ``p``.
            Classes of one parent follow each other.
    """
    flat = p.reshape(len(p), -1)
    if compiled is not None and p.dtype == np.float32 and flat.strides[-1] == flat.itemsize and flat.flags.aligned:
        decided = np.empty(flat.shape[1], np.uint8)
        compiled.decide(flat, np.stack(over).astype(np.uint8), decided)
        return decided.reshape(p.shape[1:]).astype(np.intp)
    chosen = np.empty(flat.shape[1], np.intp)
    for start in range(0, len(chosen), _PART):
        part = slice(start, start + _PART)
        chosen[part] = _decide(flat[:, part], over)
    return chosen.reshape(p.shape[1:])


def _decide(p: npt.NDArray[np.floating], over: Sequence[npt.NDArray[np.intp]]) -> npt.NDArray[np.uint8]:
    best: npt.NDArray[np.uint8] | None = None
    for depth, own in enumerate(over, start=1):
        sums = aggregate_over(p, own) if depth < len(over) else p
        if best is None:
            best = _first_maximum(sums)
            continue
        above = over[depth - 2]
        first = own[np.searchsorted(above, np.arange(above[-1] + 1))].tolist()  # siblings follow each other
        ranges = itertools.pairwise([*first, len(sums)])
        children = np.stack([_first_maximum(sums[i:j]) + np.uint8(i) for i, j in ranges])
        best = np.take_along_axis(children, best[None].astype(np.intp), axis=0)[0]
    if best is None:
        raise ValueError("there are no levels")
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
    return aggregate_over(p, legend().parents(level, to))


def aggregate_over(p: npt.NDArray[np.floating], over: npt.NDArray[np.intp]) -> npt.NDArray[np.floating]:
    """As ``aggregate``, given the class indices above the classes of ``p``, ascending: intp ``(class,)``."""
    sums = np.zeros((int(over[-1]) + 1, *p.shape[1:]), p.dtype)
    for child, parent in enumerate(over):
        sums[parent] += p[child]
    return sums
