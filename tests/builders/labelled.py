"""Releases with unlabelled splits, without labels, and with labels of several sources; small enough for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from affine import Affine

from builders.recipe import load
from builders.stages import materialize, pack, plan, search
from builders.stages.audit import audit
from lulcbench import PredictionWriter, Release
from tests.builders import world

LEFT, BOTTOM, RIGHT, TOP = world.BOUNDS
EDGE = LEFT + 2 * 4800  # of the region to be mapped: the third column of tiles
REGIONS = f"""
[[regions]]
name = "west"
bounds = [{LEFT}, {BOTTOM}, {EDGE}, {TOP}]

[[regions]]
name = "east"
bounds = [{EDGE}, {BOTTOM}, {RIGHT}, {TOP}]
split = "map"
"""
MAPPED = world.RECIPE.replace('[[regions]]\nname = "all"\n', REGIONS).replace(
    "[split]\n", '[split]\nunlabelled = ["map"]\n'
)
IMAGERY = (
    world.RECIPE.replace(
        'name = "all"\n', f'name = "all"\nbounds = [{LEFT}, {BOTTOM}, {RIGHT}, {TOP}]\nsplit = "map"\n'
    )
    .replace('[[labels]]\nyear = 2018\nsource = "luisa"\npath = "labels.tif"\n', "")
    .replace('catalog = "catalog.json"', 'catalog = "catalog.json"\nlabels = []')
)
CORINE = """
[[labels]]
year = 2018
source = "corine"
path = "corine.tif"
licence = "CORINE-licence"

[[labels]]
name = "own"
year = 2018
source = "luisa"
path = "own.tif"
required = false
"""
SOURCES = world.RECIPE.replace("\n[pack]", CORINE + "\n[pack]")
Writer = Callable[[str, Path, str, np.ndarray], Path]


def corine() -> tuple[np.ndarray, Affine, str, int]:
    """CLC codes at 100 m."""
    codes = np.random.default_rng(1).choice([112, 211, 311, 512], (96, 48 * 3)).astype(np.int32)
    return codes, Affine(100, 0, LEFT, 0, -100, TOP), "EPSG:3035", 0


def own() -> tuple[np.ndarray, Affine, str, int]:
    """LUISA codes of the first column of tiles alone."""
    codes, *rest = world.labels()
    codes = np.where(codes == 3110, 3120, codes)
    codes[:, 96:] = 0
    return codes, *rest


def build(folder: Path, recipe: str) -> Release:
    world.make(folder, recipe)
    world.write_raster(folder / "corine.tif", *corine())
    world.write_raster(folder / "own.tif", *own())
    space = world.workspace(folder / "out")
    made = load(folder / "recipe.toml", space.scenes)
    rows = plan.plan(made, space)
    materialize.materialize(made, space, rows, search.search(made, space, rows), None)
    pack.pack(made, space, rows, None)
    found = audit(space.root)
    assert not found.problems, found.problems
    return Release.open(space.root)


def expected_labels(tile_row: pd.Series, raster: np.ndarray) -> np.ndarray:
    """The part of a 50 m raster of the whole world that a tile covers."""
    x, y = (int(tile_row["ix"]) * 4800 - LEFT) // 50, (TOP - (int(tile_row["iy"]) + 1) * 4800) // 50
    return raster[y : y + 96, x : x + 96]


def predict(path: Path, release: Release, split: str, codes: np.ndarray) -> Path:
    with PredictionWriter(path, release, split, 2018) as writer:
        for tile, values in zip(writer.info.tiles, codes, strict=True):
            writer.write(tile, values)
    return path
