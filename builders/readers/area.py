"""A rectangle on the pixel grid of one resolution, the area that sources read at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from affine import Affine

from lulcbench.errors import LulcbenchError
from lulcbench.grid import TILE_SIZE, Bounds, Tile, pixels

CELL = 960  # px; smaller cells take more calls, larger ones read more than an isolated tile needs


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
        """The intersection with ``bounds`` in whole pixels, and its rows and columns; None if it is empty.

        ``bounds`` may be infinite.
        """
        left, _, _, top = self.bounds
        height, width = self.shape
        step = self.resolution
        first = [max(v, 0) for v in ((top - bounds[3]) / step, (bounds[0] - left) / step)]
        last = [min(v, n) for v, n in (((top - bounds[1]) / step, height), ((bounds[2] - left) / step, width))]
        if first[0] >= last[0] or first[1] >= last[1]:
            return None
        rows, columns = (slice(math.floor(a), math.ceil(b)) for a, b in zip(first, last, strict=True))
        box = (left + columns.start * step, top - rows.stop * step, left + columns.stop * step, top - rows.start * step)
        return Area(box, step), (rows, columns)

    def cells(self) -> Iterator[tuple[Area, tuple[slice, slice], tuple[slice, slice]]]:
        """The cells of a fixed lattice that overlap the area; each with its part of the area, and of itself.

        A cell is a square of whole tiles, up to ``CELL`` pixels wide. GDAL approximates coordinates over the extent
        that it warps: if that is always one cell, a pixel does not depend on the area that it was read with.

        Raises:
            LulcbenchError: the area is not on the pixel grid of its resolution.
        """
        side = max(1, CELL // pixels(TILE_SIZE, self.resolution, "A tile")) * TILE_SIZE
        left, bottom, right, top = self.bounds
        for y in range(math.floor(bottom / side), math.ceil(top / side)):
            for x in range(math.floor(left / side), math.ceil(right / side)):
                cell = Area((x * side, y * side, (x + 1) * side, (y + 1) * side), self.resolution)
                yield cell, self._overlap(cell), cell._overlap(self)

    def _overlap(self, other: Area) -> tuple[slice, slice]:
        """Rows and columns that another area on the same pixel grid takes of this one."""
        height, width = self.shape
        row, column = (
            (self.bounds[3] - other.bounds[3]) / self.resolution,
            (other.bounds[0] - self.bounds[0]) / self.resolution,
        )
        if abs(row - round(row)) > 1e-6 or abs(column - round(column)) > 1e-6:
            raise LulcbenchError(
                f"The area {self.bounds} is not on the grid of {self.resolution:g} m pixels.",
                "Use bounds that are multiples of the pixel size.",
            )
        rows = slice(max(round(row), 0), min(round(row) + other.shape[0], height))
        return rows, slice(max(round(column), 0), min(round(column) + other.shape[1], width))

    def grown(self, margin: int) -> Area:
        """The area with ``margin`` more pixels on each side."""
        left, bottom, right, top = self.bounds
        m = margin * self.resolution
        return Area((left - m, bottom - m, right + m, top + m), self.resolution)

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns of one tile of the area."""
        n = pixels(TILE_SIZE, self.resolution, "A tile")
        left, _, _, top = tile.bounds
        row = pixels(self.bounds[3] - top, self.resolution) if self.bounds[3] != top else 0
        column = pixels(left - self.bounds[0], self.resolution) if self.bounds[0] != left else 0
        return slice(row, row + n), slice(column, column + n)
