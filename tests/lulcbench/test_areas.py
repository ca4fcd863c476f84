"""Areas: polygons of files, and their tiles, against shapely and pyproj."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from lulcbench.areas import Area
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile

HOLE = shapely.Point(4_351_003, 3_134_007).buffer(700.5)
PLACE = shapely.MultiPolygon(
    [
        shapely.Polygon([(4346011, 3127003), (4353017, 3130501), (4352003, 3137999), (4345507, 3133013)]) - HOLE,
        shapely.Point(4_361_001, 3_137_003).buffer(502.3),
    ]
)


def written(
    path: Path, shapes: list[Any], crs: str | None = "EPSG:4326", layer: str | None = None, **columns: Any
) -> Path:
    """Shapes in EPSG:3035 (with ``crs`` None: as they are, without a CRS) in a vector file."""
    frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs and "EPSG:3035")
    (frame.to_crs(crs) if crs else frame).to_file(path, layer=layer)
    return path


def degrees(path: Path, *polygons: Any) -> Path:
    """GeoJSON in degrees, from rings or shapes."""
    shapes = [shapely.Polygon(ring) if isinstance(ring, list) else ring for ring in polygons]
    features = [{"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)} for shape in shapes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:25832", "EPSG:3035", "EPSG:2154"])
def test_polygons_are_where_pyproj_has_them(tmp_path: Path, crs: str) -> None:
    """Holes and parts stay; a multipart polygon is the same as its parts."""
    area = Area.read(written(tmp_path / "place.gpkg", [PLACE], crs))
    assert area.geometry.symmetric_difference(PLACE).area < 1e-3 * PLACE.area  # edges bend by a metre
    assert not area.geometry.contains(HOLE.centroid)
    apart = Area.read(written(tmp_path / "parts.gpkg", list(PLACE.geoms), crs))
    assert apart.geometry.equals(area.geometry)


def test_codes_of_boundaries(tmp_path: Path) -> None:
    parts = [shapely.box(x, 3_130_000, x + 900, 3_131_000) for x in (4_340_000, 4_341_000, 4_350_000)]
    path = written(tmp_path / "nuts.gpkg", parts, "EPSG:3035", NUTS_ID=["DE1", "DE2", "FR1"], number=[5.0, 6.0, 7.0])
    assert Area.read(path, ["DE2"]).geometry.equals(parts[1])
    both = Area.read(path, ["DE1", "DE2", "DE1"])
    assert both.name == "DE1, DE2"
    assert both.geometry.equals(shapely.union_all(parts[:2]))
    assert Area.read(path, ["7"], "number").geometry.equals(parts[2])  # a whole number, although stored as 7.0
    with pytest.raises(LulcbenchError, match=r"(?s)no NUTS_ID DE9.*It has DE1, DE2 and 1 more"):
        Area.read(path, ["DE9"])
    with pytest.raises(LulcbenchError, match=r"(?s)no NUTS_ID fr1.*It has FR1 and 2 more"):
        Area.read(path, ["fr1"])
    with pytest.raises(LulcbenchError, match=r"(?s)no column CODE.*NUTS_ID, number"):
        Area.read(path, ["DE1"], "CODE")
    twice = written(tmp_path / "twice.gpkg", parts, "EPSG:3035", NUTS_ID=["DE1", "DE1", "FR1"])
    with pytest.raises(LulcbenchError, match="2 features of NUTS_ID DE1"):
        Area.read(twice, ["DE1"])
    assert Area.read(twice, ["FR1"]).geometry.equals(parts[2])
    point = written(tmp_path / "point.gpkg", [parts[0], parts[1].centroid], "EPSG:3035", NUTS_ID=["DE1", "DE2"])
    with pytest.raises(LulcbenchError, match="NUTS_ID DE2 is not a polygon"):
        Area.read(point, ["DE1", "DE2"])


def test_layers_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "several.gpkg"
    one, two = shapely.box(4_340_000, 3_130_000, 4_341_000, 3_131_000), shapely.box(0, 0, 9, 9)
    written(path, [one.centroid], "EPSG:3035", "places")
    written(path, [one], "EPSG:3035", "regions", NUTS_ID=["DE1"])
    assert Area.read(path).geometry.equals(one)
    written(path, [two], "EPSG:3035", "fields")
    with pytest.raises(LulcbenchError, match="several layers of polygons: regions, fields"):
        Area.read(path)
    assert Area.read(path, layer="fields").geometry.equals(two)
    assert Area.read(path, ["DE1"]).geometry.equals(one)  # the only layer with the column
    with pytest.raises(LulcbenchError, match=r"(?s)no layer roads.*places, regions, fields"):
        Area.read(path, layer="roads")


def test_edges_are_straight_in_the_coordinates_of_the_file(tmp_path: Path) -> None:
    area = Area.read(degrees(tmp_path / "wide.geojson", shapely.box(5, 50, 15, 51)))
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(10, 51)
    assert area.geometry.boundary.distance(shapely.Point(x, y)) < 0.1
    geod = pyproj.Geod(ellps="GRS80")
    ground, _ = geod.geometry_area_perimeter(shapely.box(5, 50, 15, 51).segmentize(0.01))
    assert area.geometry.area == pytest.approx(abs(ground), rel=1e-6)  # EPSG:3035 keeps areas


BOW = [(9.0, 51.0), (9.1, 51.1), (9.1, 51.0), (9.0, 51.1), (9.0, 51.0)]
SQUARE = [(9.0, 51.0), (9.1, 51.0), (9.1, 51.1), (9.0, 51.1), (9.0, 51.0)]
# The ring touches itself in a corner, and a hole touches the ring: not valid, but what is inside is clear.
TOUCHING = [
    (9.0, 51.0),
    (9.1, 51.0),
    (9.1, 51.1),
    (9.0, 51.1),
    (9.0, 51.0),
    (8.9, 51.0),
    (8.9, 50.9),
    (9.0, 50.9),
    (9.0, 51.0),
]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([BOW], r"crosses itself: Self-intersection"),
        ([[(x + 360, y) for x, y in SQUARE]], r"369 to 369\.1 eastwards.*-180 to 180, not 0 to 360"),
        ([[(x * 1e5, y * 1e4) for x, y in SQUARE]], r"eastwards.*if it is in metres, state its CRS"),
        ([shapely.Point(9, 51), shapely.LineString([(9, 51), (9.1, 51)])], "has no polygon"),
        ([shapely.Polygon()], "has no polygon"),
        ([[(9, 51), (9.1, 51.1), (9, 51)]], "no polygon with an area"),
        ([], "has no polygon|Cannot read"),
    ],
    ids=["bow", "0-360", "metres", "points", "empty", "flat", "nothing"],
)
def test_what_is_not_an_area_is_refused(tmp_path: Path, shapes: list[Any], message: str) -> None:
    with pytest.raises(LulcbenchError, match=f"(?s){message}") as error:
        Area.read(degrees(tmp_path / "area.geojson", *shapes))
    assert "area.geojson" in error.value.what
    assert error.value.remedy


def test_files_that_hold_no_area_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.geojson").write_text("[]")
    for path, message in (("text.geojson", "Cannot read"), ("missing.gpkg", "does not exist"), (".", "is a folder")):
        with pytest.raises(LulcbenchError, match=message):
            Area.read(tmp_path / path)
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        written(tmp_path / "plain.gpkg", [PLACE], None)
    with pytest.raises(LulcbenchError, match="has no CRS"):
        Area.read(tmp_path / "plain.gpkg")


def test_polygons_that_are_clear_although_not_valid(tmp_path: Path) -> None:
    twice = Area.read(degrees(tmp_path / "twice.geojson", SQUARE, SQUARE))
    once = Area.read(degrees(tmp_path / "once.geojson", SQUARE))
    assert twice.geometry.equals(once.geometry)
    touching = Area.read(degrees(tmp_path / "touching.geojson", TOUCHING))
    assert touching.geometry.area == pytest.approx(2 * once.geometry.area, rel=0.01)
    mixed = shapely.GeometryCollection([shapely.Polygon(SQUARE), shapely.Point(0, 0)])
    assert Area.read(degrees(tmp_path / "mixed.geojson", mixed)).geometry.equals(once.geometry)


@settings(max_examples=30)
@given(
    corners=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=3, max_size=6, unique=True),
    margin=st.sampled_from([0, 1, 4800]),
)
def test_tiles_are_those_that_shapely_finds(corners: list[tuple[int, int]], margin: int) -> None:
    """Corners are often on edges of tiles, where a polygon touches tiles in which it is not; a metre does not count."""
    shape = shapely.MultiPoint([(4_800_000 + 1200 * x, 3_120_000 + 1200 * y) for x, y in corners]).convex_hull
    if shape.area == 0:
        return
    expected = []
    for iy in range(647, 664):
        for ix in range(997, 1014):
            square = shapely.box(*Tile(ix, iy).bounds).buffer(margin - 1, join_style="mitre")
            if shape.intersection(square).area > 0:
                expected.append(Tile(ix, iy))
    area = Area("hull", shape)
    assert area.tiles(margin) == expected
    part = (4_800_000, 3_124_800, 4_809_600, 3_134_400)  # 2 × 2 tiles
    inside = {Tile(ix, iy) for ix in (1000, 1001) for iy in (651, 652)}
    assert area.tiles(margin, part) == [tile for tile in expected if tile in inside]


def test_areas_beyond_the_grid(tmp_path: Path) -> None:
    """France and an overseas region, as in the NUTS regions of Eurostat."""
    overseas = [(-53.0, 4.0), (-52.0, 4.0), (-52.0, 5.0), (-53.0, 4.0)]
    area = Area.read(degrees(tmp_path / "france.geojson", [(x - 7, y - 4) for x, y in SQUARE], overseas))
    with pytest.raises(LulcbenchError, match="france extends beyond the tile grid"):
        area.tiles()
    alone = Area.read(degrees(tmp_path / "alone.geojson", [(x - 7, y - 4) for x, y in SQUARE]))
    assert area.tiles(bounds=(3_000_000, 2_000_000, 5_000_000, 4_000_000)) == alone.tiles()
    assert len(alone.tiles()) > 3
    assert area.tiles(bounds=(6_000_000, 2_000_000, 6_100_000, 4_000_000)) == []
    np.testing.assert_array_equal(area.mask(alone.tiles()[0].bounds, 30), alone.mask(alone.tiles()[0].bounds, 30))
