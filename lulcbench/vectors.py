"""Polygons of vector files: the layer that is meant, its coordinate system, and its polygons in EPSG:3035.

What reads polygons reads them here: areas, maps of polygons, regions, labels. One rule each:

- **Layer.** The one that is named; else the only one that can hold polygons and has the wanted column.
- **Names** of layers and columns, and values of columns, are the same in either normal form of Unicode.
- **Parts.** Each polygon counts alone, those of multipolygons and of collections too; points and lines do not.
- **Crossing borders.** A polygon whose border touches itself is clear. If it crosses itself, what is inside is not
  clear; the polygon is refused or, with ``repair``, has what its outer ring winds around, without its holes.
- **Edges** are straight in the coordinates of the file, as GeoJSON and OGC define it.
- **Extent.** Polygons of the world are cut to Europe, since a projection of Europe cannot show them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from lulcbench._coordinates import FAR_METRES, TURN, lacks_map_crs
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

SUFFIXES = (".gpkg", ".shp", ".geojson", ".json", ".fgb", ".gml", ".parquet", ".zip")
FAR = "far from Europe"  # a reason why features are left out
_STEP = 1000.0  # m between the points of an edge before it is projected: it then deviates by less than 0.1 m
_AMBIGUOUS = 1e-4  # share of the area by which two readings of a polygon that crosses itself may differ
# Degrees. Polygons that are not inside the first box are cut to the second one: they may hold the antipode of Europe,
# of which EPSG:3035 makes a circle around everything.
_WIDE, _EUROPE = (-130.0, -45.0, 150.0, 85.0), (-50.0, 20.0, 70.0, 85.0)
_AREAL = ("Polygon", "Surface", "Collection", "Unknown", "TIN", "Triangle")  # in types of geometries
_POLYGONS = "Give a vector file of polygons in or near Europe, or another layer of the file."

Shapes = npt.NDArray[Any]  # of shapely geometries


class Layer(NamedTuple):
    """A layer of a vector file."""

    name: str
    columns: tuple[str, ...]


class Ground(NamedTuple):
    """Polygons in EPSG:3035.

    Attributes:
        shapes: one polygon or multipolygon per feature, or None: ``(n,)``.
        left_out: why features have none → number of them.
        repaired: number of features that crossed themselves.
        cut: number of polygons that were cut to Europe.
    """

    shapes: Shapes
    left_out: dict[str, int]
    repaired: int
    cut: int


def same_name(name: str, known: Iterable[str], where: str) -> str | None:
    """The spelling of ``name`` among names that are known: the same one, or one in another normal form of Unicode.

    Raises:
        LulcbenchError: there are several others, none of which is the same.

    Examples:
        >>> same_name("for\u00eat", ["sol", "fore\u0302t"], "cover.gpkg") == "fore\u0302t"
        True
    """
    names = list(known)
    if name in names:
        return name
    others = [other for other in names if normalize("NFC", other) == normalize("NFC", name)]
    if len(others) > 1:
        raise LulcbenchError(
            f"{where} has {name!r} in several spellings of Unicode: {', '.join(map(ascii, others))}.",
            "Rename all but one of them.",
        )
    return others[0] if others else None


def find_layer(path: Path, column: str | None = None, layer: str | None = None) -> Layer:
    """The layer of a file that is named, or else the only one that can hold polygons and has the column.

    Args:
        path: of GeoPackage, shapefile, GeoJSON, FlatGeobuf, GML, GeoParquet, or one of them in a zip archive.
        column: that it must have; None for any.
        layer: its name; that of a file without layers is its name without the suffix.

    Raises:
        LulcbenchError: the file cannot be read, or has no such layer, or several.
    """
    return _opened(path, column, layer)[0]


def read_layer(path: Path, column: str | None = None, layer: str | None = None) -> geopandas.GeoDataFrame:
    """The features of a layer (``find_layer``), with the column under the name that was requested.

    Raises:
        LulcbenchError: as ``find_layer``; the layer has no CRS, or none of a map.
    """
    found, written = _opened(path, column, layer)
    with _reading(path) as geopandas:
        columns = [written] if written else []
        if _is_parquet(path):
            frame = geopandas.read_parquet(path)
            frame = frame[[*columns, frame.geometry.name]]
        else:
            frame = geopandas.read_file(path, layer=found.name, columns=columns)
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise LulcbenchError(f"{path} has no polygon in {found.name}.", _POLYGONS)
    if lacking := lacks_map_crs(frame.crs):
        raise LulcbenchError(f"{path} has {lacking}.", "Assign the right one, for instance with ogr2ogr -a_srs.")
    return frame.rename(columns={written: column}) if written else frame


def texts(column: pd.Series[Any]) -> pd.Series[str]:
    """Codes or words as composed text (NFC); whole numbers without decimals, as 311 for "311.0"; NA for nothing.

    Examples:
        >>> import pandas as pd
        >>> texts(pd.Series([311.0, 3.5, None])).tolist(), texts(pd.Series([" sea", ""])).tolist()
        (['311', '3.5', <NA>], ['sea', <NA>])
    """
    text = column.astype("string").str.strip().str.normalize("NFC").str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    return text.mask((text == "").fillna(True))


def to_ground(frame: geopandas.GeoDataFrame, path: Path, *, repair: bool) -> Ground:
    """The polygons of features in EPSG:3035, by the rules of this module.

    Args:
        frame: of ``read_layer``.
        path: of its file, for messages.
        repair: keep polygons that cross themselves.

    Raises:
        LulcbenchError: no feature has an area in or near Europe; coordinates are not those of the CRS; a polygon
            crosses itself, and is not repaired.

    Examples:
        >>> import geopandas
        >>> from shapely import Point, box
        >>> frame = geopandas.GeoDataFrame(geometry=[box(9, 51, 10, 52), Point(9, 51), None], crs="EPSG:4326")
        >>> ground = to_ground(frame, Path("sites.gpkg"), repair=False)
        >>> round(ground.shapes[0].area / 1e6), ground.left_out  # km²
        (7726, {'without a geometry': 1, 'without an area': 1})
    """
    import shapely

    given = np.asarray(frame.geometry.array, dtype=object)
    parts, owners = _single(given)
    crossing: set[int] = set()
    if len(parts):
        _check_coordinates(parts, frame.crs, path)
    for i in np.flatnonzero(~shapely.is_valid(parts)):
        repaired = _repaired(parts[i])
        if abs(repaired.area - parts[i].area) > _AMBIGUOUS * repaired.area:
            if not repair:
                raise LulcbenchError(
                    f"{path} has a polygon that crosses itself: {shapely.is_valid_reason(parts[i])}.",
                    "What is inside is not clear; correct it, for instance with ogr2ogr -makevalid.",
                )
            crossing.add(int(owners[i]))
        parts[i] = repaired
    solid = shapely.area(parts) > 0
    parts, owners = parts[solid], owners[solid]
    flat = np.setdiff1d(np.arange(len(given)), owners)
    parts, cut = (parts, 0) if frame.crs == CRS else _projected(parts, frame.crs, path)
    inner, own = shapely.get_parts(parts, return_index=True)
    owners = owners[own]
    kept = (shapely.area(inner) > 0) & np.isfinite(shapely.bounds(inner)).all(axis=1)
    shapes = _of_features(inner[kept], owners[kept], len(given))
    missing = shapely.is_missing(given) | shapely.is_empty(given)
    reasons = {
        "without a geometry": int(missing.sum()),
        "without an area": int((~missing[flat]).sum()),
        FAR: int(shapely.is_missing(shapes).sum()) - len(flat),
    }
    ends = shapely.bounds(shapes[~shapely.is_missing(shapes)])
    if not ((ends[:, 2] > 0) & (ends[:, 3] > 0)).any():
        what = "no polygon with an area"
        if len(flat) < len(given):
            span = ", ".join(f"{end:.10g}" for end in frame.total_bounds)
            what = f"no polygon in or near Europe; coordinates span {span} in {str(frame.crs.name)[:60]}"
        raise LulcbenchError(f"{path} has {what}.", _POLYGONS)
    return Ground(shapes, {reason: n for reason, n in reasons.items() if n}, len(crossing), cut)


def _opened(path: Path, column: str | None, layer: str | None) -> tuple[Layer, str | None]:
    """``find_layer``, and the column as it is written there."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise LulcbenchError(f"{path} {what}.", "Give a vector file of polygons, such as .geojson or .gpkg.")
    with _reading(path):
        kinds = _kinds(path)
        if layer is None:
            names = [name for name, kind in kinds.items() if any(word in kind for word in _AREAL)]
        else:
            names = [name] if (name := same_name(layer, kinds, str(path))) else []
        layers = [Layer(name, _columns(path, name)) for name in names]
    if not layers:
        lacking = "polygon" if layer is None else f"layer {layer}"
        raise LulcbenchError(f"{path} has no {lacking}.", f"Its layers are {_listed(kinds)}.")
    spelling = {own: column and same_name(column, own.columns, f"{path} ({own.name})") for own in layers}
    fitting = [own for own in layers if column is None or spelling[own]]
    if not fitting:
        columns = dict.fromkeys(name for own in layers for name in own.columns)
        raise LulcbenchError(f"{path} has no column {column}.", f"Its columns are {_listed(columns)}.")
    if len(fitting) > 1:
        which = f"several layers with the column {column}" if column else "several layers of polygons"
        raise LulcbenchError(
            f"{path} has {which}: {_listed(own.name for own in fitting)}.", "Name the one that is meant (layer)."
        )
    return fitting[0], spelling[fitting[0]]


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Yield geopandas; errors of libraries become one that names the file."""
    try:
        import geopandas
    except ImportError as error:
        raise LulcbenchError("Polygons require geopandas.", "Run: pip install 'lulcbench[geo]'.") from error
    try:
        yield geopandas
    except LulcbenchError:
        raise
    except Exception as error:  # pyogrio and pyarrow raise several unrelated types of errors
        raise LulcbenchError(
            f"Cannot read {path}: {error}.", "Give a vector file of polygons; fetch it again if it is damaged."
        ) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _kinds(path: Path) -> dict[str, str]:
    """Names of the layers of a file, and types of their geometries."""
    import pyogrio

    if _is_parquet(path):  # which GDAL reads only with libraries of its own
        return {path.stem: "Unknown"}
    return {str(name): str(kind) for name, kind in pyogrio.list_layers(path)}


def _columns(path: Path, layer: str) -> tuple[str, ...]:
    """Columns of a layer without the geometries."""
    import pyarrow.parquet
    import pyogrio

    if not _is_parquet(path):
        return tuple(map(str, pyogrio.read_info(path, layer=layer)["fields"]))
    schema = pyarrow.parquet.read_schema(path)
    stated = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
    return tuple(name for name in schema.names if name not in stated.get("columns", {}))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)[:300] or "none"


def _single(shapes: Shapes) -> tuple[Shapes, npt.NDArray[np.intp]]:
    """Polygons of geometries of any type, and the place of the geometry that each is a part of."""
    import shapely

    parts, owners = shapely.get_parts(shapely.force_2d(shapes), return_index=True)
    while (shapely.get_type_id(parts) > shapely.GeometryType.POLYGON).any():  # collections of collections
        parts, own = shapely.get_parts(parts, return_index=True)
        owners = owners[own]
    polygons = (shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & ~shapely.is_empty(parts)
    return parts[polygons], owners[polygons]


def _check_coordinates(parts: Shapes, crs: Any, path: Path) -> None:
    """Refuse coordinates that are not those of a CRS."""
    import shapely

    left, bottom, right, top = (float(end) for end in shapely.total_bounds(parts))
    if not np.isfinite(shapely.get_coordinates(parts)).all():
        raise LulcbenchError(f"{path} has coordinates that are not numbers.", "Correct them.")
    unit = crs.axis_info[0].unit_conversion_factor  # radians or metres
    if crs.is_geographic:
        turn = math.radians(TURN) / unit
        if min(left, 2 * bottom) < -turn or max(right, 2 * top) > turn:
            raise LulcbenchError(
                f"{path} is in degrees ({crs.name}), but spans {left:.10g} to {right:.10g} eastwards and "
                f"{bottom:.10g} to {top:.10g} northwards.",
                "Longitudes are -180 to 180, not 0 to 360; if it is in metres, state its CRS (ogr2ogr -a_srs): GeoJSON "
                "is in degrees unless it does.",
            )
    elif max(-left, -bottom, right, top) * unit > FAR_METRES:
        raise LulcbenchError(f"{path} has coordinates that are not on Earth.", "Correct them, or its CRS.")


def _repaired(shape: Any) -> Any:
    """The area of a polygon that is not valid: what its outer ring winds around, without its holes."""
    import shapely

    return shapely.make_valid(shape, method="structure", keep_collapsed=False)


def _projected(parts: Shapes, crs: Any, path: Path) -> tuple[Shapes, int]:
    """Polygons in EPSG:3035, with more points along their edges, so that these stay; how many were cut to Europe."""
    import geopandas
    import shapely
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        project = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        wide, europe = (shapely.box(*project.transform_bounds(*box, errcheck=True)) for box in (_WIDE, _EUROPE))
        beyond = ~shapely.covered_by(parts, wide)
    except (ProjError, shapely.errors.ShapelyError):  # a projection of a part of the Earth
        beyond = np.zeros(len(parts), bool)
    if beyond.any():
        parts = parts.copy()
        parts[beyond] = shapely.intersection(parts[beyond], europe)
    step = _STEP / 111_000 * math.radians(1) if crs.is_geographic else _STEP
    try:
        dense = shapely.segmentize(parts, step / crs.axis_info[0].unit_conversion_factor)
        ground: Shapes = geopandas.GeoSeries(dense, crs=crs).to_crs(CRS).to_numpy()
    except Exception as error:  # pyproj raises several unrelated types of errors
        raise LulcbenchError(f"Cannot project {path} to {CRS}: {error}.", "Correct its CRS.") from error
    for i in np.flatnonzero(~shapely.is_valid(ground)):
        ground[i] = _repaired(ground[i])
    return ground, int(beyond.sum())


def _of_features(parts: Shapes, owners: npt.NDArray[np.intp], n: int) -> Shapes:
    """One geometry per feature of its polygons, which may overlap; None for those without any."""
    import shapely

    shapes: Shapes = np.full(n, None, dtype=object)
    alone = np.bincount(owners, minlength=n)[owners] == 1
    shapes[owners[alone]] = parts[alone]
    if not alone.all():
        features, places = np.unique(owners[~alone], return_inverse=True)
        joined = shapely.multipolygons(parts[~alone], indices=places)
        for i in np.flatnonzero(~shapely.is_valid(joined)):
            joined[i] = shapely.union_all(shapely.get_parts(joined[i]))
        shapes[features] = joined
    return shapes
