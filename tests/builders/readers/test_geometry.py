"""Any orientation, pixel shape and unit: read where they belong, compared with GDAL's warp of the whole file."""

import shutil
import warnings
import zipfile
from pathlib import Path
from unicodedata import normalize
from urllib.parse import quote

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_bounds
from rasterio.warp import Resampling, reproject, transform_bounds

from builders.archives import label_source, sentinel2
from builders.readers.area import Area
from builders.readers.polygons import VectorLabels
from builders.readers.scene import Scene
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.sensors import REFLECTANCE, SENTINEL2
from tests.builders.readers.scenes import AREA, BANDS, TILE, dn, grid, inside, read, scene_item, two_bands
from tests.builders.world import BOUNDS, UTM, frame, write_raster

LEFT, BOTTOM, RIGHT, TOP = TILE.bounds
MIDDLE = ((LEFT + RIGHT) / 2, (BOTTOM + TOP) / 2)
FOOT = 1200 / 3937  # US survey foot, m


def turned(degrees: float, across: float, down: float, n: int) -> Affine:
    centre = Affine.translation(*MIDDLE) @ Affine.rotation(degrees)
    return centre @ Affine.scale(across, down) @ Affine.translation(-n / 2, -n / 2)


def plane(columns: np.ndarray, rows: np.ndarray, transform: Affine, crs: str) -> np.ndarray:
    """DN that grow evenly with easting and northing in EPSG:3035, at places of a raster."""
    x, y = transform @ (columns + 0.5, rows + 0.5)
    east, north = Transformer.from_crs(crs, "EPSG:3035", always_xy=True).transform(x, y)
    return 2000 + (east - LEFT) / 10 + (north - BOTTOM) / 20


GEOMETRIES = {
    "rotated": ("EPSG:3035", turned(30, 10, -10, 1000), 1000),
    "upside down": ("EPSG:3035", turned(0, 10, 10, 700), 700),
    "mirrored": ("EPSG:3035", turned(0, -10, -10, 700), 700),
    "pixels of 6 m by 12 m": ("EPSG:3035", turned(0, 6, -12, 1100), 1100),
    "degrees": ("EPSG:4326", Affine(0.0001, 0, 9.94, 0, -0.0001, 51.29), 1300),
    "another zone": ("EPSG:32633", None, 700),
    "feet": (f"+proj=laea +lat_0=52 +lon_0=10 +ellps=GRS80 +to_meter={FOOT} +no_defs", None, 900),
}


def placed(name: str) -> tuple[str, Affine, int]:
    crs, transform, n = GEOMETRIES[name]
    if transform is None:
        step = 10 / FOOT if name == "feet" else 10
        left, _, _, top = transform_bounds("EPSG:3035", crs, *TILE.bounds)
        transform = Affine(step, 0, left - 40 * step, 0, -step, top + 40 * step)
    return crs, transform, n


@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRIES)
def test_bands_are_read_where_they_belong(tmp_path: Path, name: str) -> None:
    crs, transform, n = placed(name)
    columns, rows = np.meshgrid(np.arange(n), np.arange(n))
    values = np.rint(np.clip(plane(columns, rows, transform, crs), 1, 9000)).astype(np.uint16)
    paths = [write_raster(tmp_path / f"{key}.tif", values, transform, crs, 0) for key in ("red", "nir")]
    got = read(scene_item({"red": paths[0], "nir": paths[1]}))[0]
    rows, columns = np.mgrid[:480, :480]
    expected = plane(columns, rows, AREA.transform, "EPSG:3035") * 1e-4
    assert np.isfinite(got).mean() > 0.99
    assert np.nanmax(np.abs(got - expected)) < 2e-4  # one pixel to the next: 1e-4 and 0.5e-4


@pytest.mark.parametrize("name", GEOMETRIES)
def test_labels_are_read_where_they_belong(tmp_path: Path, name: str) -> None:
    crs, transform, n = placed(name)
    rows, columns = np.mgrid[:n, :n]
    codes = np.where((rows // 80 + columns // 60) % 2, 3110, 2110).astype(np.uint16)
    path = write_raster(tmp_path / "labels.tif", codes, transform, crs, 0)
    area = Area.of([TILE], 50)
    expected = np.zeros(area.shape, np.uint16)
    with rasterio.open(path) as file:
        reproject(
            rasterio.band(file, 1),
            expected,
            dst_transform=area.transform,
            dst_crs="EPSG:3035",
            resampling=Resampling.mode,
            tolerance=0,
        )
    got = label_source(LabelRule(year=2018, source="luisa", path=path)).read(area).codes
    both = (got > 0) & (expected > 0)
    assert both.mean() > 0.98
    assert (got[both] == expected[both]).mean() > 0.985  # GDAL's approximation moves borders by up to 6 m


def test_no_cloud_is_left_beside_coarse_pixels_in_degrees(tmp_path: Path) -> None:
    """A pixel of 0.0004 degrees is 28 by 44 m: the longer side counts for the margin of the mask."""
    west, _, east, north = transform_bounds("EPSG:3035", "EPSG:4326", LEFT - 300, BOTTOM - 300, RIGHT + 300, TOP + 300)
    coarse, n = Affine(0.0004, 0, west, 0, -0.0004, north), int((east - west) / 0.0004)
    classes = np.full((n, n), 4, np.uint8)
    classes[40:60, 50:80] = 9
    values = np.where(classes == 9, 9000, 2000).astype(np.uint16)
    item = scene_item(
        {
            "red": write_raster(tmp_path / "red.tif", values, coarse, "EPSG:4326", 0),
            "nir": write_raster(tmp_path / "nir.tif", values, coarse, "EPSG:4326", 0),
            "scl": write_raster(tmp_path / "scl.tif", classes, coarse, "EPSG:4326"),
        }
    )
    got = read(item)
    assert 0.8 < np.isfinite(got[0]).mean() < 0.97
    np.testing.assert_allclose(got[np.isfinite(got)], 0.2, atol=6e-5)


def test_control_points_alone_are_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    transform, (height, width) = grid(10)
    corners = [(row, column) for row in (0, height) for column in (0, width)]
    points = [GroundControlPoint(r, c, *(transform @ (c, r))) for r, c in corners]
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(
            tmp_path / "red.tif", "w", driver="GTiff", dtype="uint16", count=1, height=height, width=width, nodata=0
        ) as file,
    ):
        file.gcps = (points, rasterio.CRS.from_epsg(3035))
        file.write(dn(1500, 3500), 1)
    with pytest.raises(LulcbenchError, match=r"(?s)only ground control points and no georeference.*gdalwarp"):
        read(item)


@pytest.mark.parametrize(
    "way", ["plain", "file URL", "localhost", "percent", "literal percent", "archive", "NFC", "NFD"]
)
def test_addresses_of_files_are_understood(tmp_path: Path, way: str) -> None:
    red = dn(1500, 3500)
    folder = tmp_path / ("50%25 scène é" if way == "literal percent" else "scène é 1")
    if way in ("NFC", "NFD"):  # the catalog's form, not that of the folder
        folder = tmp_path / normalize("NFD" if way == "NFC" else "NFC", folder.name)
    item = two_bands(folder, red, dn(2500, 4500, 1))
    for key, asset in item.assets.items():
        path = Path(asset.href)
        if way == "file URL":
            asset.href = path.as_uri()
        elif way == "localhost":
            asset.href = path.as_uri().replace("file://", "file://localhost")
        elif way in ("NFC", "NFD"):
            asset.href = normalize(way, str(path))
        elif way == "percent":
            asset.href = quote(str(path))
        elif way == "archive":
            with zipfile.ZipFile(tmp_path / f"{key}.zip", "w") as packed:
                packed.write(path, path.name)
            asset.href = f"/vsizip/{tmp_path / key}.zip/{path.name}"
    if way == "archive":
        shutil.rmtree(folder)
    np.testing.assert_allclose(read(item)[0], inside(red) * 1e-4, atol=6e-5)


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory):
    """A scene in UTM over six tiles, with clouds everywhere, some across the borders of tiles; and all its pixels."""
    folder = tmp_path_factory.mktemp("mosaic")
    rng = np.random.default_rng(3)
    fine, coarse = frame(10), frame(20)
    classes = np.where(rng.random(coarse[1]) < 0.02, 9, 4).astype(np.uint8)
    paths = {
        name: write_raster(folder / f"{name}.tif", rng.integers(0, 5000, fine[1]).astype(np.uint16), fine[0], UTM, 0)
        for name in ("red", "nir")
    }
    paths["scl"] = write_raster(folder / "scl.tif", classes, coarse[0], UTM)
    scene = sentinel2.SOURCE.scene(scene_item(paths), BANDS)
    tiles = [Tile(900 + x, 650 + y) for y in range(2) for x in range(3)]
    assert Area.of(tiles, 10).bounds == BOUNDS
    alone = {tile: sentinel2.SOURCE.read(scene, Area.of([tile], 10), BANDS) for tile in tiles}
    return scene, tiles, alone


@pytest.mark.slow
@settings(max_examples=6)
@given(st.sets(st.integers(0, 5), min_size=2))
def test_a_tile_is_the_same_whatever_tiles_it_is_read_with(mosaic, chosen: set[int]) -> None:
    scene, tiles, alone = mosaic
    group = [tiles[i] for i in sorted(chosen)]
    area = Area.of(group, 10)
    pixels = sentinel2.SOURCE.read(scene, area, BANDS)
    for tile in group:
        window = area.window(tile)
        np.testing.assert_array_equal(pixels.stored[(slice(None), *window)], alone[tile].stored)
        np.testing.assert_array_equal(pixels.clear[window], alone[tile].clear)
        np.testing.assert_array_equal(pixels.seen[window], alone[tile].seen)


def test_clouds_beyond_the_border_of_a_tile_widen_its_mask(tmp_path: Path) -> None:
    """The pixels of the cloud are beyond the border of a cell; those that interpolation reaches are not."""
    transform, shape = grid(20)
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    classes = np.full(shape, 4, np.uint8)
    classes[:, 19] = 9  # the last column west of the tile
    write_raster(tmp_path / "scl.tif", classes, transform, "EPSG:3035")
    got = read(item)
    assert np.isnan(got[:, :, 0]).all()
    assert np.isfinite(got[:, :, 1:]).all()


def test_an_item_and_its_files_must_be_in_one_place(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    item.bbox = [19.9, 51.1, 20.2, 51.3]
    with pytest.raises(LulcbenchError, match=r"has the bbox \[19\.9.*red\.tif is elsewhere"):
        read(item)


@pytest.mark.parametrize("stated", [{"proj:code": "EPSG:32632"}, {"proj:epsg": 32632}])
@pytest.mark.parametrize("by", ["item", "asset"])
def test_an_item_and_its_files_must_have_one_projection(tmp_path: Path, stated: dict[str, object], by: str) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    (item.properties if by == "item" else item.assets["nir"].extra_fields).update(stated)
    with pytest.raises(LulcbenchError, match=r"is in EPSG:3035, but its catalog states EPSG:32632"):
        sentinel2.SOURCE.scene(item, BANDS)


@pytest.mark.parametrize("by", ["item", "asset"])
def test_an_item_and_its_files_must_have_one_transform(tmp_path: Path, by: str) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    table = item.properties if by == "item" else item.assets["red"].extra_fields
    own = list(grid(10)[0])[:6]
    for moved in (0, 5, -5):  # up to half a pixel, as between corners and centres
        table["proj:transform"] = [*own[:2], own[2] + moved, *own[3:5], own[5] - moved, 0, 0, 1]
        assert np.isfinite(read(item)).all()
    for wrong in ([*own[:2], own[2] + 10, *own[3:]], [*own[:4], -own[4], own[5]]):
        table["proj:transform"] = wrong
        if by == "item" and wrong[4] != own[4]:
            continue  # of files of other pixel sizes, perhaps
        with pytest.raises(LulcbenchError, match=r"states the transform \(10.*red\.tif, but the file has"):
            read(item)
    table["proj:transform"] = [1, 2, "x", 4, 5, 6]
    with pytest.raises(LulcbenchError, match="must be six or nine numbers"):
        read(item)


@pytest.mark.parametrize("by", ["item", "asset"])
def test_a_transform_of_other_pixels_is_of_the_item_alone(tmp_path: Path, by: str) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    table = item.properties if by == "item" else item.assets["red"].extra_fields
    table["proj:transform"] = list(grid(20)[0])[:6]
    if by == "item":
        assert np.isfinite(read(item)).all()
    else:
        with pytest.raises(LulcbenchError, match=r"states the transform \(20.*but the file has"):
            read(item)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    write_raster(tmp_path / "red.tif", dn(1500, 3500).astype(np.complex64), grid(10)[0], "EPSG:3035")
    with pytest.raises(LulcbenchError, match="holds complex numbers"):
        read(item)


def test_the_lattice_is_that_of_whole_tiles() -> None:
    for resolution, side in ((3, 4800), (10, 9600), (30, 28800), (50, 48000)):
        cells = [cell for cell, _, _ in Area.of([TILE], resolution).cells()]
        assert [cell.bounds[2] - cell.bounds[0] for cell in cells] == [side]
        assert all(bound % side == 0 for bound in cells[0].bounds)
    with pytest.raises(LulcbenchError, match="not on the grid"):
        list(Area((LEFT + 3, BOTTOM, RIGHT + 3, TOP), 10).cells())


def test_finer_pixels_are_averaged(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1000, 5000, (1040, 1040)).astype(np.uint16)
    transform = Affine(5, 0, LEFT - 200, 0, -5, TOP + 200)
    path = write_raster(tmp_path / "red.tif", values, transform, "EPSG:3035", 0)
    scene = sentinel2.SOURCE.scene(scene_item({"red": path}), (SENTINEL2.band("B04"),))
    got = REFLECTANCE.decode(sentinel2.SOURCE.read(scene, AREA, (SENTINEL2.band("B04"),)).stored)[0]
    means = values[40:-40, 40:-40].reshape(480, 2, 480, 2).mean(axis=(1, 3)) * 1e-4
    np.testing.assert_allclose(got, means, atol=1.1e-4)


@pytest.mark.parametrize(
    ("crs", "shift", "message"),
    [
        ("EPSG:4326", 360, r"has longitudes from 369\.\d+ to 370\.\d+ degrees"),
        ('LOCAL_CS["local",UNIT["metre",1]]', 0, "neither geographic nor projected"),
        ("EPSG:4978", 0, "neither geographic nor projected"),  # geocentric
    ],
)
def test_coordinates_that_are_not_those_of_a_map_are_refused(
    tmp_path: Path, crs: str, shift: float, message: str
) -> None:
    """Read as they are, such a map has no label anywhere, or none west of Greenwich."""
    west, south, east, north = transform_bounds("EPSG:3035", "EPSG:4326", *TILE.bounds)
    transform = from_bounds(west + shift, south, east + shift, north, 200, 200)
    path = write_raster(tmp_path / "labels.tif", np.full((200, 200), 3110, np.uint16), transform, crs, 0)
    with pytest.raises(LulcbenchError, match=message) as caught:
        label_source(LabelRule(year=2018, source="luisa", path=path)).read(Area.of([TILE], 50))
    assert caught.value.remedy


@pytest.mark.parametrize(("west", "east"), [(0, 20), (-180, 180)])
def test_edges_of_polygons_are_straight_in_their_own_projection(tmp_path: Path, west: float, east: float) -> None:
    """A parallel across the tile: in EPSG:3035 it is an arc, 100 km from its chord; the other box spans the world."""
    area = Area.of([TILE], 50)
    columns, rows = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
    to_degrees = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
    _, latitude = to_degrees.transform(*(area.transform @ (columns, rows)))
    border = float(np.median(latitude))
    shapes = [shapely.box(west, -90, east, border), shapely.box(west, border, east, 90)]
    frame = gpd.GeoDataFrame({"code": ["211", "311"]}, geometry=shapes, crs="EPSG:4326")
    for suffix, write in ((".gpkg", frame.to_file), (".parquet", frame.to_parquet)):
        path = tmp_path / f"a{suffix}"
        write(path)
        codes = VectorLabels(path, {"211": 2110, "311": 3110}, "own", None, "code").read(area).codes
        sure = np.abs(latitude - border) * 111_000 > 30  # half a pixel and more
        assert sure.mean() > 0.9
        np.testing.assert_array_equal(codes[sure], np.where(latitude > border, 3110, 2110)[sure])


def test_parquet_without_geometries_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"code": ["211"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(LulcbenchError, match=r"Cannot read .*a\.parquet"):
        VectorLabels(tmp_path / "a.parquet", {"211": 2110}, "own", None, "code").read(Area.of([TILE], 50))


def test_a_file_of_an_item_may_have_a_projection_of_its_own(tmp_path: Path) -> None:
    """By STAC, what an asset states counts, not what the item states."""
    red = dn(1500, 3500)
    item = two_bands(tmp_path, red, dn(2500, 4500))
    transform, shape = frame(20)
    item.assets["scl"].href = str(write_raster(tmp_path / "utm.tif", np.full(shape, 4, np.uint8), transform, UTM))
    item.assets["scl"].extra_fields["proj:code"] = UTM
    item.properties["proj:code"] = "EPSG:4326"
    for key in ("red", "nir"):
        item.assets[key].extra_fields["proj:code"] = "EPSG:3035"
    np.testing.assert_allclose(read(item)[0], inside(red) * 1e-4, atol=6e-5)


def test_a_map_of_the_world_covers_all_of_europe(tmp_path: Path) -> None:
    """Its edges, projected, lie beyond the western half of Europe."""
    transform, codes = Affine(0.5, 0, -180, 0, -0.5, 90), np.full((360, 720), 2110, np.uint16)
    source = label_source(
        LabelRule(year=2018, source="luisa", path=write_raster(tmp_path / "l.tif", codes, transform, "EPSG:4326"))
    )
    for tile in (Tile(620, 1000), Tile(200, 480), Tile(1400, 700)):  # Iceland, Canary Islands, Moldova
        assert (source.read(Area.of([tile], 50)).codes == 2110).all()
    with pytest.raises(LulcbenchError, match=r"has no extent in EPSG:3035"):
        source.bounds()
    europe = write_raster(tmp_path / "e.tif", codes[:80, :126], Affine(1, 0, -56, 0, -1, 73), "EPSG:4326")  # of 126°
    left, bottom, right, top = label_source(LabelRule(year=2018, source="luisa", path=europe)).bounds()
    assert left < 0 < bottom + 4e6
    assert right > 9.5e6
    assert top > 6.4e6
    item = two_bands(tmp_path, dn(1500, 3500), dn(2500, 4500))
    item.bbox = [-180, -90, 180, 90]
    scene = sentinel2.SOURCE.scene(item, BANDS)
    assert scene.touches(Tile(620, 1000).bounds)
    assert Scene.model_validate_json(scene.model_dump_json()) == scene  # as in a lock file


def test_polygons_in_another_projection_than_they_state_are_refused(tmp_path: Path) -> None:
    frame_ = gpd.GeoDataFrame({"code": ["311"]}, geometry=[shapely.box(*TILE.bounds)], crs=4326)
    frame_.to_file(tmp_path / "l.gpkg")
    labels = VectorLabels(tmp_path / "l.gpkg", {"311": 3110}, "own", None, "code")
    with pytest.raises(LulcbenchError, match=r"is in degrees \(WGS 84\), but spans 4320000"):
        labels.read(AREA)


@pytest.mark.parametrize("crs", ['LOCAL_CS["local",UNIT["metre",1]]', "EPSG:4978"])
def test_polygons_without_a_projection_of_a_map_are_refused(tmp_path: Path, crs: str) -> None:
    """As GeoPackages of an undefined system."""
    shapes = gpd.GeoDataFrame({"code": ["311"]}, geometry=[shapely.box(*TILE.bounds)], crs=crs)
    shapes.to_parquet(tmp_path / "l.parquet")
    with pytest.raises(LulcbenchError, match="has a CRS that is neither geographic nor projected"):
        VectorLabels(tmp_path / "l.parquet", {"311": 3110}, "own", None, "code").read(AREA)


def test_heights_beside_a_projection_do_not_matter(tmp_path: Path) -> None:
    red = dn(1500, 3500)
    item = two_bands(tmp_path, red, dn(2500, 4500), proj__code="EPSG:3035")
    with rasterio.open(tmp_path / "red.tif", "r+") as file:
        file.crs = "EPSG:3035+5730"
    np.testing.assert_allclose(read(item)[0], inside(red) * 1e-4, atol=6e-5)
