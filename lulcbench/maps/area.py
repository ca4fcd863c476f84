"""Areas of maps: polygons of a vector file, or regions of a release. A pixel is inside if its centre is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lulcbench._coordinates import lacks_map_crs
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.grid import CRS, Bounds, Tile
from lulcbench.maps.lattice import BLOCK, Index, Lattice
from lulcbench.release import Release

if TYPE_CHECKING:
    import geopandas
    from shapely.geometry.base import BaseGeometry

CODES = "NUTS_ID"  # column of the boundaries of NUTS regions that Eurostat publishes
_STEP = 1000.0  # m between the points of an edge before it is projected: it then deviates by less than 0.1 m


@dataclass(frozen=True, slots=True)
class Area:
    """An area on the ground.

    Attributes:
        name: of the area, for metadata.
        geometry: polygons in EPSG:3035 metres.

    Examples:
        >>> from shapely import Point
        >>> area = Area("around a station", Point(4_345_000, 3_130_000).buffer(1000))
        >>> area.bounds
        (4344000.0, 3129000.0, 4346000.0, 3131000.0)
        >>> float(area.inside(Lattice(10, halo=0, overlap=0), (-653, 905)).mean().round(3))  # pixels of a block
        0.102
    """

    name: str
    geometry: BaseGeometry

    @classmethod
    def read(cls, path: str | os.PathLike[str], codes: Sequence[str] = (), column: str = CODES) -> Area:
        """Read polygons of a vector file, such as GeoJSON, GeoPackage or GeoParquet.

        Edges are straight in the coordinates of the file, as GeoJSON defines it.

        Args:
            path: the file.
            codes: values of ``column``, such as the NUTS codes DE501 and DE502; none takes all polygons.
            column: with the codes.

        Raises:
            LulcbenchError: the file cannot be read, has no CRS or no polygon, or lacks the column or a code.
        """
        frame = _read(Path(path))
        if codes:
            if column not in frame:
                raise LulcbenchError(
                    f"{path} has no column {column}.", f"Its columns are {', '.join(map(str, frame.columns))[:200]}."
                )
            known = frame[column].astype(str)
            for code in codes:
                if code not in set(known):
                    near = sorted(own for own in set(known) if own[:2] == code[:2]) or sorted(set(known))
                    raise LulcbenchError(f"{path} has no {column} {code}.", f"It has {', '.join(near)[:200]}.")
            frame = frame[known.isin(codes)]
        frame = frame[frame.geometry.notna() & frame.geom_type.isin(["Polygon", "MultiPolygon"])]
        if frame.empty:
            raise LulcbenchError(f"{path} has no polygon.", "Give a vector file of polygons.")
        geometry = _projected(frame)
        return cls(", ".join(codes) or Path(path).stem, geometry)

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

    def touches(self, bounds: Bounds) -> bool:
        """Whether some of the area is in a rectangle."""
        import shapely

        shapely.prepare(self.geometry)
        return bool(self.geometry.intersects(shapely.box(*bounds)))

    def inside(self, lattice: Lattice, index: Index) -> npt.NDArray[np.uint8]:
        """1 for the pixels of a block whose centre is inside: uint8 ``(y, x)``."""
        import shapely
        from affine import Affine
        from rasterio.features import geometry_mask

        box, r = shapely.box(*lattice.block(index)), lattice.resolution
        shapely.prepare(self.geometry)
        if self.geometry.contains(box):
            return np.ones((BLOCK, BLOCK), np.uint8)
        if not self.geometry.intersects(box):
            return np.zeros((BLOCK, BLOCK), np.uint8)
        left, bottom, right, top = lattice.block(index)
        near = shapely.clip_by_rect(self.geometry, left - r, bottom - r, right + r, top + r)  # may be a large country
        outside: npt.NDArray[Any] = geometry_mask([near], (BLOCK, BLOCK), Affine(r, 0, left, 0, -r, top))
        return (~outside).astype(np.uint8)


def _read(path: Path) -> geopandas.GeoDataFrame:
    """The features of a vector file, with a CRS."""
    import geopandas

    try:
        frame = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    except Exception as error:  # pyogrio and pyarrow raise several unrelated types of errors
        raise LulcbenchError(f"Cannot read the area {path}: {error}.", "Give a vector file of polygons.") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise LulcbenchError(f"{path} has no polygon.", "Give a vector file of polygons.")
    if lacking := lacks_map_crs(frame.crs):
        raise LulcbenchError(f"{path} has {lacking}.", "Assign one, for instance with ogr2ogr -a_srs.")
    return frame


def _projected(frame: geopandas.GeoDataFrame) -> BaseGeometry:
    """The union of polygons in EPSG:3035; edges in other coordinates get more points, so that they stay in place."""
    import shapely

    parts = shapely.make_valid(frame.geometry.to_numpy())
    if frame.crs != CRS:
        unit = _STEP / 111_000 if frame.crs.is_geographic else _STEP / frame.crs.axis_info[0].unit_conversion_factor
        densified = frame.set_geometry(shapely.segmentize(parts, unit), crs=frame.crs).to_crs(CRS)
        parts = shapely.make_valid(densified.geometry.to_numpy())
    return shapely.union_all([part for part in shapely.get_parts(parts) if part.area > 0])
