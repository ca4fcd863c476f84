"""The lattice of a map: blocks and the windows that are predicted for them, fixed to the EPSG:3035 grid.

Rows are counted downwards from northing 0, columns eastwards from easting 0, in pixels of the map; both are global, so
that a block, its window and its pixels have the same index in every map of the same resolution.

- A *block* has ``BLOCK`` × ``BLOCK`` pixels. Block (i, j) begins at row ``i · BLOCK`` and column ``j · BLOCK``.
- The *window* of a block is what the model sees: the block, ``overlap`` more pixels below and to the right, and
  ``halo`` pixels on all four sides.

If the halo covers the reach of the model, predictions of a pixel from different windows are the same, and windows do
not overlap beyond their halos. Otherwise they differ, and are blended in the overlap by weights that change linearly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lulcbench.grid import Bounds

BLOCK = 480  # px: a whole number of pixels at 3, 10, 30 and 50 m in any combination, and of halvings to 15 px
MAX_HALO = 160  # px, by default: a larger halo costs more than ten windows for each block
_HALVINGS = 5  # of a block
OVERLAP = 32  # px, if the halo does not cover the reach

Index = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Lattice:
    """Blocks and windows of one resolution.

    Attributes:
        resolution: pixel size, m.
        halo: pixels around a block that are read, but whose predictions are not used.
        overlap: pixels in which the predictions of neighbouring windows are blended; 0 uses each window alone.

    Examples:
        >>> lattice = Lattice(30, halo=160, overlap=0)
        >>> lattice.window((-217, 300))  # left, bottom, right, top
        (4315200, 3105600, 4339200, 3129600)
        >>> lattice.side
        800
    """

    resolution: int
    halo: int
    overlap: int

    @classmethod
    def of(cls, resolution: int, reach: int | None, step: int, halo: int | None = None, margin: int = 0) -> Lattice:
        """The lattice for a model.

        Args:
            resolution: pixel size of its predictions, m.
            reach: of the model, in pixels; None if it is unbounded.
            step: halo and overlap are multiples of this number of pixels.
            halo: at least this many pixels; None takes the reach, at most ``MAX_HALO``.
            margin: pixels around a block whose predictions are used, too.
        """
        if halo is None:
            halo = MAX_HALO if reach is None else min(reach, MAX_HALO)
            halo += margin
        rounded = step * math.ceil(max(halo, margin) / step)
        covered = reach is not None and rounded >= reach + margin
        return cls(resolution, rounded, 0 if covered else step * math.ceil(OVERLAP / step))

    @property
    def side(self) -> int:
        """Side of a window in pixels."""
        return BLOCK + self.overlap + 2 * self.halo

    @property
    def size(self) -> int:
        """Side of a block in metres."""
        return BLOCK * self.resolution

    def block(self, index: Index) -> Bounds:
        """Bounds of a block: left, bottom, right, top in metres."""
        i, j = index
        return (j * self.size, -(i + 1) * self.size, (j + 1) * self.size, -i * self.size)

    def window(self, index: Index) -> Bounds:
        """Bounds of the window of a block in metres."""
        left, bottom, right, top = self.block(index)
        halo, overlap = self.halo * self.resolution, self.overlap * self.resolution
        return (left - halo, bottom - halo - overlap, right + halo + overlap, top + halo)

    def blocks(self, bounds: Bounds) -> Iterator[Index]:
        """Blocks that overlap an area, row by row from the north-west."""
        left, bottom, right, top = bounds
        for i in range(math.floor(-top / self.size), math.ceil(-bottom / self.size)):
            for j in range(math.floor(left / self.size), math.ceil(right / self.size)):
                yield i, j

    def weights(self) -> npt.NDArray[np.float32]:
        """Weights of the used part of a window: float32 ``(n, n)`` with n = ``BLOCK + overlap``.

        They rise linearly over the first ``overlap`` pixels and fall over the last ones. Shifted by whole blocks they
        add up to 1, up to rounding.
        """
        ramp = ((np.arange(self.overlap) + 0.5) / max(1, self.overlap)).astype(np.float32)
        line = np.ones(BLOCK + self.overlap, np.float32)
        line[: self.overlap] = ramp
        line[BLOCK:] = 1 - ramp
        return line[:, None] * line[None, :]


@dataclass(frozen=True, slots=True)
class Frame:
    """The array of a map: a rectangle of whole blocks, and its overviews.

    Attributes:
        lattice: of the map.
        first: block in the upper left corner.
        blocks: numbers of blocks, downwards and to the right.
        halvings: number of overviews, each with half the resolution of the one before. Pixels of overviews have global
            positions, too: row and column of the first pixel are multiples of 2 ** ``halvings``.
    """

    lattice: Lattice
    first: Index
    blocks: tuple[int, int]
    halvings: int

    @classmethod
    def over(cls, lattice: Lattice, bounds: Bounds) -> Frame:
        """The smallest frame over an area; its last overview is at most a block wide and high."""
        indices = list(lattice.blocks(bounds))
        low, high = (tuple(f(index[axis] for index in indices) for axis in (0, 1)) for f in (min, max))
        halvings = 0
        while True:
            step = 2 ** max(0, halvings - _HALVINGS)
            first = (low[0] // step * step, low[1] // step * step)
            blocks = tuple(step * -(-(high[axis] + 1 - first[axis]) // step) for axis in (0, 1))
            if max(blocks) <= 2**halvings:
                return cls(lattice, first, (blocks[0], blocks[1]), halvings)
            halvings += 1

    def shape(self, halving: int = 0) -> tuple[int, int]:
        """(height, width) in pixels of an overview."""
        return (self.blocks[0] * BLOCK >> halving, self.blocks[1] * BLOCK >> halving)

    @property
    def bounds(self) -> Bounds:
        """Bounds in metres."""
        left, _, _, top = self.lattice.block(self.first)
        _, bottom, right, _ = self.lattice.block(
            (self.first[0] + self.blocks[0] - 1, self.first[1] + self.blocks[1] - 1)
        )
        return (left, bottom, right, top)

    def place(self, index: Index) -> tuple[slice, slice]:
        """Rows and columns of a block in the array."""
        y, x = (BLOCK * (index[axis] - self.first[axis]) for axis in (0, 1))
        return slice(y, y + BLOCK), slice(x, x + BLOCK)
