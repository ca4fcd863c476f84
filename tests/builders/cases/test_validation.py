"""Validation of releases against other data of the same area: on good input, and on input that lacks something."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from builders.__main__ import app
from builders.cases.validation.classes import ndvi
from builders.ingest.catalog import File, item, write
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL2
from tests.builders import world
from tests.builders.own import LUISA, luisa, raster


def run(*arguments: object) -> str:
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    assert ended.exit_code == 0, (ended.output, ended.exception)
    return ended.output


def refused(*arguments: object) -> str:
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(ended.exception, LulcbenchError), (ended.output, ended.exception)
    return str(ended.exception)


@pytest.fixture(scope="module")
def landsat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the recipe and the release ``out`` of a world whose NDVI is (0.3 − 0.2) / (0.3 + 0.2)."""
    folder = tmp_path_factory.mktemp("landsat")
    world.make(folder)
    run("build", folder / "recipe.toml", "--out", folder / "out", "--workers", "1")
    return folder


def test_classes_have_the_ndvi_of_the_scenes(landsat: Path, tmp_path: Path) -> None:
    run("validate", "classes", landsat / "out", "--figures", tmp_path, "--level", "1")
    table = pd.read_csv(tmp_path / "classes.csv")
    assert table["code"].tolist() == [1, 2, 3, 5]
    assert table["ndvi_50"].tolist() == pytest.approx([0.2] * 4, abs=1e-3)
    assert table["pixels"].sum() == 6 * 96 * 96
    assert (tmp_path / "classes.png").stat().st_size > 10_000  # without blue and green there is no picture of it


def test_classes_of_what_a_release_lacks(landsat: Path, tmp_path: Path) -> None:
    assert "no array sentinel2_2018" in refused(
        "validate", "classes", landsat / "out", "--figures", tmp_path, "--sensor", "sentinel2"
    )
    assert "no array landsat_2012" in refused(
        "validate", "classes", landsat / "out", "--figures", tmp_path, "--year", "2012"
    )
    image = np.full((1, 1, 1, 1), 0.1, np.float32)
    with pytest.raises(LulcbenchError, match="red of landsat is not among the bands nir08"):
        ndvi(image, ["nir08"], "landsat")
    with pytest.raises(LulcbenchError, match="sentinel1 has no red"):
        ndvi(image, ["VV"], "sentinel1")
    dark = np.array([[[[0.0]], [[0.0]]]], np.float32)
    assert np.isnan(ndvi(dark, ["red", "nir08"], "landsat")).all()


def series_of(folder: Path, bands: str = '"B02", "B04", "B08"', years: str = "2018") -> Path:
    """A recipe of both sensors, built. Vegetation grows to the east; one of three dates is clouded."""
    folder.mkdir()
    world.write_raster(folder / "labels.tif", *world.labels())
    items = []
    for i, day in enumerate((1, 2, 3)):
        cloudy = i == 1
        for sensor, resolution, names in (
            (world.LANDSAT, 30, ("blue", "red", "nir08")),
            (SENTINEL2, 10, ("B02", "B04", "B08")),
        ):
            transform, (height, width) = world.frame(resolution)
            east = np.linspace(0.1, 0.6, width)[None].repeat(height, 0)
            values = np.stack([np.full_like(east, 0.04), 0.2 - east / 4, east]) + (0.5 if cloudy else 0)
            dn = np.round((values + 0.2) / 2.75e-5) if sensor is world.LANDSAT else np.round(values * 1e4)
            home = folder / sensor.name / str(day)
            data = world.write_raster(home / "data.tif", dn.astype(np.uint16), transform, world.UTM, 0)
            mask = (1 << 3 if cloudy else 1 << 6) if sensor is world.LANDSAT else (9 if cloudy else 4)
            quality = np.full((height, width), mask, np.uint16)
            world.write_raster(home / "quality.tif", quality, transform, world.UTM)
            coding = (2.75e-5, -0.2, 0) if sensor is world.LANDSAT else (1e-4, 0, 0)
            files = [File("data", data, [sensor.band(name) for name in names], *coding)]
            files.append(File(str(sensor.quality_asset), home / "quality.tif"))
            when = datetime(2018, 7, day, tzinfo=UTC)
            items.append(item(f"{sensor.name}-{day}", sensor, files, (when, when)))
    write(folder, "both", "Both", items)
    text = world.RECIPE.replace('["red", "nir08"]', '["blue", "red", "nir08"]')
    more = f'[[sensors]]\nname = "sentinel2"\nbands = [{bands}]\nyears = [{years}]\n\n[[labels]]'
    (folder / "recipe.toml").write_text(text.replace("[[labels]]", more))
    return folder / "recipe.toml"


@pytest.mark.slow
def test_composites_of_two_sensors_agree_where_clouds_are_masked(tmp_path: Path) -> None:
    recipe = series_of(tmp_path / "both")
    out, figures = tmp_path / "both" / "out", tmp_path / "figures"
    assert "is missing" in refused("validate", "series", recipe, "--out", out, "--figures", figures)
    run("plan", recipe, "--out", out)
    run("search", recipe, "--out", out)
    run("validate", "series", recipe, "--out", out, "--figures", figures)
    found = json.loads((figures / "series.json").read_text())
    assert found["pixels"] > 100_000
    assert found["masked"] > 0.999
    assert found["blue_99_masked"] == pytest.approx({"sentinel2": 0.04, "landsat": 0.04}, abs=1e-3)
    # Without the masks the median of three dates is still clear; the mean would not be.
    assert found["blue_99_unmasked"] == pytest.approx({"sentinel2": 0.04, "landsat": 0.04}, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bands", "years", "what"),
    [
        ('"B02", "B04"', "2018", "B08 of sentinel2 is not among the bands B02, B04"),
        ('"B04", "B08"', "2018", "B02 of sentinel2 is not among the bands"),
        ('"B02", "B04", "B08"', "2019", "no year in common"),
    ],
)
def test_series_of_a_recipe_that_lacks_something(tmp_path: Path, bands: str, years: str, what: str) -> None:
    recipe = series_of(tmp_path / "both", bands, years)
    text = recipe.read_text()
    out = tmp_path / "both" / "out"
    # The search needs a scene of every year; the comparison is refused before it looks at pixels.
    recipe.write_text(text.replace(f"years = [{years}]", 'years = [2018]\nacquired = ["2018-01-01", "2018-12-31"]'))
    run("plan", recipe, "--out", out)
    run("search", recipe, "--out", out)
    recipe.write_text(text)
    assert what in refused("validate", "series", recipe, "--out", out, "--figures", tmp_path)


def test_series_of_one_sensor(landsat: Path, tmp_path: Path) -> None:
    said = refused("validate", "series", landsat / "recipe.toml", "--out", landsat / "out", "--figures", tmp_path)
    assert "has no sentinel2" in said


@pytest.mark.slow
def test_patches_are_compared_with_a_list(tmp_path: Path) -> None:
    """One patch of forest, and lists of it that lack something."""
    for name in ("Forest_1", "Forest_2"):
        raster(
            tmp_path / "patches" / f"{name}.tif", [100, 120, 80], dtype="uint8", pixel=600 if name[-1] == "2" else 60
        )
    options = ["--sensor", "sentinel2", "--bands", "B04,B03,B02", "--scale", "0.00107", "--date", "2018-07-02"]
    run("ingest", tmp_path / "patches", "--out", tmp_path / "site", *options, "--labels", luisa(tmp_path), *LUISA)
    root = tmp_path / "release"
    run("build", tmp_path / "site" / "recipe.toml", "--out", root, "--workers", "1")
    listing = tmp_path / "list.csv"
    command = ["validate", "patches", root, listing, "--figures", tmp_path / "figures"]
    assert "There is no list" in refused(*command)
    for text, what in (
        ("name,class\nForest_1,Forest\n", "has no column eurosat_class"),
        ("Forest_1\n", "has no column eurosat_class and no column name"),
        ("", "Cannot read"),
        ("name,eurosat_class\nForest_1,Forest\n", "has no patch Forest_2"),
        ("name,eurosat_class\nForest_1,Forest\nForest_1,River\n", "a patch twice: Forest_1"),
        ("name,eurosat_class\nForest_1,Forest\nForest_2,\n", "has no patch Forest_2"),
    ):
        listing.write_text(text)
        assert what in refused(*command)
    listing.write_text("name,eurosat_class\nForest_1,Forest\nForest_2,Forest\n")
    assert "agreement 2 of 2" in run(*command)
    table = pd.read_csv(tmp_path / "figures" / "patches.csv")
    assert table["level_4"].tolist() == [3110, 3110]
    (tmp_path / "patches" / "Forest_1.tif").unlink()
    assert "Forest_1.tif" in refused(*command)
