"""Pixel counts by label, predicted class and level of the label edge.

``_pixels.c`` counts in one pass; without a C compiler at installation, NumPy counts in several passes, which
is slower.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lulcbench._native import compiled
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.legend.tables import (
    EDGE_DEPTHS,
    UNKNOWN_NODE,
    agreement_lookup,
    class_lookup,
    edge_depth_lookup,
    node_lookup,
    nodes,
)

_AGREEMENTS = len(LEVELS) + 1  # numbers of levels at which a label and a prediction can agree: 0 to 4
_BATCH = 8  # maps per NumPy call, so that its arrays fit into the second-level cache

Codes = npt.NDArray[np.uint16]
Ints = npt.NDArray[np.int64]


class UnknownCode(ValueError):
    """A label is not in the legend, or a predicted code is not a code of the level."""


class PixelCounts(NamedTuple):
    """Counts over maps ``(…, y, x)``.

    Attributes:
        pixels: int64 ``(5, 106, C)``: labelled pixels by depth of the label edge (see ``edge_depth``), label node
            (``tables.nodes``) and predicted class.
        evaluated: int64 ``(…, L)``: pixels of each map labelled at levels 1 to L, that of the predictions.
        correct: int64 ``(…, L)``: of these, pixels with the correct class at that level.
    """

    pixels: Ints
    evaluated: Ints
    correct: Ints


def count_pixels(labels: Codes, predicted: Codes, level: int) -> PixelCounts:
    """Count the pixels of maps.

    Args:
        labels: codes of any level, 0 for nodata, uint16 ``(…, y, x)``.
        predicted: codes of ``level``, uint16 of the same shape.
        level: level of the predictions, 1 to 4.

    Raises:
        UnknownCode: there is another code.
        ValueError: maps are not uint16, or differ in shape.
    """
    if labels.dtype != np.uint16 or predicted.dtype != np.uint16 or labels.shape != predicted.shape:
        raise ValueError(f"maps are {labels.dtype} {labels.shape} and {predicted.dtype} {predicted.shape}, not uint16")
    *outer, height, width = labels.shape
    maps, guesses = (np.ascontiguousarray(values.reshape(-1, height, width)) for values in (labels, predicted))
    counts = np.zeros((EDGE_DEPTHS, len(nodes()) + 1, len(legend().codes(level))), np.int64)
    tallies = np.zeros((len(maps), _AGREEMENTS, _AGREEMENTS), np.int64)
    (_count_by_numpy if compiled is None else _count_compiled)(maps, guesses, level, counts, tallies)
    # Agreement at a level implies agreement at all coarser ones, so the number of levels determines which agree.
    evaluated, correct = (_at_least(tallies.sum(axis=axis))[:, :level].reshape(*outer, level) for axis in (2, 1))
    return PixelCounts(counts[:, :-1], evaluated, correct)


def _at_least(tallies: Ints) -> Ints:
    """Convert pixels with 0 to 4 levels ``(n, 5)`` to pixels with at least 1, 2, 3 and 4 levels ``(n, 4)``."""
    return tallies[:, ::-1].cumsum(axis=1)[:, -2::-1]


def _count_compiled(labels: Codes, predicted: Codes, level: int, counts: Ints, tallies: Ints) -> None:
    tables = node_lookup(), class_lookup(level), edge_depth_lookup(), agreement_lookup(level)
    height, width = labels.shape[-2:]
    if compiled.count_maps(labels, predicted, *tables, counts, tallies, counts.shape[1], height, width):
        raise UnknownCode


def _count_by_numpy(labels: Codes, predicted: Codes, level: int, counts: Ints, tallies: Ints) -> None:
    _, nodes_and_none, classes = counts.shape
    for start in range(0, len(labels), _BATCH):
        batch = slice(start, start + _BATCH)
        packed = node_lookup().take(labels[batch])
        guesses = class_lookup(level).take(predicted[batch])
        if packed.max() == UNKNOWN_NODE or guesses.max() == IGNORE_INDEX:
            raise UnknownCode
        pair = packed.astype(np.uint8).astype(np.uint16)
        pair *= classes
        pair += guesses
        key = edge_depth((packed >> 16).astype(np.uint16)).astype(np.uint16)
        key *= nodes_and_none * classes
        key += pair
        counts += np.bincount(key.reshape(-1), minlength=counts.size).reshape(counts.shape)
        levels = agreement_lookup(level).reshape(-1).take(pair).astype(np.uint16)
        levels += (np.arange(len(levels), dtype=np.uint16) * _AGREEMENTS**2)[:, None, None]
        tallies[batch] = np.bincount(levels.reshape(-1), minlength=tallies[batch].size).reshape(tallies[batch].shape)


def edge_depth(paths: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Coarsest legend level at which the label of a pixel differs from that of a 4-neighbour within the tile.

    Args:
        paths: paths of the labels in the tree (the high half of ``node_lookup``), uint16 ``(…, y, x)``. Pixels ignored
            at a level count as a separate class there, so unlabelled pixels have an edge at level 1.

    Returns:
        uint8 of the same shape: 0 if all neighbours have the same label, else 5 − the coarsest level that differs.
    """
    difference = np.zeros_like(paths)
    # The highest bit in which two paths differ determines the coarsest level, and a maximum preserves it.
    for first, second in (
        ((..., slice(1, None), slice(None)), (..., slice(-1), slice(None))),
        (np.s_[..., 1:], np.s_[..., :-1]),
    ):
        step = paths[first] ^ paths[second]
        for side in (first, second):
            np.maximum(difference[side], step, out=difference[side])
    return edge_depth_lookup().take(difference)
