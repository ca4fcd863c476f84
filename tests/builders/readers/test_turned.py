"""Grids that are turned against that of tiles, as UTM far from 10° E: compared with NumPy at coordinates of pyproj."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer
from rasterio import warp
from scipy.ndimage import gaussian_filter, map_coordinates

from builders.archives import label_source, sentinel2
from builders.readers.area import Area
from builders.readers.scene import Asset
from builders.readers.warp import read_classes, read_stored
from builders.recipe import LabelRule
from lulcbench.grid import Tile
from lulcbench.sensors import REFLECTANCE
from tests.builders.readers.scenes import BANDS, scene_item
from tests.builders.world import write_raster

PLACES = {"Finland": (27.0, 64.0, 32635), "Portugal": (-8.5, 40.0, 32629), "Iceland": (-20.0, 65.0, 32627)}
INNER = (slice(2, -2), slice(2, -2))


def tile_at(name: str) -> Tile:
    longitude, latitude, _ = PLACES[name]
    east, north = Transformer.from_crs(4326, 3035, always_xy=True).transform(longitude, latitude)
    return Tile(int(east // 4800), int(north // 4800))


def area_at(name: str, resolution: int) -> Area:
    """A quarter of the tile along each side, which is quicker to compare."""
    left, bottom, _, _ = tile_at(name).bounds
    return Area((left, bottom, left + 1200, bottom + 1200), resolution)


def utm(name: str, step: float) -> tuple[Affine, tuple[int, int], str]:
    """A grid of UTM over the tile with a margin."""
    left, bottom, right, top = tile_at(name).bounds
    crs = f"EPSG:{PLACES[name][2]}"
    xs, ys = Transformer.from_crs(3035, crs, always_xy=True).transform(
        [left, right, left, right], [bottom, bottom, top, top]
    )
    west, north = step * (min(xs) // step - 10), step * (max(ys) // step + 10)
    shape = (int((north - min(ys)) // step) + 10, int((max(xs) - west) // step) + 10)
    return Affine(step, 0, west, 0, -step, north), shape, crs


def positions(name: str, area: Area, transform: Affine, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (of centres: whole numbers) in a raster of parts of the pixels of an area."""
    height, width = (n * parts for n in area.shape)
    step = area.resolution / parts
    x, y = np.meshgrid(
        area.bounds[0] + (np.arange(width) + 0.5) * step, area.bounds[3] - (np.arange(height) + 0.5) * step
    )
    east, north = Transformer.from_crs(3035, PLACES[name][2], always_xy=True).transform(x, y)
    columns, rows = ~transform @ (east, north)
    return rows - 0.5, columns - 0.5


def within(values: np.ndarray, name: str, area: Area, transform: Affine, parts: int = 20) -> np.ndarray:
    """Values at parts of the pixels of an area: ``(y, x, part)``."""
    rows, columns = (np.rint(at).astype(int) for at in positions(name, area, transform, parts))
    height, width = area.shape
    blocks = values[rows, columns].reshape(height, parts, width, parts).swapaxes(1, 2)
    return blocks.reshape(height, width, -1)


@pytest.mark.parametrize("name", PLACES)
def test_pixels_are_interpolated_between_four_and_not_blurred(tmp_path: Path, name: str) -> None:
    area = area_at(name, 30)
    transform, shape, crs = utm(name, 30)
    values = np.random.default_rng(0).integers(1000, 5000, shape).astype(np.uint16)
    asset = Asset(href=str(write_raster(tmp_path / "red.tif", values, transform, crs, 0)), scale=1e-4)
    got = REFLECTANCE.decode(read_stored([asset], [1], area, None, REFLECTANCE)[0])
    expected = 1e-4 * map_coordinates(values.astype(float), positions(name, area, transform), order=1)
    error = (got - expected)[INNER]
    assert error.std() < 0.1 * expected.std()  # of what GDAL's approximation of coordinates is the cause
    assert 0.9 < got.std() / expected.std() < 1.1


@pytest.mark.parametrize("name", PLACES)
def test_no_cloud_is_left_beside_pixels(tmp_path: Path, name: str) -> None:
    transform, shape, crs = utm(name, 10)
    classes = np.where(np.random.default_rng(1).random(shape) < 0.01, 9, 4).astype(np.uint8)
    values = np.where(classes == 9, 9000, 2000).astype(np.uint16)
    paths = {key: write_raster(tmp_path / f"{key}.tif", values, transform, crs, 0) for key in ("red", "nir")}
    item = scene_item(paths | {"scl": write_raster(tmp_path / "scl.tif", classes, transform, crs)})
    longitude, latitude, _ = PLACES[name]
    item.bbox = [longitude - 1, latitude - 1, longitude + 1, latitude + 1]
    pixels = sentinel2.SOURCE.read(sentinel2.SOURCE.scene(item, BANDS), Area.of([tile_at(name)], 10), BANDS)
    assert 0.8 < pixels.clear.mean() < 0.97
    # A little may be left where GDAL approximates coordinates; a blurred pixel has hundredths.
    np.testing.assert_allclose(REFLECTANCE.decode(pixels.stored)[:, pixels.clear], 0.2, atol=5e-3)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", PLACES)
def test_finer_pixels_are_averaged_over_the_pixel(tmp_path: Path, name: str, holes: bool) -> None:
    area = area_at(name, 30)
    transform, shape, crs = utm(name, 10)
    rng = np.random.default_rng(2)
    values = np.clip(3000 + 3000 * gaussian_filter(rng.normal(size=shape), 1), 1, 9000).astype(np.uint16)
    if holes:
        values[rng.random(shape) < 0.2] = 0
    asset = Asset(href=str(write_raster(tmp_path / "red.tif", values, transform, crs, 0)), scale=1e-4)
    got = REFLECTANCE.decode(read_stored([asset], [1], area, None, REFLECTANCE)[0])
    expected = 1e-4 * np.nanmean(within(np.where(values, values, np.nan), name, area, transform), axis=2)
    assert np.isfinite(got).mean() > 0.99
    assert np.nanstd(got - expected) < 0.05 * np.nanstd(expected)


def test_a_mean_beside_the_edge_is_of_the_pixels_inside(tmp_path: Path) -> None:
    area = Area.of([tile_at("Finland")], 30)
    transform, shape, crs = utm("Finland", 10)
    cut = transform @ Affine.translation(shape[1] / 2, shape[0] / 2)
    asset = Asset(href=str(write_raster(tmp_path / "red.tif", np.full(shape, 3000, np.uint16), cut, crs)), scale=1e-4)
    got = REFLECTANCE.decode(read_stored([asset], [1], area, None, REFLECTANCE)[0])
    assert 0.1 < np.isfinite(got).mean() < 0.5
    np.testing.assert_allclose(got[np.isfinite(got)], 0.3, atol=6e-5)


@pytest.mark.parametrize("name", PLACES)
def test_the_highest_of_finer_classes_counts(tmp_path: Path, name: str) -> None:
    area = area_at(name, 30)
    transform, shape, crs = utm(name, 10)
    values = (np.random.default_rng(3).random(shape) < 0.01).astype(np.uint8)
    asset = Asset(href=str(write_raster(tmp_path / "qa.tif", values, transform, crs)))
    got = read_classes(asset, 1, area, 0, None, lambda quality: quality)
    share = within(values, name, area, transform).mean(axis=2)
    assert got[share > 0.1].all()  # a corner may be between the places that are looked up
    assert not got[share == 0].mean() > 0.005


@pytest.mark.parametrize("step", [10, 25])
@pytest.mark.parametrize("name", PLACES)
def test_labels_are_the_majority_of_the_pixel(tmp_path: Path, name: str, step: int) -> None:
    area = area_at(name, 50)
    transform, shape, crs = utm(name, step)
    rng = np.random.default_rng(4)
    classes = np.array([1111, 2110, 3110, 5120], np.uint16)
    fields = [gaussian_filter(rng.normal(size=shape), 60 / step) for _ in classes]
    codes = classes[np.argmax(fields, axis=0)]
    path = write_raster(tmp_path / "labels.tif", codes, transform, crs, 0)
    got = label_source(LabelRule(year=2018, source="luisa", path=path)).read(area).codes
    parts = within(codes, name, area, transform)
    votes = np.stack([(parts == code).mean(axis=2) for code in classes])
    first, second = np.sort(votes, axis=0)[[-1, -2]]
    decided = first - second > 0.06
    assert decided.mean() > 0.8
    assert (got == classes[votes.argmax(axis=0)])[decided].all()


@pytest.mark.parametrize(("zone", "told"), [(32632, False), (32635, True)])
def test_sizes_of_pixels_are_stated_on_turned_grids_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: int, told: bool
) -> None:
    """Stated ones change a few values by rounding: releases of the middle of Europe keep the digests of their data."""
    area = Area((4336800.0, 3129600.0, 4338000.0, 3130800.0), 30)  # 10.2° E, where zone 32 is turned by 0.8°
    x, y = Transformer.from_crs(3035, zone, always_xy=True).transform(4337400, 3130200)
    transform = Affine(30, 0, x - 3000, 0, -30, y + 3000)
    path = write_raster(tmp_path / "red.tif", np.full((200, 200), 2000, np.uint16), transform, f"EPSG:{zone}", 0)
    seen: list[bool] = []

    def reproject(*given: object, **options: object) -> None:
        seen.append("XSCALE" in options)
        warp.reproject(*given, **options)

    monkeypatch.setattr("builders.readers.warp.reproject", reproject)
    got = read_stored([Asset(href=str(path), scale=1e-4)], [1], area, None, REFLECTANCE)
    np.testing.assert_allclose(REFLECTANCE.decode(got), 0.2, atol=1e-6)
    assert seen == [told]
