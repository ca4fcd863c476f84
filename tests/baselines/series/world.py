"""A world of dated Landsat with two classes that a network tells apart in a second, and change of known year."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from baselines.config import Config
from builders.ingest.catalog import File, item, write
from builders.recipe import load
from builders.stages import materialize, pack, plan, search
from builders.workspace import workspace
from lulcbench.sensors import LANDSAT
from tests.builders import world

YEARS = (2018, 2019, 2020)
FOREST, ARABLE = 3110, 2110
RECIPE = world.RECIPE.replace("years = [2018]", "dated = { first = 2018, last = 2020 }").replace(
    '[[labels]]\nyear = 2018\nsource = "luisa"\npath = "labels.tif"',
    "\n".join(f'[[labels]]\nyear = {year}\nsource = "luisa"\npath = "labels_{year}.tif"\n' for year in YEARS),
)


def config(root: Path, cache: Path, **sections: object) -> Config:
    """A config of few pixels and trees, with other sections."""
    content = {
        "name": "series",
        "threads": 1,
        "data": {"kind": "series", "root": str(root), "sensor": "landsat", "every": 90, "level": 1, "most": 60,
                 "cache": str(cache), "samples": {"clusters": 10, "dominance": 1.0},
                 "pseudo": {"train": 200, "val": 60, "trees": 10}},
        "model": {"kind": "lstm", "hidden": 16},
        "train": {"epochs": 4, "batch_size": 32, "lr": 0.01},
        "augment": {"dihedral": False},
    }  # fmt: skip
    parsed = Config.parse(content)
    return parsed.replace(**sections)


def maps() -> dict[int, np.ndarray]:
    """Stripes of forest and arable land of 2,400 m; in 2020 the northern fifth of the forest is arable land."""
    columns = np.arange(96 * 3) // 48 % 2
    before = np.broadcast_to(np.where(columns == 0, FOREST, ARABLE), (96 * 2, 96 * 3)).astype(np.int32)
    after = before.copy()
    top = np.arange(96 * 2) % 96 < 19
    after[top[:, None] & (before == FOREST)] = ARABLE
    return {2018: before, 2019: before, 2020: after}


def build(folder: Path) -> Path:
    """Twelve dates: forest is green all year, arable land in May alone; every third date has clouds in a part."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = maps()
    _, transform, crs, nodata = world.labels()
    for year, values in codes.items():
        world.write_raster(folder / f"labels_{year}.tif", values, transform, crs, nodata)
    frame, shape = world.frame(30)
    items = []
    rng = np.random.default_rng(0)
    # Row and column of the label map at the centre of each Landsat pixel.
    from rasterio.warp import transform as project

    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    x, y = frame.c + frame.a * columns, frame.f + frame.e * rows
    east, north = (np.array(v).reshape(shape) for v in project(world.UTM, "EPSG:3035", x.ravel(), y.ravel()))
    i = ((world.BOUNDS[3] - north) / 50).astype(int).clip(0, 191)
    j = ((east - world.BOUNDS[0]) / 50).astype(int).clip(0, 287)
    for number, (year, month) in enumerate((year, month) for year in YEARS for month in (2, 5, 7, 10)):
        forest = codes[year][i, j] == FOREST
        green = forest | (month == 5)
        red = np.where(green, 0.03, 0.18) + rng.normal(0, 0.005, shape)
        nir = np.where(green, 0.35, 0.24) + rng.normal(0, 0.01, shape)
        qa = np.full(shape, world.CLEAR, np.uint16)
        if number % 3 == 2:
            qa[: shape[0] // 2, : shape[1] // 3] = world.CLOUD
        dn = np.stack([np.rint((band + 0.2) / 2.75e-5).astype(np.uint16) for band in (red, nir)])
        name = f"s{number:02}"
        data = world.write_raster(folder / "scenes" / f"{name}.tif", dn, frame, world.UTM, 0)
        quality = world.write_raster(folder / "scenes" / f"{name}_qa.tif", qa, frame, world.UTM)
        files = [
            File("data", data, [LANDSAT.band(b) for b in world.BANDS], 2.75e-5, -0.2, 0),
            File("qa_pixel", quality),
        ]
        day = datetime(year, month, 11, 10, tzinfo=UTC)
        items.append(item(name, LANDSAT, files, (day, day), eo__cloud_cover=10.0))
    write(folder, "world", "World", items)
    (folder / "recipe.toml").write_text(RECIPE)
    space = workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    tiles = plan.plan(recipe, space)
    materialize.materialize(recipe, space, tiles, search.search(recipe, space, tiles), None)
    pack.pack(recipe, space, tiles, None)
    return space.root
