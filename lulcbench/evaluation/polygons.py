"""Polygons of a map: those of a vector file, or the connected areas of a raster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lulcbench._coordinates import lacks_map_crs
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.class_maps import NONE, ClassCodes, ClassMap, open_map, value_codes
from lulcbench.evaluation.crosswalk import read_crosswalk
from lulcbench.grid import CRS, Bounds
from lulcbench.legend import NODATA

if TYPE_CHECKING:
    import geopandas

_VECTORS = (".gpkg", ".shp", ".geojson", ".json", ".parquet", ".fgb", ".gml")
_WINDOW = 512  # px
_MAX_PIXELS = 2**28  # of the area of a raster whose connected areas are found


def read_polygons(
    path: str | os.PathLike[str],
    bounds: Bounds,
    resolution: float,
    legend_name: str = "luisa",
    class_column: str | None = None,
    year: int | None = None,
    band: str | None = None,
    layer: str | None = None,
) -> geopandas.GeoDataFrame:
    """Read the polygons of a map in an area.

    Args:
        path: a vector file, or a map of ``open_map``.
        bounds: EPSG:3035 metres.
        resolution: of the grid on which the areas of a raster are found, m.
        legend_name: ``luisa``, ``corine`` or a CSV file with the columns ``value`` and ``code``.
        class_column: of a vector file.
        year: of a map of several years.
        band: of a raster with several bands.
        layer: of a vector file with several layers of polygons.

    Returns:
        Polygons in EPSG:3035 with the columns ``feature`` (number of the polygon in the file, from 0) and ``code`` (a
        LUISA code of any level, ``NONE`` for other classes).

    Raises:
        LulcbenchError: the file cannot be read, or has no polygon in the area.
    """
    try:
        import geopandas
    except ImportError as error:
        raise LulcbenchError("Polygons require geopandas.", "Run: pip install 'lulcbench[geo]'.") from error
    if Path(path).suffix.lower() in _VECTORS:
        polygons = _from_vector(geopandas, Path(path), bounds, legend_name, class_column, layer)
    else:
        with open_map(path, legend_name, year, band) as map_:
            polygons = _from_raster(geopandas, map_, bounds, resolution)
    if not len(polygons):
        raise LulcbenchError(
            f"{path} has no polygon where there is imagery.",
            f"The imagery spans {tuple(round(end) for end in bounds)}: left, bottom, right, top in EPSG:3035 metres.",
        )
    return polygons


def _from_vector(
    geopandas: Any, path: Path, bounds: Bounds, legend_name: str, class_column: str | None, layer: str | None
) -> geopandas.GeoDataFrame:
    if class_column is None:
        raise LulcbenchError("The column with the classes of the polygons is not stated.", "Name it: --class-column.")
    try:
        if path.suffix == ".parquet":
            frame = geopandas.read_parquet(path)
        else:
            frame = geopandas.read_file(path, layer=_layer(path, layer, class_column))
    except LulcbenchError:
        raise
    except Exception as error:  # pyogrio and pyarrow raise several unrelated types of errors
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a vector file of polygons.") from error
    if class_column not in frame:
        names = ", ".join(map(str, frame.columns[:20]))
        raise LulcbenchError(f"{path} has no column {class_column}.", f"Columns are: {names}.")
    if lacking := lacks_map_crs(frame.crs):
        raise LulcbenchError(f"{path} has {lacking}.", "Assign one, for instance with ogr2ogr -a_srs.")
    frame = frame.reset_index(drop=True)
    frame = frame[frame.geom_type.isin(["Polygon", "MultiPolygon"]) & ~frame.is_empty]
    frame = frame.set_geometry([shape if shape.is_valid else _repaired(shape) for shape in frame.geometry])
    frame = frame.to_crs(CRS).cx[bounds[0] : bounds[2], bounds[1] : bounds[3]]
    if Path(legend_name).is_file():
        table: dict[str, int] = {value: code or NONE for value, code in read_crosswalk(legend_name).items()}
    else:
        table = {str(value): code for value, code in (value_codes(legend_name) or {}).items()}
    values = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in frame[class_column]]
    if unknown := sorted(set(values) - set(table)):
        raise LulcbenchError(
            f"{path} has classes that are not in the legend {legend_name}: {unknown[:8]}.",
            "Translate them by a CSV file with the columns value and code (0: no class): --legend.",
        )
    codes = np.array([table[value] for value in values], np.int64)
    return geopandas.GeoDataFrame(
        {"feature": frame.index.to_numpy(), "code": np.where(codes == NODATA, NONE, codes)},
        geometry=frame.geometry.to_numpy(),
        crs=CRS,
    )


def _repaired(shape: Any) -> Any:
    """The area of a polygon whose border crosses itself, as are many of OpenStreetMap."""
    import shapely

    parts = shapely.get_parts(shapely.make_valid(shape))
    return shapely.union_all([part for part in parts if part.geom_type in ("Polygon", "MultiPolygon")])


def _layer(path: Path, layer: str | None, class_column: str) -> str:
    """The layer of a vector file that is stated, or the only one that has polygons and the column of the classes."""
    import pyogrio

    layers = [(str(name), kind or "table") for name, kind in pyogrio.list_layers(path)]
    names = [name for name, kind in layers if not any(word in kind for word in ("table", "Point", "Line"))]
    if layer is not None:
        if layer not in names:
            raise LulcbenchError(f"{path} has no layer {layer} of polygons.", f"It has {', '.join(names) or 'none'}.")
        return layer
    fitting = [name for name in names if class_column in pyogrio.read_info(path, layer=name)["fields"]]
    if len(fitting) > 1:
        raise LulcbenchError(
            f"{path} has several layers of polygons with the column {class_column}: {', '.join(fitting)}.",
            "State one: --layer.",
        )
    if not names:
        raise LulcbenchError(f"{path} has no layer of polygons.", "Give a vector file of polygons.")
    return fitting[0] if fitting else names[0]


def _from_raster(geopandas: Any, map_: ClassMap, bounds: Bounds, resolution: float) -> geopandas.GeoDataFrame:
    """Connected areas (by edges) of the classes of a map, on a grid of EPSG:3035."""
    from rasterio.features import shapes
    from rasterio.transform import from_origin
    from shapely.geometry import shape

    codes = _on_grid(map_, bounds, resolution)
    transform = from_origin(bounds[0], bounds[3], resolution, resolution)
    found = [(shape(area), int(code)) for area, code in shapes(codes, codes != NONE, 4, transform)]
    columns = {"feature": range(len(found)), "code": [code for _, code in found]}
    return geopandas.GeoDataFrame(columns, geometry=[area for area, _ in found], crs=CRS)


def _on_grid(map_: ClassMap, bounds: Bounds, resolution: float) -> ClassCodes:
    """Codes at the pixel centres of a grid of EPSG:3035; ``NONE`` outside the map."""
    left, bottom, right, top = bounds
    height, width = round((top - bottom) / resolution), round((right - left) / resolution)
    if height * width > _MAX_PIXELS:
        raise LulcbenchError(
            f"The imagery has {height * width:,} pixels, too many to find the connected areas of a raster in it.",
            "Give the polygons as a vector file (gdal_polygonize), or a part of the imagery.",
        )
    codes = np.full((height, width), NONE, np.int32)
    for i in range(0, height, _WINDOW):
        for j in range(0, width, _WINDOW):
            part = codes[i : i + _WINDOW, j : j + _WINDOW]
            y = top - (np.arange(part.shape[0]) + i + 0.5) * resolution
            x = left + (np.arange(part.shape[1]) + j + 0.5) * resolution
            rows, columns = map_.locate(np.tile(x, len(y)), np.repeat(y, len(x)))
            inside = (rows >= 0) & (rows < map_.grid.shape[0]) & (columns >= 0) & (columns < map_.grid.shape[1])
            if inside.any():
                r, c = rows[inside].astype(np.intp), columns[inside].astype(np.intp)
                window = map_.read(slice(int(r.min()), int(r.max()) + 1), slice(int(c.min()), int(c.max()) + 1))
                part[inside.reshape(part.shape)] = window[r - r.min(), c - c.min()]
    return codes
