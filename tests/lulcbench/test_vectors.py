"""Polygons of vector files: their layer, and where they are, against pyproj and shapely."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import normalize

import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from shapely import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from builders.readers.area import Area as Pixels
from builders.readers.polygons import VectorLabels
from lulcbench.areas import Area
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.polygons import read_polygons
from lulcbench.evaluation.reference_points import ReferencePoints, inside_regions
from lulcbench.grid import Tile
from lulcbench.vectors import read_layer, to_ground

TO_GROUND = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)
BOUNDS = (4_000_000.0, 2_900_000.0, 4_700_000.0, 3_300_000.0)
SQUARE = box(9, 51, 9.1, 51.1)
BOW = Polygon([(9.0, 51.0), (9.1, 51.1), (9.1, 51.0), (9.0, 51.1)])
# Half of the hole is outside: by even and odd crossings, this half would be inside.
BITTEN = Polygon([(0, 0), (100, 0), (100, 100), (0, 100)], [[(90, 40), (110, 40), (110, 60), (90, 60)]])


def written(path: Path, shapes: list[Any], crs: Any = "EPSG:4326", layer: str | None = None, **columns: Any) -> Path:
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)
    if path.suffix.lower() == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path, layer=layer)
    return path


def verified(path: Path, **options: Any) -> Any:
    return read_polygons(path, BOUNDS, 10, class_column="code", **options)


def points(*places: tuple[float, float]) -> ReferencePoints:
    return ReferencePoints(pd.DataFrame(places, columns=["x", "y"]), {})


def test_edges_of_maps_and_regions_are_straight_in_degrees(tmp_path: Path) -> None:
    """The parallel of 51° from 5° to 15° E; its chord in EPSG:3035 is up to 11 km away from it."""
    path = written(tmp_path / "wide.gpkg", [box(5, 50, 15, 51)], code=[31])
    x, y = TO_GROUND.transform(10, 51)
    [polygon] = verified(path).table.geometry
    assert polygon.boundary.distance(Point(x, y)) < 0.1
    ground, _ = pyproj.Geod(ellps="GRS80").geometry_area_perimeter(box(5, 50, 15, 51).segmentize(0.01))
    assert polygon.area == pytest.approx(abs(ground), rel=1e-6)  # EPSG:3035 keeps areas
    south, north = (TO_GROUND.transform(10, latitude) for latitude in (50.95, 51.05))
    assert inside_regions(points(south, north), path, "code")["31"].tolist() == [True, False]


@pytest.mark.parametrize("name", ["a.PARQUET", "a.GPKG", "a.fgb", "a.geojson", "a.gml", "a.shp", "a.zip"])
def test_all_kinds_of_files_are_read_the_same_by_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.zip":
        written(tmp_path / "a.shp", [SQUARE], code=[31])
        with zipfile.ZipFile(path, "w") as packed:
            for part in tmp_path.glob("a.???"):
                if part != path:
                    packed.write(part, part.name)
    else:
        written(path, [SQUARE], code=[31])
    expected = shapely.transform(SQUARE.segmentize(0.001), TO_GROUND.transform, interleaved=False)
    found = [Area.read(path, ["31"], "code").geometry, *verified(path).table.geometry]
    found += list(VectorLabels(path, {"31": 31}, "own", None, "code")._polygons().geometry)
    for shape in found:
        assert shape.symmetric_difference(expected).area < 1e-5 * expected.area
    assert inside_regions(points(expected.centroid.coords[0]), path, "code")["31"].all()


@pytest.mark.parametrize(
    ("shape", "crs", "message"),
    [
        (shapely.transform(SQUARE, TO_GROUND.transform, interleaved=False), 4326, "is in degrees .WGS 84., but spans"),
        (box(369, 51, 369.1, 51.1), 4326, "not 0 to 360"),
        (box(51, 9, 51.1, 9.1), 4326, "no polygon in or near Europe"),  # latitude before longitude
        (SQUARE, 25832, "no polygon in or near Europe"),  # degrees
        (box(1e12, 0, 2e12, 1e12), 3035, "not on Earth"),
        (SQUARE, None, "has no CRS"),
        (Point(9, 51), 4326, "has no polygon"),
        (None, 4326, "has no polygon"),
    ],
    ids=["metres", "0-360", "swapped", "degrees", "far", "none", "point", "missing"],
)
def test_coordinates_that_are_not_those_of_a_map_are_refused(
    tmp_path: Path, shape: Any, crs: int | None, message: str
) -> None:
    path = written(tmp_path / "a.parquet", [shape], crs, code=[31])
    for read in (
        lambda: Area.read(path),
        lambda: verified(path),
        lambda: inside_regions(points((4e6, 3e6)), path, "code"),
        lambda: VectorLabels(path, {"31": 31}, "own", None, "code").bounds(),
    ):
        with pytest.raises(LulcbenchError, match=message) as error:
            read()
        assert error.value.remedy


def test_polygons_that_cross_themselves_are_refused_or_repaired_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gpkg", [BOW, SQUARE], code=[31, 21])
    with pytest.raises(LulcbenchError, match="crosses itself"):
        Area.read(path)
    with pytest.raises(LulcbenchError, match="crosses itself"):
        inside_regions(points((4e6, 3e6)), path, "code")
    assert verified(path).repaired == 1
    bitten = geopandas.GeoDataFrame(geometry=[shapely.affinity.translate(BITTEN, 4e6, 3e6)], crs="EPSG:3035")
    assert to_ground(bitten, path, repair=True).shapes[0].area == 100 * 100 - 10 * 20


def test_labels_under_overlapping_parts_of_one_feature(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By even and odd crossings, what is twice inside would be outside."""
    left, bottom, right, top = Tile(900, 650).bounds
    halves = MultiPolygon([box(left, bottom, left + 3200, top), box(left + 1600, bottom, right, top)])
    bow = Polygon([(left, bottom), (right, top), (right, bottom), (left, top)])
    area = Pixels.of([Tile(900, 650)], 50)
    for shape, share in ((halves, 1.0), (bow, 0.5)):
        path = written(tmp_path / f"{share}.gpkg", [shape], "EPSG:3035", code=[311])
        codes = VectorLabels(path, {"311": 3110}, "own", None, "code").read(area).codes
        assert (codes == 3110).mean() == pytest.approx(share, abs=0.02)
    assert "1 polygons that cross themselves are repaired" in caplog.text


def test_parts_of_collections_count_and_what_has_no_area_is_counted(tmp_path: Path) -> None:
    line = LineString([(9, 51), (9.1, 51.1)])
    mixed = GeometryCollection([line, GeometryCollection([MultiPolygon([SQUARE, box(9.2, 51, 9.3, 51.1)])])])
    shapes = [mixed, None, Polygon(), line, SQUARE]
    path = written(tmp_path / "a.parquet", shapes, code=["311", "311", "311", "311", None])
    found = verified(path)
    assert found.table["feature"].tolist() == [0, 4]
    assert found.table["code"].tolist() == [311, -1]  # none is stated
    assert found.left_out == {"without a geometry": 2, "without an area": 1}
    flat = written(tmp_path / "flat.parquet", [SQUARE, Polygon([(9, 51), (9.1, 51.1), (9, 51)])], code=[311, 211])
    assert Area.read(flat).geometry.area == pytest.approx(found.table.area[1])
    single = to_ground(geopandas.GeoDataFrame(geometry=[SQUARE], crs=4326), path, repair=False).shapes[0]
    assert found.table.area[0] == pytest.approx(2 * single.area, rel=1e-6)


def test_polygons_beside_the_imagery_are_not_read(tmp_path: Path) -> None:
    left, bottom, right, top = BOUNDS
    touching = box(right, bottom, right + 100, top)
    around = Polygon([(left - 9, bottom - 9), (right + 9, bottom - 9), (right + 9, bottom - 5), (left - 5, top + 9)])
    path = written(tmp_path / "a.gpkg", [touching, box(left, bottom, right, top)], "EPSG:3035", code=[31, 21])
    assert verified(path).table["feature"].tolist() == [1]
    alone = written(tmp_path / "b.gpkg", [around - box(*BOUNDS)], "EPSG:3035", code=[31])
    with pytest.raises(LulcbenchError, match="no polygon where there is imagery"):
        verified(alone)


def test_a_polygon_of_the_world_has_europe_inside(tmp_path: Path) -> None:
    world = box(-180, -90, 180, 90)
    for crs in ("EPSG:4326", "EPSG:3857"):
        shape = world if crs == "EPSG:4326" else box(-2.0e7, -2.0e7, 2.0e7, 2.0e7)
        path = written(tmp_path / f"{crs[5:]}.gpkg", [shape], crs, code=[31])
        [polygon] = verified(path).table.geometry
        assert polygon.contains(box(*BOUNDS))
        assert inside_regions(points(BOUNDS[:2]), path, "code")["31"].all()
        with pytest.raises(LulcbenchError, match="places that EPSG:3035 cannot show"):
            Area.read(path)


def test_units_other_than_degrees_and_metres(tmp_path: Path) -> None:
    """Grads from Paris, and US survey feet."""
    expected = shapely.transform(SQUARE.segmentize(0.001), TO_GROUND.transform, interleaved=False)
    for crs in ("EPSG:4807", "+proj=laea +lat_0=52 +lon_0=10 +ellps=GRS80 +units=us-ft +type=crs"):
        frame = geopandas.GeoDataFrame(geometry=[SQUARE.segmentize(0.001)], crs=4326).to_crs(crs)
        [shape] = to_ground(frame, tmp_path, repair=False).shapes
        there = frame.to_crs(3035).geometry[0]
        assert shape.symmetric_difference(there).area < 1e-5 * expected.area
        assert shape.centroid.distance(expected.centroid) < 500  # without grids, the datum is 100 m away


def test_layers_and_names(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    written(path, [SQUARE.centroid], layer="places", code=[1])
    written(path, [SQUARE], layer="cover", **{normalize("NFD", "libellé"): [normalize("NFD", "forêt")]})
    written(path, [SQUARE], layer="border", name=["x"])
    frame = read_layer(path, "libellé")
    assert list(frame.columns) == ["libellé", "geometry"]
    assert Area.read(path, ["forêt"], "libellé").name == "forêt"
    (tmp_path / "legend.csv").write_text("value,code\nforêt,31\n", encoding="utf-8")
    found = read_polygons(path, BOUNDS, 10, str(tmp_path / "legend.csv"), "libellé")
    assert found.table["code"].tolist() == [31]
    with pytest.raises(LulcbenchError, match="several layers of polygons: cover, border"):
        read_layer(path)
    with pytest.raises(LulcbenchError, match="has no column code"):  # only points have it
        read_layer(path, "code")
    with pytest.raises(LulcbenchError, match=r"(?s)not stated.*one of name"):
        read_polygons(path, BOUNDS, 10, layer="border")
    alone = written(tmp_path / "b.parquet", [SQUARE], code=[31])
    assert len(read_layer(alone, layer="b")) == 1
    with pytest.raises(LulcbenchError, match="no layer cover"):  # was not looked at
        read_layer(alone, layer="cover")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"{}", b"PK\x03\x04", b"SQLite format 3\0"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    for suffix in (".gpkg", ".parquet", ".geojson", ".zip", ".shp"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with pytest.raises(LulcbenchError, match=f"a{suffix}"):
            read_layer(path, "code")


def test_points_in_regions_that_overlap_or_have_a_common_border(tmp_path: Path) -> None:
    """As in a file of all levels of NUTS; a region of several features; points without a place."""
    west, east = box(4e6, 3e6, 4.1e6, 3.1e6), box(4.1e6, 3e6, 4.2e6, 3.1e6)
    path = written(
        tmp_path / "nuts.parquet",
        [west.union(east), west, east, box(5e6, 3e6, 5.1e6, 3.1e6), west],
        "EPSG:3035",
        NUTS_ID=["DE", "DE1", "DE2", "DE2", None],
    )
    rng = np.random.default_rng(0)
    places = [*zip(rng.uniform(3.9e6, 4.3e6, 200), rng.uniform(2.9e6, 3.2e6, 200), strict=True)]
    places += [(4.1e6, 3.05e6), (np.nan, np.nan), (5.05e6, 3.05e6)]
    masks = inside_regions(points(*places), path, "NUTS_ID")
    assert list(masks) == ["DE", "DE1", "DE2"]
    x, y = np.array(places).T
    with np.errstate(invalid="ignore"):
        row = (y > 3e6) & (y < 3.1e6)
        np.testing.assert_array_equal(masks["DE"], row & (x > 4e6) & (x < 4.2e6))
        np.testing.assert_array_equal(masks["DE1"], row & (x > 4e6) & (x < 4.1e6))
        np.testing.assert_array_equal(masks["DE2"], row & ((x >= 4.1e6) & (x < 4.2e6) | (x == 5.05e6)))
    assert Counter(map(tuple, np.stack(list(masks.values()), 1).tolist()))[(True, False, False)] == 0
    with pytest.raises(LulcbenchError, match="None of the 1 points is in a region"):
        inside_regions(points((6e6, 3e6)), path, "NUTS_ID")


def test_regions_of_a_file_with_several_layers(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    written(path, [box(4e6, 3e6, 4.1e6, 3.1e6)], "EPSG:3035", layer="old", NUTS_ID=["A"])
    written(path, [box(4.1e6, 3e6, 4.2e6, 3.1e6)], "EPSG:3035", layer="new", NUTS_ID=["A"])
    place = points((4.15e6, 3.05e6))
    with pytest.raises(LulcbenchError, match="several layers with the column NUTS_ID: old, new"):
        inside_regions(place, path, "NUTS_ID")
    assert inside_regions(place, path, "NUTS_ID", "new")["A"].all()
