"""The tile grid: cells of 4,800 m in EPSG:3035, anchored at (0, 0).

The georeference of a tile follows from its column and row in the grid, never from a file. 4,800 m is a whole number of
pixels at all resolutions in use (3, 10, 30 and 50 m).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine

from lulcbench.errors import LulcbenchError

CRS = "EPSG:3035"
# ETRS89-extended / LAEA Europe as WKT2:2015. A fixed text, because that of PROJ depends on its version.
CRS_WKT = (
    'PROJCRS["ETRS89-extended / LAEA Europe",BASEGEODCRS["ETRS89",DATUM["European Terrestrial Reference System 1989",'
    'ELLIPSOID["GRS 1980",6378137,298.257222101]],UNIT["degree",0.0174532925199433]],'
    'CONVERSION["Europe Equal Area 2001",METHOD["Lambert Azimuthal Equal Area"],'
    'PARAMETER["Latitude of natural origin",52],PARAMETER["Longitude of natural origin",10],'
    'PARAMETER["False easting",4321000],PARAMETER["False northing",3210000]],CS[Cartesian,2],'
    'AXIS["northing (Y)",north],AXIS["easting (X)",east],UNIT["metre",1],ID["EPSG",3035]]'
)
TILE_SIZE = 4800
LABEL_RESOLUTION = 50
BLOCK_TILES = 10  # default side of the spatial blocks of splits and confidence intervals: 48 km

_ID = re.compile(r"E(\d{4})N(\d{4})")

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """One cell of the grid.

    Attributes:
        ix: column, counted eastwards; the tile spans x = [ix, ix + 1) · 4,800 m.
        iy: row, counted northwards; the tile spans y = [iy, iy + 1) · 4,800 m.

    Examples:
        >>> tile = Tile.from_id("E0905N0652")
        >>> tile.bounds
        (4344000, 3129600, 4348800, 3134400)
        >>> tile.shape(10), tile.block()
        ((480, 480), 'B090-065')
        >>> tile.transform(30).c, tile.transform(30).f  # the upper left corner
        (4344000.0, 3134400.0)
    """

    ix: int
    iy: int

    def __post_init__(self) -> None:
        if not (0 <= self.ix <= 9999 and 0 <= self.iy <= 9999):
            raise LulcbenchError(f"Tile index ({self.ix}, {self.iy}) is outside the grid.", "Use 0 to 9999.")

    @classmethod
    def from_id(cls, tile_id: str) -> Tile:
        """The tile with an id such as ``E0897N0695``.

        Raises:
            LulcbenchError: the text is not a tile id.
        """
        match = _ID.fullmatch(tile_id)
        if not match:
            raise LulcbenchError(f"{tile_id!r} is not a tile id.", "Tile ids look like E0897N0695.")
        return cls(int(match[1]), int(match[2]))

    @property
    def id(self) -> str:
        """``E<ix>N<iy>``, four digits each."""
        return f"E{self.ix:04d}N{self.iy:04d}"

    @property
    def bounds(self) -> Bounds:
        """(left, bottom, right, top) in EPSG:3035 metres."""
        left, bottom = self.ix * TILE_SIZE, self.iy * TILE_SIZE
        return (left, bottom, left + TILE_SIZE, bottom + TILE_SIZE)

    def block(self, tiles: int = BLOCK_TILES) -> str:
        """Id of the spatial block of ``tiles`` × ``tiles`` tiles that contains this tile, such as ``B089-069``."""
        return f"B{self.ix // tiles:03d}-{self.iy // tiles:03d}"

    def shape(self, resolution: float) -> tuple[int, int]:
        """(height, width) in pixels at a resolution in metres: 480 at 10 m, 160 at 30 m, 1,600 at 3 m, 96 at 50 m."""
        n = pixels(TILE_SIZE, resolution, "A tile")
        return (n, n)

    def transform(self, resolution: float) -> Affine:
        """Affine transform from pixels of the tile to EPSG:3035, north up, at a resolution in metres."""
        self.shape(resolution)
        left, _, _, top = self.bounds
        return Affine(resolution, 0, left, 0, -resolution, top)


def pixels(length: float, resolution: float, what: str = "A length") -> int:
    """Convert a length in metres to a whole number of pixels.

    Raises:
        LulcbenchError: the length is not a whole number of pixels; states the nearest ones that are.

    >>> pixels(1200, 30)
    40
    """
    n = round(length / resolution)
    if n <= 0 or not math.isclose(n * resolution, length, abs_tol=1e-6):
        low = max(1, math.floor(length / resolution)) * resolution
        raise LulcbenchError(
            f"{what} of {length:g} m is not a whole number of {resolution:g} m pixels.",
            f"Use a multiple of {resolution:g} m, such as {low:g} or {low + resolution:g}.",
        )
    return n


def tiles_over(bounds: Bounds, whole: bool = False) -> list[Tile]:
    """Tiles that touch ``bounds`` (left, bottom, right, top; EPSG:3035 metres), row by row from the south-west.

    Args:
        bounds: the area.
        whole: only tiles that are entirely inside.

    Raises:
        LulcbenchError: the bounds are empty.

    >>> [tile.id for tile in tiles_over((4344000, 3129600, 4351000, 3134400))]
    ['E0905N0652', 'E0906N0652']
    """
    left, bottom, right, top = (v / TILE_SIZE for v in bounds)
    if not (left < right and bottom < top):
        raise LulcbenchError(f"Bounds {bounds} are empty.", "Give left, bottom, right, top in EPSG:3035 metres.")
    low, high = (math.ceil, math.floor) if whole else (math.floor, math.ceil)
    return [Tile(ix, iy) for iy in range(low(bottom), high(top)) for ix in range(low(left), high(right))]


def area_weights(n: int, size: int) -> npt.NDArray[np.float64]:
    """Weights for resampling ``n`` pixels along an axis to ``size`` pixels of the same extent, by overlap.

    Returns:
        float64 ``(size, n)``; rows sum to 1. ``weights_y @ image @ weights_x.T`` resamples an image.

    >>> area_weights(3, 2).round(2)
    array([[0.67, 0.33, 0.  ],
           [0.  , 0.33, 0.67]])
    """
    edges_out, edges_in = np.arange(size + 1) / size, np.arange(n + 1) / n
    low = np.maximum(edges_out[:-1, None], edges_in[None, :-1])
    high = np.minimum(edges_out[1:, None], edges_in[None, 1:])
    weights: npt.NDArray[np.float64] = np.clip(high - low, 0, None) * size
    return weights
