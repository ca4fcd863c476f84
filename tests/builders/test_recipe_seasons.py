"""A recipe's seasons rule the simulator's dates, the composites, the series and the STAC intervals alike."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pystac
import pytest

from builders.recipe import load
from builders.stages import materialize, own_scenes, pack, plan, search
from builders.workspace import Workspace, workspace
from lulcbench.datasets import LuisaSeries

SEASONS = """
[[seasons]]
name = "dormant"
start = "10-16"
end = "04-15"

[[seasons]]
name = "growing"
start = "04-16"
end = "10-15"
"""
DAYS = {"dormant": (date(2017, 10, 16), date(2018, 4, 15)), "growing": (date(2018, 4, 16), date(2018, 10, 15))}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The tiny release cut down to Landsat of 2018, three tiles and two seasons."""
    folder = tmp_path_factory.mktemp("seasons")
    text = (Path(__file__).parents[1] / "recipes" / "tiny.toml").read_text()
    before, _, after = text.partition('[[sensors]]\nname = "sentinel2"')
    text = before + after[after.index("[[labels]]\nyear = 2018") :]
    text = text.replace("4363200, 3139200", "4358400, 3134400").replace("[2012, 2018]", "[2018]")
    text = text.replace("[simulate]", "[simulate]\nyears = [2018]\nsensors = ['landsat']\ncloudiness = 0")
    (folder / "recipe.toml").write_text(text.replace("[[sensors]]", SEASONS + "[[sensors]]", 1))
    made = workspace(folder / "out")
    recipe = load(folder / "recipe.toml", made.scenes)
    own_scenes.make(recipe, made)
    rows = plan.plan(recipe, made)
    materialize.materialize(recipe, made, rows, search.search(recipe, made, rows), None)
    pack.pack(recipe, made, rows, None)
    return made


def test_simulated_scenes_are_acquired_within_the_seasons_of_the_recipe(space: Workspace) -> None:
    items = list(pystac.Catalog.from_file(str(space.scenes / "catalog.json")).get_items(recursive=True))
    assert {item.properties["lulcbench:season"] for item in items} == set(DAYS)
    for item in items:
        first, last = DAYS[item.properties["lulcbench:season"]]
        assert item.datetime is not None
        assert first <= item.datetime.date() <= last


def test_each_scene_enters_the_composite_of_its_season(space: Workspace) -> None:
    series = LuisaSeries(space.root, sensors="landsat", year=2018, window=None, normalize=False)
    assert series.seasons == tuple(DAYS)
    image = series[0]["image"].numpy()
    assert ((image != 0).mean(axis=(1, 2, 3)) > 0.5).all()
    assert not np.array_equal(image[0], image[1])


def test_series_dates_are_the_middles_of_the_seasons(space: Workspace) -> None:
    series = LuisaSeries(space.root, sensors="landsat", year=2018)
    expected = [first + (last - first) // 2 for first, last in DAYS.values()]
    assert series.dates.astype("datetime64[D]").tolist() == expected


def test_stac_intervals_span_the_seasons(space: Workspace) -> None:
    first, last = DAYS["dormant"][0], DAYS["growing"][1]
    index = pd.read_parquet(space.root / "index.parquet")
    assert {moment.date() for moment in index["start_datetime"]} == {first}
    assert {moment.date() for moment in index["end_datetime"]} == {last}
    (interval,) = pystac.Collection.from_file(str(space.root / "collection.json")).extent.temporal.intervals
    assert [moment.date() for moment in interval if moment] == [first, last]
