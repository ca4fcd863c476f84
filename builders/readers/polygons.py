"""Label polygons: a vector layer with a crosswalk to LUISA."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import shapely
from rasterio.features import rasterize

from builders.readers.area import Area
from builders.readers.labels import Codes, label_box, on_grid, unknown_codes
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds

FINE = 10  # m; polygons are rasterized at this pixel size, of which the majority is taken


@dataclass(frozen=True)
class VectorLabels:
    """A polygon layer with codes in one column; other attributes as in ``RasterLabels``."""

    path: Path
    codes: dict[int, int] = field(hash=False)
    legend: str
    layer: str | None
    column: str | None

    def bounds(self) -> Bounds:
        """See ``LabelSource.bounds``."""
        return label_box(self._polygons().total_bounds)

    def read(self, area: Area) -> Codes:
        """See ``LabelSource.read``: the majority of the 10 m cells of each pixel."""
        frame = self._polygons()
        inside = frame.iloc[frame.sindex.query(shapely.box(*area.bounds), predicate="intersects")]
        fine = Area(area.bounds, FINE)
        if inside.empty:
            return np.zeros(area.shape, np.uint16)
        burnt = rasterize(
            zip(inside.geometry, inside["luisa"], strict=True), fine.shape, transform=fine.transform, dtype="uint16"
        )
        return on_grid(burnt, fine.transform, CRS, FINE, area)

    def _polygons(self) -> gpd.GeoDataFrame:
        return _polygons(self.path, self.layer, self.column, tuple(self.codes.items()), self.legend)


@lru_cache(maxsize=4)
def _polygons(
    path: Path, layer: str | None, column: str | None, codes: tuple[tuple[int, int], ...], legend: str
) -> gpd.GeoDataFrame:
    try:
        frame = gpd.read_file(path, layer=layer or str(pyogrio.list_layers(path)[0][0]))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "It is missing, damaged or has no such layer.") from error
    if frame.crs is None:
        raise LulcbenchError(f"{path} has no coordinate reference system.", "Add one, for instance with ogr2ogr.")
    if column not in frame.columns:
        names = ", ".join(c for c in frame.columns if c != "geometry")
        raise LulcbenchError(f"{path} has no column {column!r}.", f"Set 'field' of the labels to one of {names}.")
    values = frame[column].astype(int)
    unknown = sorted(set(values) - set(dict(codes)))
    if unknown:
        raise unknown_codes(unknown, legend, f"{path} ({column})")
    return frame.assign(luisa=values.map(dict(codes))).to_crs(CRS)
