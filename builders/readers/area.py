"""A rectangle on the pixel grid of one resolution, the area that sources read at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from affine import Affine

from lulcbench.grid import TILE_SIZE, Bounds, Tile, pixels


@dataclass(frozen=True, slots=True)
class Area:
    """North-up pixels of ``resolution`` metres over ``bounds`` (EPSG:3035 metres)."""

    bounds: Bounds
    resolution: float

    @classmethod
    def of(cls, tiles: Sequence[Tile], resolution: float) -> Area:
        """The smallest area that contains all of ``tiles``."""
        lefts, bottoms, rights, tops = zip(*(tile.bounds for tile in tiles), strict=True)
        return cls((min(lefts), min(bottoms), max(rights), max(tops)), resolution)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        left, bottom, right, top = self.bounds
        return pixels(top - bottom, self.resolution), pixels(right - left, self.resolution)

    @property
    def transform(self) -> Affine:
        """Affine from (column, row) to EPSG:3035."""
        return Affine(self.resolution, 0, self.bounds[0], 0, -self.resolution, self.bounds[3])

    def clip(self, bounds: Bounds) -> tuple[Area, tuple[slice, slice]] | None:
        """The intersection with ``bounds`` in whole pixels, and its rows and columns; None if it is empty."""
        left, _, _, top = self.bounds
        height, width = self.shape
        step = self.resolution
        rows = slice(max(math.floor((top - bounds[3]) / step), 0), min(math.ceil((top - bounds[1]) / step), height))
        columns = slice(max(math.floor((bounds[0] - left) / step), 0), min(math.ceil((bounds[2] - left) / step), width))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        box = (left + columns.start * step, top - rows.stop * step, left + columns.stop * step, top - rows.start * step)
        return Area(box, step), (rows, columns)

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns of one tile of the area."""
        n = pixels(TILE_SIZE, self.resolution, "A tile")
        left, _, _, top = tile.bounds
        row = pixels(self.bounds[3] - top, self.resolution) if self.bounds[3] != top else 0
        column = pixels(left - self.bounds[0], self.resolution) if self.bounds[0] != left else 0
        return slice(row, row + n), slice(column, column + n)
