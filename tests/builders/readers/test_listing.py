"""Archives without a catalog: GLAD Landsat ARD and EcoDataCube, found by the names of their files."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from builders.archives import ecodatacube, glad, lister, scene_source
from builders.readers.area import Area
from builders.readers.listing import addresses
from builders.recipe import load
from builders.stages import materialize, plan, search
from builders.workspace import workspace
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.sensors import LANDSAT, REFLECTANCE
from tests import loopback
from tests.builders import world
from tests.builders.world import write_raster

RED, NIR = LANDSAT.band("red"), LANDSAT.band("nir08")
WIDTH = 600  # px of a simulated GLAD tile: its southwestern part


def write_glad(folder: Path, tile: str, number: int, red: float, nir: float, quality: np.ndarray | int = 1) -> Path:
    """A GLAD tile of constant reflectance, in the layout of the archive: 4004 px of 0.00025° with two px of overlap."""
    lon, lat = int(tile[:3]), int(tile[5:7])
    values = np.zeros((8, WIDTH, WIDTH), np.uint16)
    values[2], values[3] = round(red * 40_000), round(nir * 40_000)
    values[6], values[7] = 29_000, quality
    left, bottom = lon - 0.0005, lat - 0.0005
    at = Affine(0.00025, 0, left, 0, -0.00025, bottom + WIDTH * 0.00025)
    return write_raster(folder / tile[5:] / tile / f"{number}.tif", values, at, "EPSG:4326")


def write_season(folder: Path, band: str, span: tuple[date, date], values: np.ndarray | int) -> Path:
    """One band of an EcoDataCube season over the world."""
    left, bottom, right, top = world.BOUNDS
    shape = (int(top - bottom) // 30, int(right - left) // 30)
    name = f"{band}_landsat.ard1_p50_30m_s_{span[0]:%Y%m%d}_{span[1]:%Y%m%d}_nl_epsg.3035_v20230720.tif"
    data = np.broadcast_to(np.asarray(values, np.uint8), shape).copy()
    return write_raster(folder / name, data, Affine(30, 0, left, 0, -30, top), "EPSG:3035", 255)


TEMPLATE = "{band}_landsat.ard1_p50_30m_s_{start:%Y%m%d}_{end:%Y%m%d}_nl_epsg.3035_v20230720.tif"
SUMMER = (date(2018, 6, 25), date(2018, 9, 12))


def recipe(folder: Path, archive: str, catalog: str) -> tuple:
    text = world.RECIPE.replace('catalog = "catalog.json"\n', "")
    text = text.replace('name = "landsat"', f'name = "landsat"\narchive = "{archive}"\ncatalog = "{catalog}"')
    write_raster(folder / "labels.tif", *world.labels())
    (folder / "recipe.toml").write_text(text)
    space = workspace(folder / "out")
    return load(folder / "recipe.toml", space.scenes), space


def composites(folder: Path, archive: str, catalog: str) -> np.ndarray:
    """Reflectance ``(tile, band, y, x)`` of the summer composites of the world."""
    made, space = recipe(folder, archive, catalog)
    rows = plan.plan(made, space)
    notes = materialize.materialize(made, space, rows, search.search(made, space, rows), None)
    files = [
        space.cache / note.file for tile in sorted(notes) for a, note in notes[tile].items() if a.name == "landsat"
    ]
    return REFLECTANCE.decode(np.stack([np.load(file)[0] for file in files]))


@pytest.mark.parametrize(
    ("number", "days"),
    [
        (392, ("1997-01-01", "1997-01-16")),
        (414, ("1997-12-19", "1997-12-31")),
        (415, ("1998-01-01", "1998-01-16")),
        (886, ("2018-06-26", "2018-07-11")),
        (943, ("2020-12-18", "2020-12-31")),
    ],
)
def test_glad_intervals_have_sixteen_days_and_the_last_ends_with_the_year(number: int, days: tuple[str, str]) -> None:
    assert tuple(day.isoformat() for day in glad.interval_days(number)) == days


def test_glad_intervals_of_a_season_are_all_that_overlap_it() -> None:
    first, last = date(2017, 12, 2), date(2018, 3, 20)
    expected = [
        number
        for number in range(392, 1200)
        if glad.interval_days(number)[0] <= last and glad.interval_days(number)[1] >= first
    ]
    assert list(glad.intervals((first, last))) == expected


@pytest.mark.parametrize(("code", "clear", "seen"), [
    (0, False, False), (1, True, True), (2, True, True), (3, False, True), (4, False, True), (5, True, True),
    (6, True, True), (7, False, True), (8, False, True), (10, False, True), (11, False, True), (14, False, True),
    (15, True, True), (16, False, True), (17, False, True), (300, False, True),
])  # fmt: skip
def test_glad_quality_codes(code: int, clear: bool, seen: bool) -> None:
    quality = np.array([code], np.uint16)
    assert (glad.is_clear(quality)[0], glad.is_seen(quality)[0]) == (clear, seen)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_glad_build_finds_tiles_and_intervals_and_masks_by_their_quality_band(tmp_path: Path) -> None:
    """The world lies on both sides of 10° E. Two clear intervals of summer, a cloudy one, and others."""
    tiles = [tile for _, tile in glad.tile_names(world.BOUNDS)]
    assert tiles == ["009E_51N", "010E_51N"]
    folder = tmp_path / "tiles"
    for tile in tiles:
        whole_world(folder, tile, 886, 0.1, 0.3, 1)
        whole_world(folder, tile, 888, 0.2, 0.5, 15)
        whole_world(folder, tile, 889, 0.9, 0.9, 3)
        whole_world(folder, tile, 880, 0.7, 0.7, 1)  # spring
        whole_world(folder, tile, 909, 0.7, 0.7, 1)  # 2019
    values = composites(tmp_path, "glad", str(folder / "{lat}" / "{tile}" / "{interval}.tif"))
    assert values.shape[1:] == (2, 160, 160)
    assert np.allclose(values[:, 0], 0.15, atol=1e-4)
    assert np.allclose(values[:, 1], 0.4, atol=1e-4)


def whole_world(folder: Path, tile: str, number: int, red: float, nir: float, code: int) -> None:
    """A GLAD tile cut to the world's surroundings."""
    lon = int(tile[:3])
    at = Affine(0.00025, 0, max(lon - 0.0005, 9.9), 0, -0.00025, 51.4)
    width = round((min(lon + 1.0005, 10.3) - at.c) / 0.00025)
    values = np.zeros((8, 1600, width), np.uint16)
    values[2], values[3], values[6], values[7] = round(red * 40_000), round(nir * 40_000), 29_000, code
    write_raster(folder / tile[5:] / tile / f"{number}.tif", values, at, "EPSG:4326")


def test_clouds_of_a_glad_tile_are_missing_pixels_with_their_margin(tmp_path: Path) -> None:
    quality = np.ones((WIDTH, WIDTH), np.uint16)
    quality[:300] = 3
    write_glad(tmp_path, "010E_51N", 886, 0.1, 0.3, quality)
    (item,) = glad.items(str(tmp_path / "{lat}/{tile}/{interval}.tif"), "glad", (RED, NIR), [SUMMER], [world.BOUNDS])
    source = scene_source("glad")
    scene = source.scene(item, (RED, NIR))
    assert (scene.start[:10], scene.end[:10]) == ("2018-06-26", "2018-07-11")
    pixels = source.read(scene, Area.of([Tile(900, 649)], 30), (RED, NIR))
    assert pixels.seen.any()
    assert not pixels.clear.all()
    red = REFLECTANCE.decode(pixels.stored[0])
    assert np.allclose(red[pixels.clear & pixels.seen], 0.1, atol=1e-4)


def test_an_ecodatacube_build_reads_the_seasons_of_the_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "cube"
    write_season(folder, "red", SUMMER, 51)
    nir = np.full((320, 480), 102, np.uint8)
    nir[:32, :32] = 255
    write_season(folder, "nir", SUMMER, nir)
    for other in ((date(2018, 3, 21), date(2018, 6, 24)), (date(2019, 6, 25), date(2019, 9, 12))):
        for band in ("red", "nir"):
            write_season(folder, band, other, 200)
    values = composites(tmp_path, "ecodatacube", str(folder / TEMPLATE))
    missing = np.isnan(values[:, 0])
    assert missing.sum() == 32 * 32  # a hole in one band is missing in both
    assert np.allclose(values[:, 0][~missing], 0.2, atol=1e-4)
    assert np.allclose(values[:, 1][~missing], 0.4, atol=1e-4)


def test_a_server_gives_the_seasons_of_the_disk(tmp_path: Path) -> None:
    """And what is not on the server is not an error, as long as the year has a scene."""
    write_season(tmp_path / "cube", "red", SUMMER, 51)
    spans = [(date(2018, 3, 21), date(2018, 6, 24)), SUMMER]
    with loopback.serve(tmp_path / "cube") as url:
        (item,) = ecodatacube.items(f"{url}/{TEMPLATE}", "ecodatacube", (RED,), spans, [])
        scene = scene_source("ecodatacube").scene(item, (RED,))
    assert scene.id == "20180625_20180912"
    assert scene.assets["red"].href.startswith(url)


def test_a_season_that_is_not_in_the_archive_is_named(tmp_path: Path) -> None:
    write_season(tmp_path / "cube", "red", (date(2017, 6, 25), date(2017, 9, 12)), 51)
    made, space = recipe(tmp_path, "ecodatacube", str(tmp_path / "cube" / TEMPLATE))
    with pytest.raises(LulcbenchError, match=r"has no landsat scene of 'ecodatacube' for 2018"):
        search.search(made, space, plan.plan(made, space))


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ("cube", "lacks {band}, {start}"),
        ("{band}_{day}_{start}.tif", "has the field {day}"),
        ("{band}_{start:%Y.tif", "is not an address template"),
    ],
)
def test_an_address_that_is_not_a_template_is_refused(tmp_path: Path, catalog: str, message: str) -> None:
    made, space = recipe(tmp_path, "ecodatacube", catalog)
    rows = plan.plan(made, space)
    with pytest.raises(LulcbenchError) as error:
        search.search(made, space, rows)
    assert message in str(error.value)


def test_an_archive_that_does_not_exist_is_named() -> None:
    for name in ("sentinel3", "luisa", "../etc", "sentinel2.SOURCE"):
        with pytest.raises(LulcbenchError, match="There is no archive"):
            scene_source(name)
    assert lister("landsat") is None


def test_templates_format_dates_as_editions_write_them() -> None:
    fields = {"band": "red", "start": SUMMER[0], "end": SUMMER[1]}
    old = "lcv_{band}_landsat.glad.ard_p50_30m_0..0cm_{start:%Y.%m.%d}..{end:%Y.%m.%d}_eumap_epsg3035_v1.1.tif"
    assert addresses(old, fields) == (
        "lcv_red_landsat.glad.ard_p50_30m_0..0cm_2018.06.25..2018.09.12_eumap_epsg3035_v1.1.tif"
    )
