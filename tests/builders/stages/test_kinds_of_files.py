"""A recipe that names a file of another kind is refused by what the file is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import geopandas
import pytest
import shapely

from builders.recipe import load
from builders.stages import plan, search
from lulcbench.errors import LulcbenchError
from tests.builders import world


def refused(folder: Path, old: str = "", new: str = "") -> str:
    """The error of plan and search of the world's recipe, after a change."""
    (folder / "recipe.toml").write_text(world.RECIPE.replace(old, new) if old else world.RECIPE)
    space = world.workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)

    def run() -> None:
        search.search(recipe, space, plan.plan(recipe, space))

    with pytest.raises(LulcbenchError) as error:
        run()
    return error.value.what


def write_polygons(path: Path) -> None:
    """A GeoPackage under any name."""
    frame = geopandas.GeoDataFrame({"code": [1111]}, geometry=[shapely.box(*world.BOUNDS)], crs="EPSG:3035")
    frame.to_file(path.with_name("polygons.gpkg"), driver="GPKG")
    shutil.move(path.with_name("polygons.gpkg"), path)


@pytest.mark.parametrize("name", ["labels.tif", "scenes/s0.tif"], ids=["label map", "scene"])
def test_a_vector_file_is_not_read_as_a_raster(tmp_path: Path, name: str) -> None:
    world.make(tmp_path)
    write_polygons(tmp_path / name)
    assert refused(tmp_path).endswith(f"{name} is a vector file, not a raster.")


@pytest.mark.slow
@pytest.mark.parametrize("content", ['{"type": "FeatureCollection", "features": []}', "item", "folder", "raster"])
def test_what_is_not_a_catalog_is_refused(tmp_path: Path, content: str) -> None:
    world.make(tmp_path)
    path = tmp_path / "other.json"
    if content == "item":
        shutil.copy(tmp_path / "landsat-c2-l2" / "s0" / "s0.json", path)
    elif content == "folder":
        path.mkdir()
    elif content == "raster":
        shutil.copy(tmp_path / "labels.tif", path)
    else:
        json.loads(content)
        path.write_text(content)
    assert re.search(r"other\.json (is|has no) ", refused(tmp_path, "catalog.json", "other.json"))


def test_a_list_of_splits_is_text(tmp_path: Path) -> None:
    world.make(tmp_path)
    assert "labels.tif is not a text file" in refused(tmp_path, "block = 1", 'block = 1\nfile = "labels.tif"')
