"""Label polygons: a vector layer with a crosswalk to LUISA."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyogrio
import shapely
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.features import rasterize

from builders.readers import Labels
from builders.readers.area import Area
from builders.readers.labels import composed, on_grid, unknown_codes
from builders.readers.locators import file_stamp, same_name
from lulcbench._coordinates import lacks_map_crs
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS, Bounds

log = logging.getLogger(__name__)

# Europe with a wide margin, in degrees. What lies beyond is cut off: a world-wide polygon has no shape in EPSG:3035.
EUROPE = (-50.0, 20.0, 70.0, 85.0)
# Longest edge that is projected by its ends alone. A straight edge in degrees of this length is bent by 0.6 m at 50° N.
EDGE_DEGREES, EDGE_METRES = 0.05, 5000.0
PARQUET = ".parquet"
FINE = 10  # m; polygons are rasterized at this pixel size, of which the majority is taken


@dataclass(frozen=True)
class VectorLabels:
    """A polygon layer with codes or words in one column; polygons without any are not labelled.

    Attributes:
        codes: code or word → LUISA code; other attributes as in ``RasterLabels``.
        min_cover: least share of a label pixel that polygons must cover.
    """

    path: Path
    codes: dict[str, int] = field(hash=False)
    legend: str
    layer: str | None
    column: str | None
    min_cover: float = 0.5

    def bounds(self) -> Bounds:
        """See ``LabelSource.bounds``."""
        left, bottom, right, top = (float(v) for v in self._polygons().total_bounds)
        return (left, bottom, right, top)

    def read(self, area: Area) -> Labels:
        """See ``LabelSource.read``: the majority of the 10 m cells of each pixel.

        A cell under overlapping polygons of several classes has none.
        """
        frame = self._polygons()
        inside = frame.iloc[frame.sindex.query(shapely.box(*area.bounds), predicate="intersects")]
        fine = Area(area.bounds, FINE)
        if inside.empty:
            return Labels.none(area.shape)
        # Of several polygons the last one counts: that of the highest code, and in the reverse order of the lowest.
        shapes = sorted(zip(inside.geometry, inside["luisa"], strict=True), key=lambda shape: int(shape[1]))
        burnt, other = (
            rasterize(ordered, fine.shape, transform=fine.transform, dtype="uint16")
            for ordered in (shapes, shapes[::-1])
        )
        contested = burnt != other
        burnt[contested] = 0
        labels = on_grid(burnt, fine.transform, CRS, area.resolution / FINE, area, self.min_cover)
        height, width = area.shape
        cells = contested.reshape(height, area.resolution // FINE, width, area.resolution // FINE)
        overlapping = cells.any(axis=(1, 3)) & (labels.codes == 0)
        return labels._replace(sparse=labels.sparse & ~overlapping, overlapping=overlapping)

    def _polygons(self) -> gpd.GeoDataFrame:
        stamp = file_stamp(self.path)
        return _polygons(self.path, self.layer, self.column, tuple(self.codes.items()), self.legend, stamp)


@lru_cache(maxsize=4)
def _polygons(
    path: Path, layer: str | None, column: str | None, codes: tuple[tuple[str, int], ...], legend: str, stamp: object
) -> gpd.GeoDataFrame:
    frame, column = _read(path, layer, column)
    known = composed(dict(codes), f"The mapping of {path}")
    if (frame.geometry.geom_type == "GeometryCollection").any():  # of polygons, with the lines where they touch
        frame = frame.explode(ignore_index=True)
    values = _texts(frame[column])
    present = set(values.dropna())
    unknown = sorted(present - set(known))
    if unknown:
        raise unknown_codes(unknown, legend, f"{path} ({column})")
    areas = frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])
    if not areas.any():
        raise LulcbenchError(f"{path} has no polygons.", "Give polygons, or another layer of the file in 'layer'.")
    for lacking, what in ((areas & values.isna(), f"polygons without {column}"), (~areas, "features without an area")):
        if lacking.any():
            log.warning("%s: %d %s are not labelled", path.name, int(lacking.sum()), what)
    values = values.where(areas)
    labelled = frame.assign(luisa=values.map(known)).dropna(subset="luisa").astype({"luisa": int})
    projected = _projected(labelled)
    inside = np.isfinite(projected.bounds).all(axis=1)  # not of empty ones
    if len(labelled) and not inside.any():
        raise LulcbenchError(
            f"{path} has no polygon with a code in Europe: they extend from "
            f"{tuple(round(float(v), 3) for v in labelled.total_bounds)} in {str(frame.crs)[:40]}.",
            "Check its coordinate reference system.",
        )
    return projected[inside]


def _projected(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Polygons in EPSG:3035, as far as they are in Europe; their edges are straight in their own projection."""
    crs = frame.crs
    try:
        bounds = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform_bounds(*EUROPE, errcheck=True)
        beyond = ~shapely.covered_by(frame.geometry.array, shapely.box(*bounds))
    except (ProjError, shapely.errors.ShapelyError):  # a projection of a part of Europe
        beyond = np.zeros(len(frame), bool)
    shapes = np.array(frame.geometry.array, dtype=object)
    if beyond.any():
        shapes[beyond] = shapely.intersection(shapely.make_valid(shapes[beyond]), shapely.box(*bounds))
    edge = EDGE_DEGREES if crs.is_geographic else EDGE_METRES / crs.axis_info[0].unit_conversion_factor
    return frame.set_geometry(gpd.GeoSeries(shapely.segmentize(shapes, edge), frame.index, crs=crs)).to_crs(CRS)


def layers_with(path: Path, column: str) -> list[str]:
    """Names of the layers of a vector file that have geometries and a column.

    Raises:
        LulcbenchError: the file cannot be read.
    """
    if path.suffix.lower() == PARQUET:
        names = [path.stem]
        return names if same_name(column, map(str, _parquet(path).columns), str(path)) else []
    try:
        names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        fields = {name: pyogrio.read_info(path, layer=name)["fields"] for name in names}
        return [name for name in names if same_name(column, fields[name], f"{path} ({name})")]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "It is missing or damaged; fetch it again.") from error


def column_values(path: Path, layer: str | None, column: str | None) -> pd.Series[str]:
    """Codes or words of a polygon layer as text, NA where there is none.

    Raises:
        LulcbenchError: the file cannot be read, or has no such layer or column.
    """
    frame, column = _read(path, layer, column)
    return _texts(frame[column])


def _read(path: Path, layer: str | None, column: str | None) -> tuple[gpd.GeoDataFrame, str]:
    """The layer, and the name of the column as it is written there."""
    try:
        if path.suffix.lower() == PARQUET:
            frame = _parquet(path)
        else:
            if layer:
                layer = same_name(layer, (str(name) for name, _ in pyogrio.list_layers(path)), str(path)) or layer
            frame = gpd.read_file(path, layer=layer or _only_layer(path, column))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "It is missing, damaged or has no such layer.") from error
    if lacking := lacks_map_crs(frame.crs):
        raise LulcbenchError(f"{path} has {lacking}.", "Assign the right one, for instance with ogr2ogr -a_srs.")
    names = ", ".join(c for c in frame.columns if c != "geometry")
    if column is None:
        raise LulcbenchError(f"{path} has polygons.", f"Name the column of their codes in 'field': one of {names}.")
    written = same_name(column, map(str, frame.columns), str(path))
    if written is None:
        raise LulcbenchError(f"{path} has no column {column!r}.", f"Set 'field' of the labels to one of {names}.")
    return frame, written


def _parquet(path: Path) -> gpd.GeoDataFrame:
    """GeoParquet, which GDAL reads only with libraries of its own."""
    try:
        return gpd.read_parquet(path)
    except (ValueError, TypeError, OSError, pa.ArrowException) as error:  # no geometry, other metadata, damage
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give GeoParquet, or convert it to .gpkg.") from error


def _only_layer(path: Path, column: str | None) -> str:
    """The only layer that has the column; if there is none, the first, whose columns an error can name."""
    fitting = layers_with(path, column) if column else []
    if len(fitting) > 1:
        raise LulcbenchError(
            f"{path} has the column {column!r} in several layers: {', '.join(fitting)}.",
            "Name one of them in 'layer' of the recipe's labels.",
        )
    return fitting[0] if fitting else str(pyogrio.list_layers(path)[0][0])


def _texts(column: pd.Series[Any]) -> pd.Series[str]:
    """Codes or words as composed text (NFC); whole numbers without decimals, as 311 for "311.0"; NA for nothing."""
    text = column.astype("string").str.strip().str.normalize("NFC").str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    return text.mask((text == "").fillna(True))
