"""Counting pixels: how often each label met each predicted class, by how coarse a label edge the pixel lies on.

``_pixels.c`` does it in one pass; where it was not compiled (no C compiler at installation), numpy does it in many,
several times slower.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lulcbench._native import compiled
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.legend.tables import (
    EDGE_DEPTHS,
    UNKNOWN_NODE,
    class_lookup,
    edge_depth_lookup,
    node_lookup,
    nodes,
)

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
        int64 ``(5, 106, C)``: pixels by depth of the label edge (see ``edge_depth``), label node (``tables.nodes``)
        and predicted class; those without a label are left out.

    Raises:
        UnknownCode: there is a code that is neither.
        ValueError: maps are not uint16 or not of one shape.
    """
    if labels.dtype != np.uint16 or predicted.dtype != np.uint16 or labels.shape != predicted.shape:
        raise ValueError(f"maps are {labels.dtype} {labels.shape} and {predicted.dtype} {predicted.shape}, not uint16")
    shape = (EDGE_DEPTHS, len(nodes()) + 1, len(legend().codes(level)))
    count = _count_by_numpy if compiled is None else _count_compiled
    height, width = labels.shape[-2:]
    counts = count(labels.reshape(-1, height, width), predicted.reshape(-1, height, width), level, shape)
    return counts[:, :-1]


def _count_compiled(labels: Codes, predicted: Codes, level: int, shape: tuple[int, int, int]) -> Ints:
    counts = np.zeros(shape, np.int64)
    maps, guesses = np.ascontiguousarray(labels, np.uint16), np.ascontiguousarray(predicted, np.uint16)
    tables = node_lookup(), class_lookup(level), edge_depth_lookup()
    if compiled.count(maps, guesses, *tables, counts, shape[1], labels.shape[-2], labels.shape[-1]):
        raise UnknownCode
    return counts


def _count_by_numpy(labels: Codes, predicted: Codes, level: int, shape: tuple[int, int, int]) -> Ints:
    counts = np.zeros(shape, np.int64)
    for start in range(0, len(labels), _BATCH):
        packed = node_lookup().take(labels[start : start + _BATCH])
        classes = class_lookup(level).take(predicted[start : start + _BATCH])
        if packed.max() == UNKNOWN_NODE or classes.max() == IGNORE_INDEX:
            raise UnknownCode
        key = edge_depth((packed >> 16).astype(np.uint16)).astype(np.uint16)
        key *= shape[1]
        key += packed.astype(np.uint8)
        key *= shape[2]
        key += classes
        counts += np.bincount(key.reshape(-1), minlength=counts.size).reshape(shape)
    return counts


def edge_depth(paths: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Coarsest legend level at which each pixel's label differs from that of a 4-neighbour within the tile.

    Args:
        paths: paths of the labels in the tree (the high half of ``node_lookup``), uint16 ``(…, y, x)``. What is not
            known at a level counts as a class of its own: the border of unlabelled ground is an edge at level 1.

    Returns:
        uint8 of the same shape: 0 without another label beside, else 5 − the coarsest level at which one differs.
    """
    difference = np.zeros_like(paths)
    # The highest bit in which two labels differ tells the coarsest level, and a maximum keeps it.
    for first, second in (
        ((..., slice(1, None), slice(None)), (..., slice(-1), slice(None))),
        (np.s_[..., 1:], np.s_[..., :-1]),
    ):
        step = paths[first] ^ paths[second]
        for side in (first, second):
            np.maximum(difference[side], step, out=difference[side])
    return edge_depth_lookup().take(difference)
