"""Counting pixels: how often each label met each predicted class, by how coarse a label edge the pixel lies on.

``_pixels.c`` does it in one pass; where it was not compiled (no C compiler at installation), numpy does it in many,
several times slower.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from lulcbench._native import compiled
from lulcbench.evaluation.metrics import nodes
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.predictions.format import class_of

DEPTHS = 5
_NO_NODE = 2**32 - 1  # in the look-up table: all bits, for codes that the legend lacks
_BATCH = 8  # maps that numpy takes at once, so that its passes stay in the processor's second-level cache

Codes = npt.NDArray[np.uint16]
Ints = npt.NDArray[np.int64]


class UnknownCode(ValueError):
    """A label that the legend lacks, or a predicted code that is none of the level."""


def count_pixels(labels: Codes, predicted: Codes, level: int) -> Ints:
    """Count the pixels of some maps.

    Args:
        labels: codes of any level, or 0 for nodata, uint16 ``(…, y, x)``.
        predicted: codes of ``level``, of the same shape.
        level: 1 to 4.

    Returns:
        int64 ``(5, 106, C)``: pixels by depth of the label edge (see ``edge_depth``), label node (``metrics.nodes``)
        and predicted class; those without a label are left out.

    Raises:
        UnknownCode: there is a code that is neither.
        ValueError: maps are not uint16 or not of one shape.
    """
    if labels.dtype != np.uint16 or predicted.dtype != np.uint16 or labels.shape != predicted.shape:
        raise ValueError(f"maps are {labels.dtype} {labels.shape} and {predicted.dtype} {predicted.shape}, not uint16")
    shape = (DEPTHS, len(nodes()) + 1, len(legend().codes(level)))
    count = _count_by_numpy if compiled is None else _count_compiled
    height, width = labels.shape[-2:]
    counts = count(labels.reshape(-1, height, width), predicted.reshape(-1, height, width), level, shape)
    return counts[:, :-1]


def _count_compiled(labels: Codes, predicted: Codes, level: int, shape: tuple[int, int, int]) -> Ints:
    counts = np.zeros(shape, np.int64)
    maps, guesses = np.ascontiguousarray(labels, np.uint16), np.ascontiguousarray(predicted, np.uint16)
    tables = label_table(), class_of(level), _depth_table()
    if compiled.count(maps, guesses, *tables, counts, shape[1], labels.shape[-2], labels.shape[-1]):
        raise UnknownCode
    return counts


def _count_by_numpy(labels: Codes, predicted: Codes, level: int, shape: tuple[int, int, int]) -> Ints:
    counts = np.zeros(shape, np.int64)
    for start in range(0, len(labels), _BATCH):
        packed = label_table().take(labels[start : start + _BATCH])
        classes = class_of(level).take(predicted[start : start + _BATCH])
        if packed.max() == _NO_NODE or classes.max() == IGNORE_INDEX:
            raise UnknownCode
        key = edge_depth((packed >> 16).astype(np.uint16)).astype(np.uint16)
        key *= shape[1]
        key += packed.astype(np.uint8)
        key *= shape[2]
        key += classes
        counts += np.bincount(key.reshape(-1), minlength=counts.size).reshape(shape)
    return counts


def edge_depth(places: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """How coarse a label edge each pixel lies on: whether a 4-neighbour within the tile bears another label.

    Args:
        places: places of the labels in the tree (the high half of ``label_table``), uint16 ``(…, y, x)``. What is not
            known at a level counts as a class of its own: the border of unlabelled ground is an edge at level 1.

    Returns:
        uint8 of the same shape: 0 without another label beside, else 5 − the coarsest level at which one differs.
    """
    difference = np.zeros_like(places)
    # The highest bit in which two labels differ says the coarsest level, and a maximum keeps it.
    for one, other in (
        ((..., slice(1, None), slice(None)), (..., slice(-1), slice(None))),
        (np.s_[..., 1:], np.s_[..., :-1]),
    ):
        step = places[one] ^ places[other]
        for side in (one, other):
            np.maximum(difference[side], step, out=difference[side])
    return _depth_table().take(difference)


@cache
def label_table() -> npt.NDArray[np.uint32]:
    """Label code → its node in the low, its place in the tree in the high 16 bits, in one look-up.

    The node is a position in ``nodes()``; their number stands for nodata. All bits are set for unknown codes.
    """
    table = np.full(65536, _NO_NODE, np.uint32)
    places, _ = _places()
    packed = places.astype(np.uint32) << 16 | np.arange(len(places), dtype=np.uint32)
    table[list(nodes())] = packed[:-1]
    table[0] = packed[-1]
    return table


@cache
def _depth_table() -> npt.NDArray[np.uint8]:
    """Difference of two places → edge depth."""
    table: npt.NDArray[np.uint8] = np.searchsorted(_places()[1], np.arange(2048), side="right").astype(np.uint8)
    return table


@cache
def _places() -> tuple[npt.NDArray[np.uint16], tuple[int, ...]]:
    """Label node → place in the tree in 11 bits, coarse levels first, 0 if unknown; and each level's lowest bit."""
    shifts = {4: 0, 3: 2, 2: 5, 1: 8}
    table = np.zeros(len(nodes()) + 1, np.uint16)
    for node, code in enumerate(nodes()):
        for level in LEVELS[: legend().classes[code].level]:
            own = legend().ancestor(code, level)
            siblings = [c for c in legend().codes(level) if legend().classes[c].parent == legend().classes[own].parent]
            table[node] |= (siblings.index(own) + 1) << shifts[level]
    return table, tuple(1 << shifts[level] for level in reversed(LEVELS))
