"""Areas on the ground: polygons of a vector file, or regions of a release; what a recipe builds, and what is mapped."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.grid import CRS, TILE_SIZE, Bounds, Tile, pixels
from lulcbench.release import Release
from lulcbench.vectors import FAR, read_layer, texts, to_ground

if TYPE_CHECKING:
    import geopandas
    from shapely.geometry.base import BaseGeometry

CODES = "NUTS_ID"  # column of the boundaries of NUTS regions that Eurostat publishes
_EDGE = 1.0  # m from the edge of a tile, where no pixel of 3 m or more has its centre
_GRID = 10_000 * TILE_SIZE  # m; tiles have indices of four digits


@dataclass(frozen=True, slots=True)
class Area:
    """An area on the ground.

    Attributes:
        name: of the area, for metadata.
        geometry: polygons in EPSG:3035 metres.
        file: name of the file that it was read from.
        sha256: of that file.

    Examples:
        >>> from shapely import Point
        >>> area = Area("around a station", Point(4_345_000, 3_130_000).buffer(1000))
        >>> area.bounds
        (4344000.0, 3129000.0, 4346000.0, 3131000.0)
        >>> [tile.id for tile in area.tiles()]
        ['E0905N0651', 'E0905N0652']
        >>> float(area.mask((4344000, 3129000, 4346000, 3131000), 10).mean().round(3))  # 200 × 200 pixels
        0.784
    """

    name: str
    geometry: BaseGeometry
    file: str | None = None
    sha256: str | None = None

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], codes: Sequence[str] = (), column: str = CODES, layer: str | None = None
    ) -> Area:
        """Read polygons of a vector file, such as GeoJSON, GeoPackage, a shapefile or GeoParquet.

        Edges are straight in the coordinates of the file, as GeoJSON defines it. Polygons may touch and overlap each
        other; points and lines among them are not used.

        Args:
            path: the file.
            codes: values of ``column``, such as the NUTS codes DE501 and DE502; none takes all polygons.
            column: with the codes.
            layer: of a file with several; not needed where one layer alone has polygons, or the column.

        Raises:
            LulcbenchError: the file cannot be read, has several layers, no CRS, no polygon with an area, or coordinates
                that are not of its CRS; it lacks the column or a code, or has several features of a code; a polygon
                crosses itself.
        """
        import shapely

        path = Path(path)
        frame = read_layer(path, column if codes else None, layer)
        wanted = list(dict.fromkeys(normalize("NFC", str(code)) for code in codes))
        if wanted:
            frame = _of_codes(frame, wanted, column, path)
        ground = to_ground(frame, path, repair=False)
        if ground.cut or FAR in ground.left_out:
            raise LulcbenchError(f"{path} has places that {CRS} cannot show.", "Give an area in or near Europe.")
        geometry = shapely.union_all(shapely.get_parts(ground.shapes))
        return cls(", ".join(wanted) or path.stem, geometry, path.name, hash_file(path))

    @classmethod
    def of_regions(cls, release: Release, names: Sequence[str]) -> Area:
        """All tiles of some regions of a release.

        Raises:
            NotAvailableError: the release has no such region.
        """
        import shapely

        index = release.index()
        known = sorted(set(index["region"]))
        for name in names:
            if name not in known:
                raise NotAvailableError(
                    f"{name!r} is neither a file nor a region of {release.id}.", f"Its regions are {', '.join(known)}."
                )
        own = index[index["region"].isin(names)]
        tiles = [Tile(int(ix), int(iy)).bounds for ix, iy in zip(own["ix"], own["iy"], strict=True)]
        return cls(", ".join(names), shapely.union_all([shapely.box(*bounds) for bounds in tiles]))

    @property
    def bounds(self) -> Bounds:
        """Bounds in EPSG:3035 metres."""
        left, bottom, right, top = self.geometry.bounds
        return (left, bottom, right, top)

    @property
    def digest(self) -> str:
        """SHA-256 of the coordinates."""
        return hashlib.sha256(self.geometry.wkb).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """Name, digest of the coordinates, and the file with its digest, for metadata."""
        file = {"file": {"name": self.file, "sha256": self.sha256}} if self.file else {}
        return {"name": self.name, "sha256": self.digest, **file}

    def touches(self, bounds: Bounds) -> bool:
        """Whether some of the area is in a rectangle; a common edge is not enough."""
        return bool(self._overlaps(np.array([bounds], np.float64))[0])

    def tiles(self, margin: float = 0, bounds: Bounds | None = None) -> list[Tile]:
        """Tiles that hold some of the area, row by row from the south-west.

        Strips less than a metre wide at the edge of a tile do not count: they are often due to rounding.

        Args:
            margin: also tiles that are nearer to the area than this, m, along either axis.
            bounds: only tiles that touch this rectangle; EPSG:3035 metres.

        Raises:
            LulcbenchError: some of the area, within ``bounds``, is outside the tile grid.
        """
        left, bottom, right, top = self.bounds
        extent: Bounds = (left - margin, bottom - margin, right + margin, top + margin)
        if bounds is not None:
            west, south, east, north = bounds
            extent = (max(extent[0], west), max(extent[1], south), min(extent[2], east), min(extent[3], north))
            if extent[0] >= extent[2] or extent[1] >= extent[3]:
                return []
        if min(extent) < 0 or max(extent) > _GRID:
            raise LulcbenchError(
                f"The area {self.name} extends beyond the tile grid: {tuple(round(end) for end in extent)} (left, "
                f"bottom, right, top in EPSG:3035 metres); the grid begins at 0 and ends at {_GRID}.",
                "Leave out its parts that are far from Europe, such as overseas regions, or add bounds.",
            )
        rows, columns = (
            np.arange(math.floor(extent[axis] / TILE_SIZE), math.ceil(extent[axis + 2] / TILE_SIZE)) for axis in (1, 0)
        )
        iy, ix = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
        corners = np.stack([ix, iy, ix + 1, iy + 1], axis=1) * float(TILE_SIZE)
        reach = margin - _EDGE
        found = self._overlaps(corners + np.array([-reach, -reach, reach, reach]))
        return [Tile(int(x), int(y)) for x, y in zip(ix[found], iy[found], strict=True)]

    def mask(self, bounds: Bounds, resolution: float) -> npt.NDArray[np.uint8]:
        """1 for the pixels of a rectangle whose centre is inside: uint8 ``(y, x)``.

        Args:
            bounds: of whole pixels.
            resolution: pixel size, m.
        """
        import shapely
        from affine import Affine
        from rasterio.features import geometry_mask

        left, bottom, right, top = bounds
        shape = (pixels(top - bottom, resolution), pixels(right - left, resolution))
        box, r = shapely.box(*bounds), resolution
        shapely.prepare(self.geometry)
        if self.geometry.contains(box):
            return np.ones(shape, np.uint8)
        if not self.geometry.intersects(box):
            return np.zeros(shape, np.uint8)
        near = shapely.clip_by_rect(self.geometry, left - r, bottom - r, right + r, top + r)  # may be a large country
        if near.is_empty:
            return np.zeros(shape, np.uint8)
        outside: npt.NDArray[Any] = geometry_mask([near], shape, Affine(r, 0, left, 0, -r, top))
        return (~outside).astype(np.uint8)

    def _overlaps(self, bounds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether some of the area is in each of several rectangles ``(n, 4)``."""
        import shapely

        boxes = shapely.box(*bounds.T)
        shapely.prepare(self.geometry)
        found: npt.NDArray[np.bool_] = shapely.intersects(self.geometry, boxes)
        found[found] = ~shapely.touches(self.geometry, boxes[found])
        return found


def _of_codes(frame: geopandas.GeoDataFrame, codes: Sequence[str], column: str, path: Path) -> geopandas.GeoDataFrame:
    """The features of some codes, one each."""
    known = texts(frame[column])
    for code in codes:
        n = int((known == code).sum())
        if not n:
            raise LulcbenchError(
                f"{path} has no {column} {code}.", f"It has {_near(code, sorted(set(known.dropna())))}."
            )
        if n > 1:
            raise LulcbenchError(
                f"{path} has {n} features of {column} {code}.",
                "They may be editions of one region, or different regions: keep one of them, name a column with "
                "unique values, or dissolve them.",
            )
        if not frame[known == code].geom_type.isin(["Polygon", "MultiPolygon", "GeometryCollection"]).all():
            raise LulcbenchError(f"{path}: {column} {code} is not a polygon.", "Give polygons.")
    return frame[known.isin(codes)]


def _near(code: str, known: Sequence[str]) -> str:
    """Codes like one that is not known, or the first ones."""
    like = get_close_matches(code.lower(), [own.lower() for own in known], n=8, cutoff=0.5)
    shown = [own for own in known if own.lower() in like] or known[:8]
    more = len(known) - len(shown)
    return f"{', '.join(shown) or 'none'}{f' and {more} more' if more else ''}"
