"""Maps of any source are read, counted and located alike; areas are those of the ellipsoid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import Resampling, reproject

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._pixel_areas import PixelAreas
from lulcbench.evaluation.class_maps import NONE, WINDOW, at_level, at_points, count, open_map, totals
from lulcbench.predictions import PredictionWriter

LEFT, TOP = 4_320_000, 3_362_400
FEET = "+proj=laea +lat_0=52 +lon_0=10 +x_0=4321000 +y_0=3210000 +ellps=GRS80 +units=us-ft +no_defs"


def write(path: Path, values: np.ndarray, crs: str = "EPSG:3035", transform: object = None, **more: object) -> Path:
    height, width = values.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": values.dtype, "crs": crs}
    transform = transform or from_origin(LEFT, TOP, 100, 100)
    with rasterio.open(path, "w", transform=transform, **(profile | more)) as raster:
        raster.write(values, 1)
    return path


def test_counts_are_exact_over_windows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([0, 1110, 3110, 512], (WINDOW + 77, 2 * WINDOW + 3)).astype(np.uint16)
    values[values == 1110] = 1111
    with open_map(write(tmp_path / "map.tif", values)) as map_:
        counted = count(map_)
    assert counted.pixels == {code: int((values == code).sum()) for code in (512, 1111, 3110)}
    assert counted.empty == (values == 0).sum()
    assert counted.areas == {code: n * 10_000.0 for code, n in counted.pixels.items()}
    assert totals(counted.pixels, 1) == {1: counted.pixels[1111], 3: counted.pixels[3110], 5: counted.pixels[512]}
    assert totals(counted.pixels, 4) == {1111: counted.pixels[1111], 3110: counted.pixels[3110]}


def test_a_digest_is_that_of_classes_and_grid(tmp_path: Path) -> None:
    values = np.full((70, 50), 3110, np.uint16)

    def digest(name: str, values: np.ndarray, **more: object) -> str:
        with open_map(write(tmp_path / name, values, **more)) as map_:
            return count(map_).digest

    first = digest("a.tif", values)
    assert (
        digest("b.tif", values.astype(np.int32), compress="deflate", tiled=True, blockxsize=16, blockysize=16) == first
    )
    assert digest("c.tif", values, transform=from_origin(LEFT, TOP, 50, 50)) != first
    values[3, 4] = 3120
    assert digest("d.tif", values) != first


def test_areas_of_one_map_agree_in_any_projection(tmp_path: Path) -> None:
    """A map of two classes in EPSG:3035, reprojected to degrees, feet and UTM."""
    values = np.full((400, 600), 3110, np.uint16)
    values[100:300, 150:450] = 5120
    source = write(tmp_path / "map.tif", values)
    with open_map(source) as map_:
        expected = count(map_).areas[5120]
    assert expected == 200 * 300 * 10_000
    for crs in ("EPSG:4326", FEET, "EPSG:32632"):
        to = pyproj.CRS(crs)
        step = {"EPSG:4326": 0.0005, FEET: 100.0, "EPSG:32632": 30.0}[crs]
        project = pyproj.Transformer.from_crs(3035, to, always_xy=True)
        left, bottom, right, top = project.transform_bounds(LEFT + 10_000, TOP - 35_000, LEFT + 50_000, TOP - 5_000)
        grid = from_origin(left, top, step, step)
        out = np.zeros((int((top - bottom) / step), int((right - left) / step)), np.uint16)
        with rasterio.open(source) as raster:
            reproject(rasterio.band(raster, 1), out, dst_transform=grid, dst_crs=crs, resampling=Resampling.nearest)
        with open_map(write(tmp_path / "other.tif", out, crs, grid, nodata=0)) as map_:
            assert count(map_).areas[5120] == pytest.approx(expected, rel=1e-3), crs  # whole pixels of 30 to 50 m


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32632", "EPSG:2154", FEET, "EPSG:3035", "EPSG:3857"])
def test_areas_of_pixels_are_geodesic(crs: str) -> None:
    """Of single pixels against polygons on the ellipsoid, far from and near to the meridian of the projection."""
    project = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
    back = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    x, y = project.transform(6.0, 49.0)
    step = 0.001 if crs == "EPSG:4326" else 100.0
    areas = np.broadcast_to(
        PixelAreas(pyproj.CRS(crs).to_wkt(), (step, 0, x, 0, -step, y), (300, 300)).window(
            slice(0, 300), slice(0, 300)
        ),
        (300, 300),
    )
    geod = pyproj.CRS(crs).get_geod()
    for row, column in ((0, 0), (299, 0), (57, 211), (299, 299)):
        ring = [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        corners = back.transform([x + i * step for i, _ in ring], [y - j * step for _, j in ring])
        # Edges of a pixel are straight in the projection and not geodesics: about 1e-8 at this size.
        assert areas[row, column] == pytest.approx(abs(geod.polygon_area_perimeter(*corners)[0]), rel=2e-6)


def test_rotated_rasters_in_degrees() -> None:
    transform = (0.001, 0.0002, 6.0, 0.0001, -0.001, 49.0)
    wkt = pyproj.CRS(4326).to_wkt()
    area = PixelAreas(wkt, transform, (9, 9)).window(slice(4, 5), slice(3, 4))
    ring = [(3, 4), (4, 4), (4, 5), (3, 5)]
    corners = [(6 + 0.001 * i + 0.0002 * j, 49 + 0.0001 * i - 0.001 * j) for i, j in ring]
    expected = abs(pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*zip(*corners, strict=True))[0])
    assert area[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_mosaic_of_many_pixels_is_counted(tmp_path: Path) -> None:
    """100,000 × 2,000 virtual pixels: copies of one tile, whose counts are known."""
    tile = np.random.default_rng(1).choice([3110, 5120, 1111], (100, 1000), p=[0.7, 0.2, 0.1]).astype(np.uint16)
    write(tmp_path / "tile.tif", tile)
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">tile.tif</SourceFilename><SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="1000" ySize="100"/>'
        f'<DstRect xOff="{1000 * j}" yOff="{100 * i}" xSize="1000" ySize="100"/></SimpleSource>'
        for i in range(1000)
        for j in range(2)
    )
    wkt = pyproj.CRS(3035).to_wkt().replace('"', "&quot;")
    (tmp_path / "mosaic.vrt").write_text(
        f'<VRTDataset rasterXSize="2000" rasterYSize="100000"><SRS>{wkt}</SRS>'
        f"<GeoTransform>900000, 30, 0, 5500000, 0, -30</GeoTransform>"
        f'<VRTRasterBand dataType="UInt16" band="1">{sources}</VRTRasterBand></VRTDataset>'
    )
    with open_map(tmp_path / "mosaic.vrt") as map_:
        counted = count(map_)
    assert counted.pixels == {int(code): 2000 * int((tile == code).sum()) for code in np.unique(tile)}
    assert sum(counted.areas.values()) == 200_000_000 * 900.0


def test_pixels_around_points(tmp_path: Path) -> None:
    values = np.arange(1, 101).reshape(10, 10).astype(np.uint16)
    with open_map(write(tmp_path / "map.tif", values), "values") as map_:
        codes = at_points(map_, np.array([LEFT + 150.0, LEFT + 50.0, np.nan]), np.array([TOP - 250.0, TOP - 50.0, TOP]))
    assert codes[0].tolist() == [11, 12, 13, 21, 22, 23, 31, 32, 33]
    assert codes[1].tolist() == [NONE] * 4 + [1, 2, NONE, 11, 12]
    assert codes[2].tolist() == [NONE] * 9


def test_predictions_are_a_map_of_their_tiles(tmp_path: Path) -> None:
    labels = smooth_codes(2, seed=0)
    root = tmp_path / "release"
    make_release(root, {2018: labels})
    with PredictionWriter(tmp_path / "p.zip", root, "test", 2018) as writer:
        for row, tile in enumerate(writer.info.tiles):
            writer.write(tile, labels[row])
    with open_map(tmp_path / "p.zip", release=root) as map_:
        assert map_.simulated
        counted = count(map_)
        assert map_.year == 2018
    codes, number = np.unique(labels, return_counts=True)
    assert counted.pixels == dict(zip(codes.tolist(), number.tolist(), strict=True))
    assert sum(counted.areas.values()) == labels.size * 2500
    with pytest.raises(LulcbenchError, match="requires their release"):
        open_map(tmp_path / "p.zip")
    with pytest.raises(LulcbenchError, match=r"has the years \[2018\], not 2012"):
        open_map(tmp_path / "p.zip", release=root, year=2012)


def test_levels_of_codes() -> None:
    assert at_level([3110, 31, NONE], 2).tolist() == [31, 31, NONE]
    assert at_level([3110, 31, NONE], 3).tolist() == [311, NONE, NONE]
    assert at_level([7, NONE], None).tolist() == [7, NONE]


def test_legends_of_users(tmp_path: Path) -> None:
    path = write(tmp_path / "map.tif", np.array([[1, 2], [3, 255]], np.uint8))
    legend = tmp_path / "legend.csv"
    legend.write_text("value,code\n1,311\n2,512\n3,0\n255,0\n")
    with open_map(path, str(legend)) as map_:
        assert map_.read(slice(0, 2), slice(0, 2)).tolist() == [[311, 512], [NONE, NONE]]
    legend.write_text("value,code\n1,311\n")
    with (
        open_map(path, str(legend)) as map_,
        pytest.raises(LulcbenchError, match=r"not in the .* legend: \[2, 3, 255\]"),
    ):
        count(map_)
    for text, message in (
        ("value,code\n1,9999\n", "line 2: '1' → '9999' is not"),
        ("value,code\n1,311\n1,312\n", "line 3: '1' has two codes"),
        ("a,b\n1,2\n", "is not a value and a LUISA code"),
        ("value,code\n", "is empty"),
        ("value,code\nforest,311\n", "values that no raster has"),
    ):
        legend.write_text(text)
        with pytest.raises(LulcbenchError, match=message):
            open_map(path, str(legend))


def test_maps_without_classes_are_refused(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.tif", np.zeros((3, 3), np.uint8))
    with open_map(empty) as map_, pytest.raises(LulcbenchError, match="has no pixel with a class"):
        count(map_)
    negative = write(tmp_path / "negative.tif", np.full((3, 3), -5, np.int16))
    with open_map(negative, "values") as map_, pytest.raises(LulcbenchError, match="negative or very large"):
        count(map_)
    with open_map(negative) as map_, pytest.raises(LulcbenchError, match=r"not in the luisa legend: \[-5\]"):
        count(map_)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"crs": "EPSG:4326", "transform": from_origin(350, 52, 0.1, 0.1)},  # west of Greenwich, from 0 to 360
            "has longitudes from 350 to 355 degrees",
        ),
        ({"crs": 'LOCAL_CS["local",UNIT["metre",1]]'}, "neither geographic nor projected"),
        ({"crs": "EPSG:4978"}, "neither geographic nor projected"),
    ],
)
def test_maps_whose_pixels_would_be_left_out_are_refused(tmp_path: Path, more: dict[str, object], message: str) -> None:
    """Without an error, points on such a map would lie beyond it."""
    path = write(tmp_path / "map.tif", np.full((50, 50), 3110, np.uint16), **more)
    with pytest.raises(LulcbenchError, match=message) as caught:
        open_map(path)
    assert caught.value.remedy


def test_a_class_that_is_the_nodata_value_is_told(tmp_path: Path) -> None:
    told = "pixels of 3110 left out: the map's nodata value, and a class of the luisa legend"
    for nodata, decisions in ((3110, {told: 0}), (0, {}), (65535, {})):
        path = write(tmp_path / f"{nodata}.tif", np.full((50, 50), 3110, np.uint16), nodata=nodata)
        with open_map(path) as map_:
            assert map_.decisions == decisions


@pytest.mark.parametrize(
    "text",
    ["value;code\n12;2110\n", "\ufeffValue, Code\n12, 2110\n", "VALUE\tCODE\n12\t2110\n"],
    ids=["semicolons", "byte order mark", "tabs"],
)
def test_legends_of_users_may_be_written_by_spreadsheets(tmp_path: Path, text: str) -> None:
    (tmp_path / "legend.csv").write_text(text, encoding="utf-8")
    with open_map(write(tmp_path / "m.tif", np.full((3, 3), 12, np.uint8)), str(tmp_path / "legend.csv")) as map_:
        assert count(map_).pixels == {2110: 9}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("crs", "extent"),
    [
        ("EPSG:8857", (17_243_960, 8_392_928)),
        ("ESRI:54008", (20_037_500, 10_002_000)),
        ("ESRI:54009", (18_041_000, 9_020_500)),
        ("ESRI:54030", (17_005_833, 8_625_154)),
    ],
    ids=["Equal Earth", "sinusoidal", "Mollweide", "Robinson"],
)
def test_areas_of_the_whole_earth_are_those_inside_its_outline(
    tmp_path: Path, crs: str, extent: tuple[int, int]
) -> None:
    """510,065,622 km² on the ellipsoid of WGS 84; half of them are north of the equator."""
    (right, top), step = extent, 40_000
    width, height = 2 * right // step + 2, 2 * top // step + 2
    transform = from_origin(-right, top, step, step)
    x, y = transform @ np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    to_degrees = pyproj.Transformer.from_crs(crs, pyproj.CRS(crs).geodetic_crs, always_xy=True)
    longitude, latitude = to_degrees.transform(x, y)
    again = to_degrees.transform(longitude, latitude, direction="INVERSE")
    inside = np.hypot(again[0] - x, again[1] - y) < 1  # infinite, or of another position
    values = np.where(inside, np.where(y > 0, 1, 2), 0).astype(np.uint8)
    path = write(tmp_path / "earth.tif", values, crs, transform, nodata=0)
    with open_map(path, "values") as map_:
        counted = count(map_)
    assert counted.areas[1] + counted.areas[2] == pytest.approx(5.10065622e14, rel=2e-3)
    assert counted.areas[1] == pytest.approx(2.55032811e14, rel=0.01)
    if crs in ("EPSG:8857", "ESRI:54008"):
        assert counted.areas[2] == pytest.approx((values == 2).sum() * 1.6e9)


def test_classes_outside_the_outline_of_the_earth_are_refused(tmp_path: Path) -> None:
    transform = from_origin(-17_005_833, 8_625_154, 100_000, 100_000)
    path = write(tmp_path / "earth.tif", np.ones((173, 341), np.uint8), "ESRI:54030", transform)
    with (
        open_map(path, "values") as map_,
        pytest.raises(LulcbenchError, match=r"outside the Earth's outline .* row 0, column 0"),
    ):
        count(map_)
