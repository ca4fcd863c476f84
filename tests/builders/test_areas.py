"""Regions with an area: the tiles of polygons are planned, searched and built, and are mapped as those of a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_bounds

from builders.ingest.catalog import write
from builders.recipe import load
from builders.stages import materialize, pack, plan, report, search
from lulcbench._files import hash_file
from lulcbench.areas import Area
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile, tiles_over
from lulcbench.legend import legend
from lulcbench.maps import MapOptions, ModelInfo, ModelInput, OwnModel, map_release
from lulcbench.release import Release
from lulcbench.seasons import SEASONS
from tests.builders import labelled, world
from tests.builders.test_bad_input import change, run

LEFT, BOTTOM, RIGHT, TOP = world.BOUNDS
BOUNDS = f"bounds = [{LEFT}, {BOTTOM}, {RIGHT}, {TOP}]\n"
# Two parts, one with a hole: in three of the six tiles. The first ends 100 m from the edge of a tile.
HOLE = shapely.box(LEFT + 3000, BOTTOM + 1500, LEFT + 4000, BOTTOM + 2500)
PLACE = shapely.MultiPolygon(
    [
        shapely.box(LEFT + 1000, BOTTOM + 1000, LEFT + 9500, BOTTOM + 3000) - HOLE,
        shapely.Polygon([(RIGHT - 4000, TOP - 400), (RIGHT - 400, TOP - 400), (RIGHT - 400, TOP - 4000)]),
    ]
)
TILES = [Tile(900, 650), Tile(901, 650), Tile(902, 651)]

LANDSAT = ModelInput(resolution=30, bands=("red", "nir08"), seasons=(SEASONS[2],), mean=(0.08, 0.3), std=(0.03, 0.1))
INFO = ModelInfo(
    name="around", architecture="mean", dense=True, inputs={"landsat": LANDSAT}, classes=legend().names(1), level=1,
    legend_digest=legend().digest, temperature=1, reach=2, training_digest="0" * 64, simulated=True,
    sha256="0" * 64,
)  # fmt: skip


def make(
    folder: Path, area: str = 'path = "place.gpkg"', crs: str = "EPSG:25832", more: str = "", scenes: int = 0
) -> None:
    """The small world without labels, with scenes that clouds cover here and there, and a recipe of an area."""
    folder.mkdir()
    shapes = {"NUTS_ID": ["XX1", "XX2"], "geometry": [PLACE, HOLE]}
    geopandas.GeoDataFrame(shapes, crs="EPSG:3035").to_crs(crs).to_file(folder / "place.gpkg")
    rng, (_, shape) = np.random.default_rng(0), world.frame(30)
    items = []
    for i in range(scenes):
        clouds = (rng.random((shape[0] // 25 + 1, shape[1] // 25 + 1)) < 0.4).repeat(25, axis=0).repeat(25, axis=1)
        quality = np.where(clouds[: shape[0], : shape[1]], world.CLOUD, world.CLEAR)
        day = datetime(2018, 7, 1 + i, tzinfo=UTC)
        items.append(world.scene(folder / "scenes", f"s{i}", day, (0.04 * (i + 1), 0.3), quality))
    write(folder, "world", "World", items)
    (folder / "recipe.toml").write_text(labelled.IMAGERY.replace(BOUNDS, f"area = {{ {area} }}\n{more}"))


def planned(folder: Path) -> list[Tile]:
    space = world.workspace(folder / "out")
    return [row.tile for row in plan.plan(load(folder / "recipe.toml", space.scenes), space)]


def build(folder: Path) -> Release:
    """A build without its audit."""
    space = world.workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    pack.pack(recipe, space, rows, None)
    return Release.open(space.root)


def around(images: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities of two classes from the mean red of 5 × 5 pixels."""
    red = np.pad(images["landsat"][0], 2)
    rows, columns = (n - 4 for n in red.shape)
    near = sum(red[y : y + rows, x : x + columns] for y in range(5) for x in range(5))
    first = 1 / (1 + np.exp(-4 * near / 25))
    return np.stack([first, 1 - first, *[np.zeros_like(first)] * (len(legend().codes(1)) - 2)]).astype(np.float32)


def test_an_area_is_built_and_mapped_as_that_part_of_the_whole(tmp_path: Path) -> None:
    make(tmp_path / "part", 'path = "place.gpkg", codes = ["XX1"], margin = 330', scenes=3)
    release = build(tmp_path / "part")
    told = report.lines(json.loads((Path(release.root) / report.FILE).read_text()))
    assert "area of all: NUTS_ID XX1 of place.gpkg" in list(told)
    own = {Tile(int(ix), int(iy)) for ix, iy in release.index()[["ix", "iy"]].to_numpy()}
    assert own == {*TILES, Tile(902, 650)}  # with one that is less than 330 m from the area
    recorded = {
        "file": "place.gpkg", "sha256": hash_file(tmp_path / "part" / "place.gpkg"), "margin": 330.0,
        "column": "NUTS_ID", "codes": ["XX1"],
    }  # fmt: skip
    for name in ("scenes.lock.json", "build.json"):
        assert json.loads((Path(release.root) / name).read_text())["areas"] == {"all": recorded}
    lines = (Path(release.root) / "splits.csv").read_text().splitlines()
    assert [json.loads(line.partition(": ")[2]) for line in lines if line.startswith("# area all: ")] == [recorded]

    make(tmp_path / "whole", scenes=3)
    (tmp_path / "whole" / "recipe.toml").write_text(labelled.IMAGERY)
    build(tmp_path / "whole")
    area = Area.read(tmp_path / "part" / "place.gpkg", ["XX1"])
    maps = {}
    for name in ("part", "whole"):
        folder = tmp_path / f"map-{name}"
        map_release(OwnModel(around, INFO), str(tmp_path / name / "out"), folder, MapOptions((2018,), area=area))
        with xr.open_zarr(folder, group="2018/0", consolidated=False, mask_and_scale=False) as opened:
            maps[name] = opened.load()
    xr.testing.assert_identical(maps["part"], maps["whole"])
    mapped = maps["part"]
    corner = Affine(30, 0, float(mapped.x[0]) - 15, 0, -30, float(mapped.y[0]) + 15)
    inside = rasterize([area.geometry], mapped.class_1.shape, transform=corner) == 1
    np.testing.assert_array_equal(mapped.class_1 > 0, inside & (mapped.composites > 0))
    assert int((mapped.class_1 > 0).sum()) > 0.6 * inside.sum() > 0.55 * PLACE.area / 900
    assert len(np.unique(mapped.probability)) > 20


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:25832", "EPSG:3035"])
def test_only_tiles_that_hold_some_of_the_area_are_planned(tmp_path: Path, crs: str) -> None:
    make(tmp_path / "w", crs=crs)
    expected = [tile for tile in tiles_over(world.BOUNDS) if PLACE.intersection(shapely.box(*tile.bounds)).area > 1]
    assert expected == TILES
    assert sorted(planned(tmp_path / "w")) == TILES


def test_a_year_without_imagery_and_what_is_outside_are_told(tmp_path: Path) -> None:
    """Of 2017 there is no scene, and the release ends in the middle of the area."""
    make(tmp_path / "w", more=BOUNDS.replace(str(RIGHT), str(LEFT + 4800)), scenes=1)
    change(tmp_path / "w", "years = [2018]", "years = [2017, 2018]\nrequired = false")
    build(tmp_path / "w")
    options = MapOptions((2018, 2017, 2018), area=Area("place", PLACE))
    result = map_release(OwnModel(around, INFO), str(tmp_path / "w" / "out"), tmp_path / "map", options)
    assert result.years == (2017, 2018)
    assert result.mapped[2017] == 0
    with xr.open_zarr(tmp_path / "map", group="2018/0", consolidated=False, mask_and_scale=False) as mapped:
        assert result.mapped[2018] == pytest.approx(int((mapped.class_1 > 0).sum()) * 900 / PLACE.area)
    assert 0.05 < result.mapped[2018] < 0.4
    assert json.loads((tmp_path / "map" / "zarr.json").read_text())["attributes"]["years"] == [2017, 2018]


def test_bounds_cells_and_files_of_an_area(tmp_path: Path) -> None:
    make(tmp_path / "w", more=BOUNDS)
    assert sorted(planned(tmp_path / "w")) == TILES
    change(tmp_path / "w", str(RIGHT), str(LEFT + 9600))
    assert sorted(planned(tmp_path / "w")) == TILES[:2]
    change(tmp_path / "w", BOUNDS.replace(str(RIGHT), str(LEFT + 9600)), BOUNDS + "cells = 1\n")
    assert sorted(planned(tmp_path / "w")) == TILES  # three regions of one tile
    kept = (tmp_path / "w" / "out.work" / "splits.csv").read_text()
    assert kept.count("# area all-") == 3
    change(tmp_path / "w", "place.gpkg", "other.gpkg")
    (tmp_path / "w" / "place.gpkg").rename(tmp_path / "w" / "other.gpkg")
    geopandas.GeoDataFrame(geometry=[HOLE], crs="EPSG:3035").to_file(tmp_path / "w" / "other.gpkg", layer="place")
    assert planned(tmp_path / "w") == TILES[:1]  # the file is another one


def test_scenes_are_those_of_the_tiles(tmp_path: Path) -> None:
    """A scene over a tile that the area leaves out is within the extent of the tiles, but is not used."""
    make(tmp_path / "w")
    items = [world.scene(tmp_path / "w" / "scenes", "far", datetime(2018, 7, 9, tzinfo=UTC), (0.1, 0.3))]
    inside = shapely.box(*Tile(900, 651).bounds).buffer(-900)
    degrees = shapely.box(*transform_bounds("EPSG:3035", "EPSG:4326", *inside.bounds))
    items[0].bbox, items[0].geometry = list(degrees.bounds), shapely.geometry.mapping(degrees)
    write(tmp_path / "w", "world", "World", items)
    recipe = load(tmp_path / "w" / "recipe.toml", tmp_path)
    space = world.workspace(tmp_path / "w" / "out")
    with pytest.raises(LulcbenchError, match="left out: 1 outside the tiles; the first is "):
        search.search(recipe, space, plan.plan(recipe, space))


def nothing(folder: Path) -> None:
    (folder / "place.gpkg").unlink()


def no_code(folder: Path) -> None:
    change(folder, "XX1", "XX3")


def pinned(folder: Path) -> None:
    change(folder, '"place.gpkg"', f'"place.gpkg", sha256 = "{"0" * 64}"')


def elsewhere(folder: Path) -> None:
    change(folder, "area = {", "bounds = [4400000, 3120000, 4409600, 3129600]\narea = {")


def taken(folder: Path) -> None:
    text = f'name = "first"\nbounds = [{LEFT}, {BOTTOM}, {RIGHT}, {TOP}]\nsplit = "map"\n\n[[regions]]\nname = "all"\n'
    change(folder, 'name = "all"\n', text)


def misspelt(folder: Path) -> None:
    change(folder, "codes", "code")


def no_area(folder: Path) -> None:
    change(folder, 'area = { path = "place.gpkg", codes = ["XX1"] }\n', "")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nothing, r"place\.gpkg does not exist"),
        (no_code, r"no NUTS_ID XX3.*It has XX1, XX2"),
        (pinned, r"has SHA-256 \w{64}, the recipe pins 0000"),
        (elsewhere, r"Region 'all' .* has no tile: none is inside its area place\.gpkg"),
        (taken, r"Region 'all' .* has no tile: its 3 tiles are of regions before it"),
        (misspelt, r"regions\.0\.area\.code: unknown key"),
        (no_area, r"needs bounds or an area"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_area_that_cannot_be_planned_is_an_error(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "w", 'path = "place.gpkg", codes = ["XX1"]')
    spoil(tmp_path / "w")
    with pytest.raises(LulcbenchError, match=f"(?s){message}") as error:
        run(tmp_path / "w", "plan")
    assert error.value.remedy
    assert not (tmp_path / "w" / "out.work" / "splits.csv").exists()
