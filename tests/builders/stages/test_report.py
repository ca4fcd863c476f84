"""Nothing vanishes without a word: scenes and tiles that a build leaves out are counted and listed."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
import pytest
import shapely

from builders.recipe import load
from builders.stages import materialize, pack, plan, search
from builders.stages.audit import audit
from builders.stages.report import lines
from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError
from lulcbench.release import Manifest
from tests.builders import world

ALL_TRAIN = world.RECIPE.replace("train = 0.5, val = 0.25, test = 0.25", "train = 1.0")


def build(folder: Path) -> dict[str, Any]:
    """Builds the release; returns its report."""
    space = world.workspace(folder / "out")
    recipe = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(recipe, space)
    materialize.materialize(recipe, space, rows, search.search(recipe, space, rows), None)
    pack.pack(recipe, space, rows, None)
    return json.loads((space.root / "build.json").read_text())


def labelled(folder: Path, codes: dict[tuple[int, int], int | np.ndarray], recipe: str) -> None:
    """A world in which some tiles, by column and row, have other labels."""
    world.make(folder, recipe)
    values, *rest = world.labels()
    for (column, row), code in codes.items():
        values[row * 96 : row * 96 + 96, column * 96 : column * 96 + 96] = code
    world.write_raster(folder / "labels.tif", values, *rest)


@pytest.mark.slow
def test_tiles_with_coarse_few_or_no_labels_are_listed(tmp_path: Path) -> None:
    few = np.zeros((96, 96), np.int32)
    few[:20] = 2110
    labelled(tmp_path, {(0, 0): 1, (1, 0): 0, (2, 0): few}, ALL_TRAIN)
    report = build(tmp_path)
    assert {tile["id"]: tile["reason"] for tile in report["tiles"]["left_out"]} == {
        "E0900N0651": "labels coarser than stratify_level (2)",
        "E0901N0651": "no labels",
        "E0902N0651": "labelled less than min_labelled (0.5)",
    }
    assert report["tiles"]["used"] == 3
    assert report["sparse_labels"] == report["overlapping_labels"] == {"luisa_2018": 0}
    found = audit(tmp_path / "out")
    assert not found.problems
    assert found.measured["tiles left out: no labels"] == 1
    assert "tiles left out: labels coarser than stratify_level (2)" in (tmp_path / "out" / "audit.html").read_text()


@pytest.mark.slow
def test_a_region_of_coarse_labels_alone_names_the_key_of_the_recipe(tmp_path: Path) -> None:
    labelled(tmp_path, {(x, y): 1 for x in range(3) for y in range(2)}, ALL_TRAIN)
    with pytest.raises(LulcbenchError, match=r"(?s)6 labels coarser than stratify_level \(2\).*stratify_level"):
        build(tmp_path)
    text = ALL_TRAIN.replace("buffer = 0", "buffer = 0\nstratify_level = 1")
    (tmp_path / "recipe.toml").write_text(text)
    assert build(tmp_path)["tiles"] == {"used": 6, "left_out": []}


@pytest.mark.slow
def test_a_planned_list_keeps_what_it_left_out(tmp_path: Path) -> None:
    labelled(tmp_path, {(1, 0): 0}, ALL_TRAIN)
    build(tmp_path)
    listed = tmp_path / "mine.csv"
    listed.write_bytes((tmp_path / "out" / "splits.csv").read_bytes())
    (tmp_path / "recipe.toml").write_text(ALL_TRAIN.replace("block = 1", 'block = 1\nfile = "mine.csv"'))
    space = world.workspace(tmp_path / "again")
    plan.plan(load(tmp_path / "recipe.toml", space.scenes), space)
    assert [(o.tile.id, o.region, o.reason) for o in plan.read_omitted(space.splits)] == [
        ("E0901N0651", "all", "no labels")
    ]


def test_tiles_without_a_valid_pixel_and_of_the_buffer_are_listed(tmp_path: Path) -> None:
    world.make(tmp_path, world.RECIPE, scenes=0)
    _, shape = world.frame(30)
    qa = np.full(shape, world.CLEAR, np.uint16)
    qa[:, shape[1] // 2 :] = world.CLOUD
    half = world.scene(tmp_path / "scenes", "half", datetime(2018, 7, 1, tzinfo=UTC), (0.1, 0.2), qa)
    world.write(tmp_path, "world", "World", [half])
    text = ALL_TRAIN.replace('"catalog.json"', '"catalog.json"\nempty_tiles = "drop"')
    (tmp_path / "recipe.toml").write_text(text)
    report = build(tmp_path)
    assert {tile["id"]: tile["reason"] for tile in report["tiles"]["left_out"]} == {
        "E0902N0650": "no valid pixel of landsat_2018",
        "E0902N0651": "no valid pixel of landsat_2018",
    }
    rows = [plan.Planned(plan.Tile.from_id("E0900N0650"), "all", "x", plan.BUFFER)]
    from builders.stages.report import content

    (tile,) = content({"scenes": []}, rows, [], {}, {}, [], [])["tiles"]["left_out"]
    assert tile["reason"] == "in the buffer between splits"


@pytest.mark.slow
def test_every_scene_that_is_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    world.make(tmp_path)
    extra = {
        "winter": world.scene(tmp_path / "scenes", "winter", datetime(2018, 1, 9, tzinfo=UTC), (0.9, 0.9)),
        "dull": world.scene(tmp_path / "scenes", "dull", datetime(2018, 7, 9, tzinfo=UTC), (0.9, 0.9)),
        "far": world.scene(tmp_path / "scenes", "far", datetime(2018, 7, 9, tzinfo=UTC), (0.9, 0.9)),
        "unmasked": world.scene(tmp_path / "scenes", "unmasked", datetime(2018, 7, 9, tzinfo=UTC), (0.9, 0.9)),
    }
    extra["dull"].properties["eo:cloud_cover"] = 95.0
    extra["far"].bbox = [20, 50, 21, 51]
    del extra["unmasked"].assets["qa_pixel"]
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    world.write(tmp_path, "world", "World", [*catalog.get_items(recursive=True), *extra.values()])
    report = build(tmp_path)
    assert report["scenes"]["used"] == {"landsat": 3}
    assert {one["id"]: (one["reason"], one["detail"]) for one in report["scenes"]["left_out"]} == {
        "winter": ("acquired outside the seasons", "2018-01-09"),
        "dull": ("cloud cover above max_cloud", "95 %"),
        "far": ("outside the tiles", ""),
        "unmasked": ("no quality layer", "qa_pixel"),
    }
    assert json.loads((tmp_path / "out" / "scenes.lock.json").read_text())["left_out"] == report["scenes"]["left_out"]
    assert audit(tmp_path / "out").measured["scenes left out: no quality layer"] == 1
    optional = world.RECIPE.replace("years = [2018]", 'years = [2018]\nquality = "optional"')
    (tmp_path / "recipe.toml").write_text(optional)
    space = world.workspace(tmp_path / "optional")
    recipe = load(tmp_path / "recipe.toml", space.scenes)
    assert "unmasked" in [s.id for s in search.search(recipe, space, plan.plan(recipe, space))]


def test_a_year_without_a_scene_states_why_its_items_are_left_out(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path, world.RECIPE.replace("years = [2018]", "years = [2018]\nmax_cloud = 0.05"))
    with pytest.raises(LulcbenchError, match="left out: 3 cloud cover above max_cloud"):
        search.search(recipe, space, plan.plan(recipe, space))


@pytest.mark.slow
def test_audit_finds_a_tile_that_vanished(tmp_path: Path) -> None:
    """The index lost a tile, consistently; the plan still has it."""
    world.make(tmp_path, ALL_TRAIN)
    build(tmp_path)
    root = tmp_path / "out"
    text = (root / "splits.csv").read_text()
    (root / "splits.csv").write_text(text + "E0903N0650,all,E0903N0650,train\n")
    release = Manifest.load(root)
    files = tuple(
        file.model_copy(update={"bytes": p.stat().st_size, "sha256": hash_file(p)})
        for file in release.files
        for p in [root / file.path]
    )
    release.model_copy(update={"files": files}).write(root)
    problems = audit(root).problems
    assert problems == {"tiles that are left out are reported": ["E0903N0650 is planned, but not in the release"]}
    assert len(pd.read_parquet(root / "index.parquet")) == 6


@pytest.mark.slow
def test_the_command_line_states_what_is_left_out(tmp_path: Path) -> None:
    labelled(tmp_path, {(0, 0): 1}, ALL_TRAIN)
    dull = world.scene(tmp_path / "scenes", "dull", datetime(2018, 7, 9, tzinfo=UTC), (0.9, 0.9))
    dull.properties["eo:cloud_cover"] = 95.0
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    world.write(tmp_path, "world", "World", [*catalog.get_items(recursive=True), dull])
    recipe, out = str(tmp_path / "recipe.toml"), str(tmp_path / "out")
    command = [sys.executable, "-m", "builders", "build", recipe, "--out", out, "--workers", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "scenes: 3 of landsat; left out: 1 cloud cover above max_cloud\n" in ended.stdout
    assert "tiles: 5; left out: 1 labels coarser than stratify_level (2)\n" in ended.stdout


@pytest.mark.slow
def test_ground_under_overlapping_polygons_is_counted_in_report_and_audit(tmp_path: Path) -> None:
    """The second polygon covers the west of the first tile with another class."""
    world.make(tmp_path, ALL_TRAIN.replace('path = "labels.tif"', 'path = "labels.gpkg"\nfield = "code"'))
    left, bottom, right, top = world.BOUNDS
    first = shapely.box(left, top - 4800, left + 2400, top)
    polygons = [shapely.box(left, bottom, right, top), first]
    frame = gpd.GeoDataFrame({"code": [2110, 3110]}, geometry=polygons, crs="EPSG:3035")
    frame.to_file(tmp_path / "labels.gpkg")
    report = build(tmp_path)
    assert report["overlapping_labels"] == {"luisa_2018": 48 * 96}
    assert report["sparse_labels"] == {"luisa_2018": 0}
    why = "polygons of several classes overlap there"
    assert audit(tmp_path / "out").measured[f"pixels of luisa_2018 without a label: {why}"] == 48 * 96
    assert f"luisa_2018: {48 * 96} pixels are not labelled, since {why}" in lines(report)
