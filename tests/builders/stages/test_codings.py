"""Each band's own coding, from scenes to samples: decibels, floats with NaN and bytes, built by the real stages."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pystac
import pytest
import torch
import zarr
from affine import Affine

from builders.ingest.catalog import File, item, write
from builders.readers.radiometry import Scaling, Scalings
from builders.readers.source import RasterSource
from builders.recipe import load
from builders.stages import materialize, pack, plan, search
from builders.stages.audit import audit
from lulcbench import LuisaSeg
from lulcbench.grid import Tile, tiles_over
from lulcbench.release import ArrayKey, Manifest
from lulcbench.sensors import SENSORS, Band, Coding, Sensor
from tests.builders import world

ELEVATION = Sensor(
    "glo30", 30, (Band("elevation", None, 30, "dem", "m", Coding("float32", 1, 0, "NaN")),), None, "cop-dem-glo-30"
)
COVER = Sensor(
    "cover",
    10,
    tuple(Band(name, None, 10, name, "1", Coding("uint8", 1 / 250, 0, 255)) for name in ("tree", "grass")),
    None,
    "cover-fractions",
)
NAMES = ("sentinel1", "glo30", "cover")
EMPTY = Tile(902, 651)  # no scene shows anything there

RULES = """
[[sensors]]
name = "sentinel1"
bands = ["VH", "VV"]
years = [2018]
required = false

[[sensors]]
name = "glo30"
bands = ["elevation"]
years = [2018]
required = false

[[sensors]]
name = "cover"
bands = ["tree", "grass"]
years = [2018]
required = false

[[labels]]
"""


@pytest.fixture(scope="module")
def registered() -> Iterator[None]:
    """Two sensors that only these tests know, each with its archive."""

    def scalings(item: pystac.Item, chosen: Mapping[Band, object]) -> Scalings:
        return Scalings(dict.fromkeys(chosen, Scaling(1, 0)))

    def clear(quality: np.ndarray) -> np.ndarray:
        return np.ones(quality.shape, bool)

    with pytest.MonkeyPatch.context() as patch:
        for sensor in (ELEVATION, COVER):
            source = RasterSource(sensor, scalings, clear, clear, 0, cloudless=lambda scene: True)
            patch.setitem(SENSORS, sensor.name, sensor)
            patch.setitem(sys.modules, f"builders.archives.{sensor.name}", SimpleNamespace(SOURCE=source))
        yield


def truth(name: str, date: int) -> np.ndarray:
    """Values ``(band, y, x)`` of a sensor over the world, in its unit; NaN where nothing is seen.

    Slopes rise with the date, so that the median of three is the middle one.
    """
    sensor = SENSORS[name]
    left, bottom, right, top = world.BOUNDS
    height, width = (top - bottom) // sensor.resolution, (right - left) // sensor.resolution
    y, x = np.mgrid[:height, :width]
    y, x = y / height, x / width
    if name == "sentinel1":
        values = np.stack([-22 + 9 * x + date, -14 + 9 * y + date])
    elif name == "glo30":
        values = np.stack([-4.5 + 900 * x * y + 10 * date])  # below the sea's level at an edge
    else:
        values = np.stack([0.5 * x + 0.1 * date, 0.5 * y + 0.1 * date])
    values[:, 20:40, 30:90] = np.nan
    empty = EMPTY.bounds
    rows = slice((top - empty[3]) // sensor.resolution, (top - empty[1]) // sensor.resolution)
    values[:, rows, (empty[0] - left) // sensor.resolution : (empty[2] - left) // sensor.resolution] = np.nan
    return values


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, registered: None) -> Path:
    folder = tmp_path_factory.mktemp("codings")
    text = world.RECIPE.replace("[[labels]]\n", RULES, 1).replace("shard_tiles = 2", "shard_tiles = 1")
    world.make(folder, text)
    items = list(pystac.Catalog.from_file(str(folder / "catalog.json")).get_items(recursive=True))
    for name in NAMES:
        sensor = SENSORS[name]
        grid = Affine(sensor.resolution, 0, world.BOUNDS[0], 0, -sensor.resolution, world.BOUNDS[3])
        for date in range(3):
            values = truth(name, date)
            if name == "sentinel1":  # in the archive's order of bands and as linear power
                values = 10 ** (values[::-1] / 10)
            files = []
            for band, plane in zip(sensor.bands, values, strict=True):
                path = folder / "scenes" / f"{name}-{date}-{band.asset}.tif"
                world.write_raster(path, plane.astype(np.float32), grid, "EPSG:3035")
                files.append(File(band.asset, path, (band,)))
            day = datetime(2018, 7, 1 + date, tzinfo=UTC)
            items.append(item(f"{name}-{date}", sensor, files, (day, day)))
    write(folder, "world", "World", items)
    space = world.workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    pack.pack(recipe, space, rows, None)
    return space.root


def expected(name: str, tile: str) -> np.ndarray:
    """Median values of a tile ``(season, band, y, x)``."""
    resolution = SENSORS[name].resolution
    left, _, _, top = Tile.from_id(tile).bounds
    row, column = (world.BOUNDS[3] - top) // resolution, (left - world.BOUNDS[0]) // resolution
    n = 4800 // resolution
    return truth(name, 1)[None, :, row : row + n, column : column + n]


def dataset(root: Path, name: str, split: str = "train", **options: object) -> LuisaSeg:
    return LuisaSeg(root, split, name, window=None, flatten=False, mask_resolution="label", **options)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_stored_as_the_band_says(root: Path, name: str) -> None:
    coding, release = SENSORS[name].coding, Manifest.load(root)
    assert release.sensor(name).coding == coding
    array = zarr.open_array(root / f"{name}_2018", mode="r")
    assert array.dtype == coding.dtype
    np.testing.assert_array_equal(array.fill_value, coding.fill_value)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_values_to_half_a_step(root: Path, name: str) -> None:
    step = SENSORS[name].coding.scale if name != "glo30" else 1e-3
    for split in ("train", "val", "test"):
        values = dataset(root, name, split, normalize=False)
        for i, tile in enumerate(values.tiles["id"]):
            image, right = values[i]["image"].numpy(), expected(name, tile)
            np.testing.assert_allclose(image, np.nan_to_num(right, nan=0), atol=0.51 * step)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_the_train_tiles(root: Path, name: str) -> None:
    train = dataset(root, name)
    values = np.stack([expected(name, tile) for tile in train.tiles["id"]])
    stated = train.release.manifest.sensor(name).statistics
    step = SENSORS[name].coding.scale if name != "glo30" else 1e-2
    np.testing.assert_allclose(stated.mean, np.nanmean(values, axis=(0, 1, 3, 4)), atol=0.1 * step)
    np.testing.assert_allclose(stated.std, np.nanstd(values, axis=(0, 1, 3, 4)), atol=0.1 * step)
    assert stated.pixels == np.isfinite(values[:, :, 0]).sum()


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_normalised_here_and_on_the_device_alike(root: Path, name: str) -> None:
    host, device = dataset(root, name), dataset(root, name, normalize="device")
    info = host.release.manifest.sensor(name)
    mean, std = (np.array(part)[:, None, None] for part in (info.statistics.mean, info.statistics.std))
    every = range(len(host))
    image = host.read(every)["image"]
    right = np.stack([(expected(name, tile) - mean) / std for tile in host.tiles["id"]])
    step = 0.51 * info.coding.scale / min(info.statistics.std) if name != "glo30" else 1e-4
    np.testing.assert_allclose(image.numpy(), np.nan_to_num(right, nan=0), atol=step)
    batch = device.read(every)
    assert batch["image"].is_floating_point() == (name == "glo30")
    torch.testing.assert_close(device.finish(batch)["image"], image)
    back = host.normalizers[name].denormalize(image)
    np.testing.assert_allclose(back, right * std + mean, atol=0.52 * info.coding.scale)


def test_sensors_of_all_codings_come_in_one_sample(root: Path) -> None:
    both = LuisaSeg(root, sensors=("landsat", *NAMES), window=None, normalize="device")
    images = both.finish(both[0])["image"]
    assert {name: image.dtype for name, image in images.items()} == dict.fromkeys(("landsat", *NAMES), torch.float32)
    assert {name: tuple(image.shape) for name, image in images.items()} == {
        "landsat": (2, 160, 160), "sentinel1": (2, 480, 480), "glo30": (1, 160, 160), "cover": (2, 480, 480)
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_tile_without_a_value_has_no_file_and_reads_as_nodata(root: Path, name: str) -> None:
    release = Manifest.load(root)
    assert EMPTY in tiles_over(world.BOUNDS)
    for split in release.splits:
        values = dataset(root, name, split, normalize=False)
        rows = values.tiles.index[values.tiles["id"] == EMPTY.id]
        if len(rows):
            break
    files = [file.path for file in release.files if file.split == split and file.array == ArrayKey(name, 2018)]
    shards = [path for path in files if "/c/" in path]
    assert len(shards) == release.splits[split] - 1  # type: ignore[index]
    assert (values[int(rows[0])]["image"] == 0).all()


@pytest.mark.slow
def test_the_audit_finds_nothing(root: Path) -> None:
    found = audit(root)
    assert not found.problems
    assert found.checked["statistics of train"] == 4


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_drawn_of_any_coding(root: Path, name: str) -> None:
    values = dataset(root, name)
    axis = values.plot(values[0]).axes[0]
    shown = axis.images[0].get_array()
    assert shown is not None
    assert 0.2 < float(np.mean(shown)) < 0.8
