"""Polygons of a map: those of a vector file, or the connected areas of a raster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.class_maps import NONE, ClassCodes, ClassMap, open_map, value_codes
from lulcbench.evaluation.crosswalk import read_crosswalk
from lulcbench.grid import CRS, Bounds
from lulcbench.legend import NODATA
from lulcbench.vectors import SUFFIXES, find_layer, read_layer, texts, to_ground

if TYPE_CHECKING:
    import geopandas

_WINDOW = 512  # px
_MAX_PIXELS = 2**28  # of the area of a raster whose connected areas are found


class MapPolygons(NamedTuple):
    """Polygons of a map.

    Attributes:
        table: in EPSG:3035, with the columns ``feature`` (number of the feature in the file, from 0) and ``code`` (a
            LUISA code of any level, ``NONE`` for other classes and for none).
        left_out: why features of a vector file are not polygons → number of them, also outside the area.
        repaired: number of features that crossed themselves, also outside the area (``lulcbench.vectors``).
    """

    table: geopandas.GeoDataFrame
    left_out: dict[str, int]
    repaired: int


def read_polygons(
    path: str | os.PathLike[str],
    bounds: Bounds,
    resolution: float,
    legend_name: str = "luisa",
    class_column: str | None = None,
    year: int | None = None,
    band: str | None = None,
    layer: str | None = None,
) -> MapPolygons:
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

    Raises:
        LulcbenchError: the file cannot be read, or has no polygon in the area.
    """
    left_out: dict[str, int] = {}
    repaired = 0
    is_vector = Path(path).suffix.lower() in SUFFIXES
    if is_vector and (year is not None or band is not None):
        raise LulcbenchError(f"{path} is a vector file, without years and bands.", "Leave out the year and the band.")
    if not is_vector and (class_column is not None or layer is not None):
        raise LulcbenchError(f"{path} is not a vector file.", "Leave out the column of the classes and the layer.")
    if is_vector:
        polygons, left_out, repaired = _from_vector(Path(path), bounds, legend_name, class_column, layer)
    else:
        with open_map(path, legend_name, year, band) as map_:
            polygons = _from_raster(map_, bounds, resolution)
    if not len(polygons):
        raise LulcbenchError(
            f"{path} has no polygon where there is imagery.",
            f"The imagery spans {tuple(round(end) for end in bounds)}: left, bottom, right, top in EPSG:3035 metres.",
        )
    return MapPolygons(polygons, left_out, repaired)


def _from_vector(
    path: Path, bounds: Bounds, legend_name: str, class_column: str | None, layer: str | None
) -> tuple[geopandas.GeoDataFrame, dict[str, int], int]:
    import geopandas
    import pandas as pd
    import shapely

    if class_column is None:
        known = ", ".join(find_layer(path, None, layer).columns)[:300]
        raise LulcbenchError(
            "The column with the classes of the polygons is not stated.", f"Name it (--class-column): one of {known}."
        )
    frame = read_layer(path, class_column, layer)
    ground = to_ground(frame, path, repair=True)
    box = shapely.box(*bounds)
    shapely.prepare(box)
    inside = np.flatnonzero(shapely.intersects(box, ground.shapes) & ~shapely.touches(box, ground.shapes))
    if Path(legend_name).is_file():
        table: dict[str, int] = {value: code or NONE for value, code in read_crosswalk(legend_name).items()}
    else:
        table = {str(value): code for value, code in (value_codes(legend_name) or {}).items()}
    table = dict(zip(texts(pd.Series(list(table), dtype="string")), table.values(), strict=True))
    values = texts(frame[class_column].iloc[inside])
    if unknown := sorted(set(values.dropna()) - set(table)):
        raise LulcbenchError(
            f"{path} has classes that are not in the legend {legend_name}: {unknown[:8]}.",
            "Translate them by a CSV file with the columns value and code (0: no class): --legend.",
        )
    codes = values.map(table).fillna(NONE).to_numpy(np.int64)
    polygons = geopandas.GeoDataFrame(
        {"feature": inside, "code": np.where(codes == NODATA, NONE, codes)}, geometry=ground.shapes[inside], crs=CRS
    )
    return polygons, ground.left_out, ground.repaired


def _from_raster(map_: ClassMap, bounds: Bounds, resolution: float) -> geopandas.GeoDataFrame:
    """Connected areas (by edges) of the classes of a map, on a grid of EPSG:3035."""
    import geopandas
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
