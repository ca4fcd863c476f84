"""Lookup tables of the legend for counting pixels.

A *node* is the position of a code among the 106 codes of all levels (``nodes``): labels may have any level, so a label
is a node, while a prediction is a class index of one level.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from lulcbench.legend.classes import IGNORE_INDEX, LEVELS, NODATA, legend

UNKNOWN_NODE = 2**32 - 1  # in ``node_lookup``: all bits set, for unknown codes
EDGE_DEPTHS = 5
_PATH_SHIFTS = {4: 0, 3: 2, 2: 5, 1: 8}  # of the bits of a level in a path: at most 3, 7, 7 and 7 siblings
_PATHS = 2**11


@cache
def nodes() -> tuple[int, ...]:
    """All 106 codes of the legend, of all levels, ascending.

    >>> nodes()[:3], len(nodes())
    ((1, 2, 3), 106)
    """
    return tuple(sorted(legend().classes))


@cache
def node_levels() -> npt.NDArray[np.intp]:
    """Levels of ``nodes()``: intp ``(106,)``."""
    return np.array([legend().classes[code].level for code in nodes()], np.intp)


@cache
def node_to_class(level: int) -> npt.NDArray[np.intp]:
    """Class indices at ``level`` of ``nodes()``, -1 for coarser nodes: intp ``(106,)``."""
    ancestors = [legend().ancestor(code, level) for code in nodes()]
    return np.array([-1 if code == NODATA else legend().codes(level).index(code) for code in ancestors], np.intp)


@cache
def class_lookup(level: int) -> npt.NDArray[np.uint8]:
    """Code → class index, ``IGNORE_INDEX`` for values that are not codes of ``level``: uint8 ``(65536,)``."""
    table = np.full(65536, IGNORE_INDEX, np.uint8)
    table[list(legend().codes(level))] = np.arange(len(legend().codes(level)))
    return table


@cache
def node_lookup() -> npt.NDArray[np.uint32]:
    """Label code → node in the low 16 bits, path (``node_paths``) in the high 16 bits: uint32 ``(65536,)``.

    Nodata is node 106; unknown codes have ``UNKNOWN_NODE``.
    """
    table = np.full(65536, UNKNOWN_NODE, np.uint32)
    paths = node_paths()
    packed = paths.astype(np.uint32) << 16 | np.arange(len(paths), dtype=np.uint32)
    table[list(nodes())] = packed[:-1]
    table[NODATA] = packed[-1]
    return table


@cache
def node_paths() -> npt.NDArray[np.uint16]:
    """Paths from the root to ``nodes()`` and, last, to nodata: uint16 ``(107,)``.

    A path has 11 bits, coarse levels first: for each level the position among siblings, from 1, or 0 if the node is
    coarser. The highest bit in which two paths differ therefore determines the coarsest level at which the labels
    differ.
    """
    paths = np.zeros(len(nodes()) + 1, np.uint16)
    for node, code in enumerate(nodes()):
        for level in LEVELS[: legend().classes[code].level]:
            own = legend().ancestor(code, level)
            siblings = [c for c in legend().codes(level) if legend().classes[c].parent == legend().classes[own].parent]
            paths[node] |= (siblings.index(own) + 1) << _PATH_SHIFTS[level]
    return paths


@cache
def edge_depth_lookup() -> npt.NDArray[np.uint8]:
    """Exclusive-or of two paths → 0 if they are equal, else 5 − coarsest level that differs: uint8 ``(2048,)``."""
    lowest_bits = [1 << _PATH_SHIFTS[level] for level in reversed(LEVELS)]
    table: npt.NDArray[np.uint8] = np.searchsorted(lowest_bits, np.arange(_PATHS), side="right").astype(np.uint8)
    return table


@cache
def agreement(level: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Agreement of label nodes and predicted classes of ``level``: two arrays, intp ``(106, n_classes(level))``.

    Returns:
        The number of comparable levels of each pair (the level of the coarser of the two), and the number of these at
        which the pair agrees. Agreement at a level implies agreement at all coarser ones, so the difference is the
        height of the lowest common ancestor.
    """
    shape = (len(nodes()), len(legend().codes(level)))
    comparable = np.broadcast_to(np.minimum(node_levels(), level)[:, None], shape).copy()
    agreeing = np.zeros(shape, np.intp)
    for at in LEVELS[:level]:
        label = node_to_class(at)[:, None]
        agreeing += (label == legend().parents(level, at)[None, :]) & (label >= 0)
    return comparable, agreeing


@cache
def agreement_lookup(level: int) -> npt.NDArray[np.uint8]:
    """``5 · comparable + agreeing`` (see ``agreement``) of nodes, then nodata, and classes: uint8 ``(107, n)``."""
    comparable, agreeing = agreement(level)
    table = np.zeros((len(nodes()) + 1, comparable.shape[1]), np.uint8)
    table[:-1] = (len(LEVELS) + 1) * comparable + agreeing
    return table
