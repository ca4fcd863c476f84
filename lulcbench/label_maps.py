"""Label maps ready to be counted: each pixel's node in the legend's tree, and how coarse a label edge it lies on."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from lulcbench.legend import LEVELS, legend
from lulcbench.metrics import nodes
from lulcbench.release import Release, label_shape
from lulcbench.shards import ShardReader

# Label maps up to this size are kept from one scoring to the next, as when two submissions are compared.
_KEPT_BYTES = 256 * 2**20
# Tiles whose label edges are found at once, so that the passes over them stay in the processor's second-level cache.
_EDGE_BATCH = 8
_UNKNOWN = 2**32 - 1  # in the look-up table: all bits, for codes that the legend lacks

Bytes = npt.NDArray[np.uint8]


class LabelMaps:
    """Label maps of a split, ready to be counted; those counted last are kept for the next predictions of the split.

    A label pixel is one number: edge depth (see ``edge_depth``) × (number of nodes + 1) + label node.
    """

    _kept: LabelMaps | None = None

    def __init__(self, digests: tuple[str, ...], reader: ShardReader, arrays: list[str], tiles: int) -> None:
        self._digests = digests
        self._reader = reader
        self._arrays = arrays
        shape = (tiles, len(arrays), *label_shape())
        self._maps = np.empty(shape, np.uint16) if 2 * math.prod(shape) <= _KEPT_BYTES else None
        self._ready = np.zeros(tiles, bool)

    @classmethod
    def of(cls, release: Release, reader: ShardReader, arrays: list[str], tiles: int) -> LabelMaps:
        """Maps of these arrays: those at hand if they were read from the very same bytes."""
        files = [f for f in release.files if f.split == reader.split and f.array in arrays]
        digests = tuple(f"{f.path} {f.sha256}" for f in files)
        kept = cls._kept
        if kept is None or kept._digests != digests:
            kept = cls._kept = cls(digests, reader, arrays, tiles)
        return kept

    def read(self, rows: range) -> npt.NDArray[np.uint16]:
        """Maps of some tiles, ``(n, year, 96, 96)``."""
        if self._maps is None:
            return self._prepare(rows)
        part = self._maps[rows.start : rows.stop]
        if not self._ready[rows.start : rows.stop].all():
            part[...] = self._prepare(rows)
            self._ready[rows.start : rows.stop] = True
        return part

    def _prepare(self, rows: range) -> npt.NDArray[np.uint16]:
        years = [self._reader.tiles(array, rows.start, rows.stop) for array in self._arrays]
        maps = np.empty((len(rows), len(years), *label_shape()), np.uint16)
        for i, codes in enumerate(years):
            for start in range(0, len(rows), _EDGE_BATCH):
                part = slice(start, start + _EDGE_BATCH)
                packed = label_table().take(codes[part])
                if packed.max() == _UNKNOWN:
                    where = f"{self._arrays[i]} of rows {rows.start} to {rows.stop - 1}"
                    legend().encode(codes, 1, where)  # raises, naming the code
                found, places = split_labels(packed)
                key = edge_depth(places).astype(np.uint16)
                key *= len(nodes()) + 1
                key += found.astype(np.uint16)
                maps[part, i] = key
        return maps


def forget_labels() -> None:
    """Give back the memory of the label maps that were counted last."""
    LabelMaps._kept = None


def edge_depth(places: npt.NDArray[np.uint16]) -> Bytes:
    """How coarse a label edge each pixel lies on: whether a 4-neighbour within the tile bears another label.

    Args:
        places: places of the labels in the tree (``split_labels``), uint16 ``(…, y, x)``; used up by the computation.
            What is not known at a level counts as a class of its own.

    Returns:
        uint8 of the same shape: 0 without another label beside, else 5 − the coarsest level at which one differs.
    """
    difference = np.zeros_like(places)
    # The highest bit in which two labels differ says the coarsest level, and a maximum keeps it.
    down = places[..., :-1, :] ^ places[..., 1:, :]
    np.maximum(difference[..., :-1, :], down, out=difference[..., :-1, :])
    np.maximum(difference[..., 1:, :], down, out=difference[..., 1:, :])
    # Along rows as one line, which is several times faster; pairs of two rows are taken out again.
    line, right = difference.reshape(-1), places.reshape(-1)
    right[:-1] ^= right[1:]
    right.reshape(places.shape)[..., -1] = 0
    np.maximum(line, right, out=line)
    np.maximum(line[1:], right[:-1], out=line[1:])
    depth = np.zeros(places.shape, np.uint8)
    for step in _places()[1]:
        depth += (difference >= step).view(np.uint8)
    return depth


@cache
def label_table() -> npt.NDArray[np.uint32]:
    """Label code → its node in the low, its place in the tree in the high 16 bits, in one look-up.

    The node is a position in ``nodes()``; their number stands for nodata. All bits are set for unknown codes.
    """
    table = np.full(65536, _UNKNOWN, np.uint32)
    places, _ = _places()
    packed = places.astype(np.uint32) << 16 | np.arange(len(places), dtype=np.uint32)
    table[list(nodes())] = packed[:-1]
    table[0] = packed[-1]
    return table


def split_labels(labels: npt.NDArray[np.uint32]) -> tuple[Bytes, npt.NDArray[np.uint16]]:
    """What ``label_table`` packs: nodes, and places in the tree, each of the same shape."""
    return labels.astype(np.uint8), (labels >> 16).astype(np.uint16)


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
