"""Data that state that they are simulated make releases that state it."""

from __future__ import annotations

from pathlib import Path

import pytest
import rasterio

from builders.ingest.catalog import write
from builders.recipe import load
from builders.stages.plan import plan
from builders.stages.search import found, search
from builders.workspace import workspace
from lulcbench.errors import LulcbenchError
from tests.builders import world
from tests.builders.own import LUISA, ingest, luisa, raster

REAL = world.RECIPE.replace("simulated = true", "simulated = false")


def mark(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.update_tags(SIMULATED="true")


def test_simulated_labels_are_refused_where_the_recipe_states_the_opposite(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path / "real", REAL)
    assert plan(recipe, space)
    mark(tmp_path / "real" / "labels.tif")
    with pytest.raises(LulcbenchError, match=r"labels.tif states that it is simulated.*\n.*State simulated = true"):
        plan(recipe, space)
    recipe, space = world.make(tmp_path / "simulated")
    mark(tmp_path / "simulated" / "labels.tif")
    assert plan(recipe, space)


def test_simulated_scenes_are_refused_where_the_recipe_states_the_opposite(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path / "real", REAL)
    assert len(search(recipe, space, plan(recipe, space))) == 3
    folder = tmp_path / "real"
    paths = sorted((folder / "scenes").glob("s?.tif"))
    mark(paths[1])
    day = world.datetime(2018, 7, 2, tzinfo=world.UTC)
    bands = [world.LANDSAT.band(band) for band in world.BANDS]
    files = [world.File("data", paths[1], bands, 2.75e-5, -0.2, 0), world.File("qa_pixel", folder / "scenes/s1_qa.tif")]
    item = world.item("s1", world.LANDSAT, files, (day, day))
    assert item.properties["lulcbench:simulated"] is True
    write(folder, "world", "World", [item])
    with pytest.raises(LulcbenchError, match=r"Item s1 is simulated, but the recipe world states simulated = false"):
        search(recipe, space, plan(recipe, space))


def test_a_search_of_simulated_scenes_is_not_that_of_a_recipe_that_states_the_opposite(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    rows = plan(recipe, space)
    for path in (tmp_path / "scenes").glob("s?.tif"):
        mark(path)
    search(recipe, space, rows)
    real = recipe.model_copy(update={"simulated": False})
    with pytest.raises(LulcbenchError, match="is the result of another recipe"):
        found(real, space, rows)
    locked = recipe.model_copy(update={"lock": space.lock})
    assert len(search(locked, space, rows)) == 3
    for stage in (search, found):
        with pytest.raises(LulcbenchError, match="Item s0 is simulated"):
            stage(locked.model_copy(update={"simulated": False}), space, rows)


def test_recipes_that_simulate_state_it(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(REAL + "\n[simulate]\nseed = 1\n")
    with pytest.raises(LulcbenchError, match="state simulated = true"):
        load(path, workspace(tmp_path / "out").scenes)


def test_ingest_notices_simulated_scenes_and_labels(tmp_path: Path) -> None:
    for name, marked in (("none", ()), ("scene", ("scene",)), ("labels", ("labels",))):
        folder = tmp_path / name
        files = {"scene": raster(folder / "scenes" / "s2_20180702_B04.tif", 1500), "labels": luisa(folder)}
        for one in marked:
            mark(files[one])
        ingest(folder / "scenes", "--out", folder / "site", "--scale", "1e-4", "--labels", files["labels"], *LUISA)
        assert load(folder / "site" / "recipe.toml", folder).simulated == bool(marked)
