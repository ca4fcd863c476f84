"""The builder on real scenes and real labels."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.windows import from_bounds
from typer.testing import CliRunner

from builders.__main__ import app
from builders.archives import label_source
from builders.readers.area import Area
from builders.recipe import RECIPES, load
from builders.stages import plan
from builders.stages._index import class_fractions
from builders.workspace import workspace
from lulcbench.grid import Tile
from lulcbench.legend import LEVELS, corine_grid_codes, corine_to_luisa, legend
from lulcbench.release import SPLITS, ArrayKey, Manifest

pytestmark = pytest.mark.real


def run(*arguments: str | Path) -> str:
    """A command in this process, so that its warnings are errors too."""
    ended = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.fixture(scope="module")
def folder(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LULCBENCH_REAL_DATA", str(real_data))
        yield tmp_path_factory.mktemp("real")


def build(folder: Path, recipe: Path) -> Path:
    root = folder / recipe.stem
    if not root.exists():
        run("build", recipe, "--out", root, "--workers", "1")
    return root


def straight(path: Path, tile: Tile) -> dict[int, float]:
    """Class fractions of a tile at all levels, counted on the raster's own pixels."""
    with rasterio.open(path) as file:
        codes = file.read(1, window=from_bounds(*tile.bounds, transform=file.transform))
    shares = {}
    for level in LEVELS:
        for code in legend().codes(level):
            shares[int(code)] = float((codes // 10 ** (4 - level) == code).mean())
    return shares


@pytest.mark.parametrize(("name", "tiles"), [("bremen", 45), ("barcelona", 20)])
def test_luisa_tiles_have_the_fractions_of_the_raster(folder: Path, real_data: Path, name: str, tiles: int) -> None:
    path = real_data / "luisa" / f"luisa_2018_{name}_100m.tif"
    text = (RECIPES / f"luisa-{name}-sim.toml").read_text()
    only_2018 = text.replace(
        '[[labels]]\nyear = 2012\nsource = "luisa"\npath = "${SCENES}/labels/luisa_2012.tif"\n', ""
    )
    recipe_file = folder / f"plan-{name}.toml"
    recipe_file.write_text(only_2018)
    space = workspace(folder / f"plan-{name}")
    recipe = load(recipe_file, space.scenes)
    rows = plan.plan(recipe, space)
    assert len(rows) == tiles
    by = {split: [row.tile for row in rows if row.split == split] for split in SPLITS}
    assert all(by.values())
    assert not plan.near(by["train"], by["val"] + by["test"], recipe.split.buffer)
    source = label_source(recipe.labels[0])
    for row in rows:
        got = class_fractions(source.read(Area.of([row.tile], 50)).codes, ArrayKey("luisa", 2018))
        expected = straight(path, row.tile)
        assert {int(column.split("_")[2]): v for column, v in got.items()} == pytest.approx(expected, abs=1e-9)
        assert sum(expected[code] for code in legend().codes(1)) == pytest.approx(1)


def test_simulated_scenes_of_a_real_map_become_a_release(folder: Path, real_data: Path) -> None:
    """Three tiles of Barcelona: the same road as luisa-barcelona-sim, small enough for a test."""
    text = (RECIPES / "luisa-barcelona-sim.toml").read_text()
    small = "[3652800, 2059200, 3667200, 2064000]"
    text = text.replace("[3648000, 2054400, 3672000, 2073600]", small).replace("buffer = 1", "buffer = 0")
    text = text.replace("dates_per_season = 2", 'dates_per_season = 1\nyears = [2018]\nsensors = ["landsat"]')
    text = text.replace("years = [2012, 2018]", "years = [2018]")
    start = text.index('[[sensors]]\nname = "sentinel2"')
    text = text[:start] + text[text.index('[[sensors]]\nname = "landsat"') :]
    start = text.index("[[labels]]\nyear = 2012")
    text = text[:start] + text[text.index("[[labels]]\nyear = 2018") :]
    recipe = folder / "barcelona-small.toml"
    recipe.write_text(text)
    root = build(folder, recipe)
    index = pd.read_parquet(root / "index.parquet")
    assert len(index) == 3
    path = real_data / "luisa" / "luisa_2018_barcelona_100m.tif"
    for _, row in index.iterrows():
        expected = straight(path, Tile.from_id(row["id"]))
        assert {code: row[f"luisa_2018_{code}"] for code in expected} == pytest.approx(expected, abs=1e-6)
    # Built-up is brighter in red than water and forest: scenes and labels lie on one another.
    run("validate", "classes", root, "--figures", folder / "barcelona", "--level", "1")
    ndvi = pd.read_csv(folder / "barcelona" / "classes.csv").set_index("code")["ndvi_50"]
    assert ndvi[3] > ndvi[1] + 0.1


@pytest.mark.parametrize(
    ("name", "data", "patches", "agreeing"),
    [
        ("bremen-eurosat", "eurosat_on_luisa/bremen", 87, 1.0),
        ("hannover-eurosat", "eurosat_on_clc/hannover", 100, 0.95),
    ],
)
def test_real_sentinel2_on_real_labels(
    folder: Path, real_data: Path, name: str, data: str, patches: int, agreeing: float
) -> None:
    """EuroSAT's classes and the labels under its patches agree where the legends meet."""
    root = build(folder, RECIPES / f"{name}.toml")
    listing = real_data / f"{data}.csv"
    said = run("validate", "patches", root, listing, "--figures", folder / name)
    assert "level 4" in said
    table = pd.read_csv(folder / name / "patches.csv")
    assert len(table) == patches
    met = table[table["agrees"].notna()]
    assert len(met) >= 43
    assert (met["agrees"].astype(str) == "True").mean() >= agreeing
    # The list beside the data was made with rasterio alone; a tie may fall either way.
    known = table.merge(pd.read_csv(listing), on="name")
    expected = known["majority_label"]
    if "clc" in data:
        expected = expected.map(lambda code: corine_to_luisa()[corine_grid_codes()[code]])
    deepest = known[["level_4", "level_3"]].replace(0, np.nan).bfill(axis=1)["level_4"]
    assert (deepest == expected).mean() >= 0.95
    assert (known["cover"] - known["label_cover"]).abs().max() < 0.03
    assert (folder / name / "patches.png").stat().st_size > 100_000


@pytest.mark.parametrize("name", ["lanjaron", "lanjaron-vector"])
def test_real_landsat_on_real_corine(folder: Path, name: str) -> None:
    """Other projections, 60 m floating-point pixels, no quality band, CLC codes as raster and as polygons."""
    root = build(folder, RECIPES / f"{name}.toml")
    run("validate", "classes", root, "--figures", folder / name)
    ndvi = pd.read_csv(folder / name / "classes.csv").set_index("code")["ndvi_50"]
    forest, crops, urban, water = ndvi[31], ndvi[22], ndvi[11], ndvi[51]
    assert forest > crops + 0.05
    assert crops > urban + 0.1
    assert urban > water + 0.1
    release = Manifest.load(root)
    assert release.simulated is False
    mean = dict(zip(release.sensors["landsat"].band_names, release.sensors["landsat"].statistics.mean, strict=True))
    assert 0.02 < mean["blue"] < mean["nir08"] < 0.5


def test_raster_and_polygons_of_one_map_agree(folder: Path) -> None:
    tables = [
        pd.read_parquet(build(folder, RECIPES / f"{n}.toml") / "index.parquet") for n in ("lanjaron", "lanjaron-vector")
    ]
    both = tables[0].merge(tables[1], on="id", suffixes=("", "_vector"))
    assert len(both) == 18
    for code in (21, 22, 24, 31, 32, 33, 51):
        column = f"corine_2018_{code}"
        assert (both[column] - both[f"{column}_vector"]).abs().max() < 0.01


def test_two_sensors_agree_and_clouds_leave_no_trace(folder: Path) -> None:
    recipe = RECIPES / "flanders.toml"
    root = build(folder, recipe)
    run("validate", "series", recipe, "--out", root, "--figures", folder / "flanders-figures")
    found = json.loads((folder / "flanders-figures" / "series.json").read_text())
    assert found["pixels"] > 1000
    assert found["masked"] >= 0.85
    assert found["masked"] > found["unmasked"] + 0.05
    assert min(found["masked_by_season"].values()) > 0.75
    # Clouds are bright in blue: the masked composites have none, the others keep some.
    assert found["blue_99_masked"]["landsat"] < 0.15 < found["blue_99_unmasked"]["landsat"]
    assert found["blue_99_masked"]["sentinel2"] < found["blue_99_unmasked"]["sentinel2"]
