"""Overviews of a map: arrays of half the resolution, each made from the one before.

- A class is the most frequent one of its four children, pixels without data left out. Of equally frequent classes, the
  child that comes first in reading order decides (upper left, upper right, lower left, lower right): unlike the lowest
  code, this favours no class.
- Other values are the mean of the children with data, rounded to the nearest step, halves up.

A pixel without data has no child with data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.maps.lattice import BLOCK, Index
from lulcbench.maps.store import Pyramid

Stored = npt.NDArray[Any]


def write_overviews(pyramid: Pyramid, blocks: Iterable[Index]) -> None:
    """Write all overviews of a complete map, part by part.

    Args:
        pyramid: the arrays, whose full resolution is complete.
        blocks: the blocks that may have data.
    """
    first = pyramid.frame.first
    at = {(i - first[0], j - first[1]) for i, j in blocks}
    for halving in range(1, pyramid.frame.halvings + 1):
        at = {(i >> 1, j >> 1) for i, j in at}
        height, width = pyramid.frame.shape(halving)
        sources = {layer.name: pyramid.array(layer.name, halving - 1) for layer in pyramid.layers}
        targets = {layer.name: pyramid.array(layer.name, halving) for layer in pyramid.layers}
        for i, j in sorted(at):
            rows = slice(i * BLOCK, min((i + 1) * BLOCK, height))
            columns = slice(j * BLOCK, min((j + 1) * BLOCK, width))
            fine = (slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop))
            valid = np.asarray(sources[pyramid.scheme.layers[0]][fine]) != 0
            for layer in pyramid.layers:
                values = np.asarray(sources[layer.name][(..., *fine)])
                coarse = mode(values) if layer.overview == "mode" else average(values, valid, layer.fill)
                targets[layer.name][(..., rows, columns)] = coarse


def mode(codes: Stored) -> Stored:
    """Most frequent of the four children of each pixel: ``(2·h, 2·w)`` codes, 0 for no data, to ``(h, w)``.

    >>> mode(np.array([[7, 0, 1, 2], [0, 7, 2, 1]], np.uint16))
    array([[7, 1]], dtype=uint16)
    """
    return most_frequent(_children(codes))


def most_frequent(candidates: Stored) -> Stored:
    """Most frequent value along the first axis, 0 left out: ``(n, …)`` to ``(…)``. Ties: the first."""
    counts = (candidates[:, None] == candidates[None]).sum(axis=1, dtype=np.uint8)
    counts[candidates == 0] = 0
    result: Stored = np.take_along_axis(candidates, counts.argmax(axis=0)[None], axis=0)[0]
    return result


def average(values: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], fill: int) -> npt.NDArray[np.uint8]:
    """Mean of the children with data: uint8 ``(…, 2·h, 2·w)`` and a mask ``(2·h, 2·w)`` to ``(…, h, w)``.

    >>> average(np.array([[4, 9], [5, 200]], np.uint8), np.array([[True, True], [True, False]]), 255)
    array([[6]], dtype=uint8)
    """
    number = _quadruples(np.ascontiguousarray(valid, np.uint8))
    total = _quadruples(np.ascontiguousarray(values * valid))
    if (number == 4).all():
        return ((total + np.uint16(2)) // np.uint16(4)).astype(np.uint8)
    mean = (np.uint16(2) * total + number) // np.maximum(np.uint16(2) * number, np.uint16(1))
    return np.where(number > 0, mean, fill).astype(np.uint8)


def _quadruples(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Sums of the four children of each pixel: ``(…, 2·h, 2·w)`` to ``(…, h, w)``."""
    pairs = values.view(np.uint16)  # two neighbours each, in either byte order
    rows = (pairs & np.uint16(255)) + (pairs >> np.uint16(8))
    sums: npt.NDArray[np.uint16] = rows[..., ::2, :] + rows[..., 1::2, :]
    return sums


def _children(values: Stored) -> Stored:
    """The four children of each pixel in reading order: ``(4, …, h, w)``."""
    return np.stack([values[..., i::2, j::2] for i in (0, 1) for j in (0, 1)])
