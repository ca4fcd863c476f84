from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.recipe import SplitRule, load
from builders.stages import plan
from lulcbench.errors import LulcbenchError
from lulcbench.grid import Tile
from lulcbench.release import SPLITS
from tests.builders import world


@settings(max_examples=12, deadline=None)
@given(
    width=st.integers(3, 10),
    height=st.integers(1, 6),
    block=st.integers(1, 4),
    buffer=st.integers(0, 2),
    seed=st.integers(0, 99),
    corner=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_splits_keep_their_distance(
    width: int, height: int, block: int, buffer: int, seed: int, corner: tuple[int, int]
) -> None:
    tiles = [Tile(corner[0] + x, corner[1] + y) for x in range(width) for y in range(height)]
    counts = np.random.default_rng(seed).integers(0, 50, (len(tiles), 5)) + 1
    rule = SplitRule(block=block, buffer=buffer, seed=seed)
    with mock.patch.object(plan, "PROPOSALS", 2):  # the distance holds however short the search
        splits = plan.assign(tiles, counts, rule)
        assert splits == plan.assign(tiles, counts, rule)
    by = {name: [t for t, s in zip(tiles, splits, strict=True) if s == name] for name in SPLITS}
    for a in SPLITS:
        for b in SPLITS:
            if a != b:
                apart = [max(abs(t.ix - o.ix), abs(t.iy - o.iy)) for t in by[a] for o in by[b]]
                assert min(apart, default=99) > buffer
                assert not {t.block(block) for t in by[a]} & {t.block(block) for t in by[b]}


def test_class_shares_are_alike_in_all_splits() -> None:
    """A gradient of classes from west to east: a random assignment of so few blocks would miss it."""
    tiles = [Tile(x, y) for x in range(16) for y in range(8)]
    counts = np.array([[16 - t.ix, t.ix] for t in tiles])
    splits = plan.assign(tiles, counts, SplitRule(block=2, buffer=0))
    share = {}
    for name in SPLITS:
        mine = counts[[s == name for s in splits]].sum(axis=0)
        share[name] = mine[0] / mine.sum()
    assert max(share.values()) - min(share.values()) < 0.05
    assert abs(splits.count("train") / len(splits) - 0.7) < 0.05


def test_plan_is_written_kept_and_read(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    rows = plan.plan(recipe, space)
    assert len(rows) == 6
    assert {row.split for row in rows} == set(SPLITS)
    before = space.splits.stat().st_mtime_ns
    assert plan.plan(recipe, space) == rows == plan.read(space.splits)
    assert space.splits.stat().st_mtime_ns == before


def test_changed_labels_are_planned_again(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    plan.plan(recipe, space)
    key = space.splits.read_text().splitlines()[0]
    labels = tmp_path / "labels.tif"
    labels.write_bytes(labels.read_bytes() + b"\0")
    plan.plan(recipe, space)
    assert space.splits.read_text().splitlines()[0] != key


def test_another_edition_of_the_labels_is_refused(tmp_path: Path) -> None:
    world.make(tmp_path)
    (tmp_path / "recipe.toml").write_text(world.RECIPE.replace("year = 2018", f'year = 2018\nsha256 = "{"0" * 64}"'))
    space = world.workspace(tmp_path / "out")
    with pytest.raises(LulcbenchError, match=r"labels\.tif has SHA-256 .* pins 0000"):
        plan.plan(load(tmp_path / "recipe.toml", tmp_path), space)


def test_empty_split_is_an_error_and_leaves_no_plan(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path, world.RECIPE.replace("block = 1", "block = 10"))
    with pytest.raises(LulcbenchError, match="is empty"):
        plan.plan(recipe, space)
    assert not space.splits.exists()


def test_region_off_the_map_says_where_the_map_is(tmp_path: Path) -> None:
    text = world.RECIPE.replace('name = "all"', 'name = "all"\nbounds = [9.0, 52.0, 12.0, 54.0]\nwhole = false')
    recipe, space = world.make(tmp_path, text)
    with pytest.raises(LulcbenchError, match=r"no tile with labels.*4320000"):
        plan.plan(recipe, space)


def test_committed_list_is_used_and_checked(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    rows = plan.plan(recipe, space)
    listed = tmp_path / "mine.csv"
    listed.write_text(space.splits.read_text().replace(",train", ",val", 1))
    text = world.RECIPE.replace("block = 1", 'block = 1\nfile = "mine.csv"')
    again = plan.plan(*world.make(tmp_path, text))
    assert again != rows
    assert again == plan.read(listed)
    listed.write_text(listed.read_text().replace(",val", ",De v"))
    with pytest.raises(LulcbenchError, match="is 'De v', which is not a name"):
        plan.read(listed)


def test_the_buffer_of_a_committed_list_is_stated(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    plan.plan(recipe, space)
    listed = tmp_path / "mine.csv"
    text = world.RECIPE.replace("block = 1", 'block = 1\nfile = "mine.csv"')
    for line, stated in (("# buffer 3\n", 3), ("", 0)):  # the recipe's, if the list states none
        listed.write_text(space.splits.read_text().replace("# buffer 0\n", line))
        _, other = world.make(tmp_path / "other", world.RECIPE)
        (tmp_path / "recipe.toml").write_text(text)
        plan.plan(load(tmp_path / "recipe.toml", other.scenes), other)
        assert f"# buffer {stated}\n" in other.splits.read_text()
    listed.write_text(space.splits.read_text().replace("# buffer 0", "# buffer x"))
    with pytest.raises(LulcbenchError, match="damaged line"):
        plan.plan(load(tmp_path / "recipe.toml", other.scenes), other)


def test_regions_of_a_committed_list_cannot_be_chosen(tmp_path: Path) -> None:
    world.make(tmp_path)
    (tmp_path / "recipe.toml").write_text(world.RECIPE.replace("block = 1", 'block = 1\nfile = "mine.csv"'))
    with pytest.raises(LulcbenchError, match=r"takes its tiles from .*mine\.csv"):
        load(tmp_path / "recipe.toml", tmp_path, regions=["all"])


def test_buffer_holds_across_regions() -> None:
    rows = [plan.Planned(Tile(5, 5), "a", "x", "train"), plan.Planned(Tile(6, 5), "b", "y", "test")]
    kept = plan._rebuffer(rows, ["train", "test"], 1)
    assert [row.split for row in kept] == [plan.BUFFER, "test"]
    assert [row.split for row in plan._rebuffer([replace(rows[0]), rows[1]], ["train", "test"], 0)] == ["train", "test"]
