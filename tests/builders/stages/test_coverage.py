"""A plan states the classes of its regions and splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import from_bounds
from typer.testing import CliRunner

from builders.__main__ import app
from builders.recipe import RECIPES, load
from builders.simulate.config import SimulationConfig
from builders.simulate.labels import label_maps
from builders.stages import plan
from builders.stages.coverage import Coverage, class_lines, count_codes, read_coverage
from builders.workspace import workspace
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from tests.builders import world


def test_counts_are_those_of_the_map(tmp_path: Path) -> None:
    recipe, space = world.make(tmp_path)
    rows = plan.plan(recipe, space)
    expected: dict[tuple[str, str], Counter[int]] = {}
    with rasterio.open(tmp_path / "labels.tif") as file:
        for row in rows:
            codes = file.read(1, window=from_bounds(*row.tile.bounds, file.transform))
            expected.setdefault((row.region, row.split), Counter()).update(codes.ravel().tolist())
    assert read_coverage(space.splits).pixels == expected


def test_missing_classes_are_named_by_region_and_split() -> None:
    found = Coverage()
    found.add("north", "train", {3110: 5, 3120: 1})
    found.add("north", "train", {3110: 2})
    found.add("south", "test", {5230: 3})
    assert found.pixels["north", "train"] == {3110: 7, 3120: 1}
    assert len(found.missing()) == 46 - 3
    assert set(found.missing("south")) == {*legend().codes(4)} - {5230}
    north, south, everything, *splits = class_lines(found, ["north", "south"], ["train", "test"])
    assert north.startswith("north: 2 of 46 classes; missing: 1111 High density urban fabric, ")
    assert "5230 Sea and ocean" in north
    assert "5230 Sea and ocean" not in south
    assert everything.startswith("all regions: 3 of 46 classes")
    assert [line.partition(" of ")[0] for line in splits] == ["split train: 2", "split test: 1"]


def test_classes_are_listed_at_the_level_that_all_labels_have() -> None:
    """CORINE does not tell densities of urban fabric apart, so that no level-4 class of them can be missing."""
    found = Coverage()
    found.add("all", "train", {112: 5, 3110: 5})
    assert found.level == 3
    assert set(found.missing()) == {*legend().codes(3)} - {112, 311}


def test_nodata_is_not_a_class() -> None:
    assert count_codes(np.array([[0, 3110], [3110, 0]], np.uint16)) == {3110: 2}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "splits.csv"
    path.write_text("# classes all train 3110\n")
    with pytest.raises(LulcbenchError, match="damaged line: '# classes all train 3110'"):
        read_coverage(path)


def test_the_command_shows_classes_again_when_the_plan_is_kept(tmp_path: Path) -> None:
    world.make(tmp_path)
    shown = [
        CliRunner().invoke(app, ["plan", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "out")]).output
        for _ in range(2)
    ]
    first, again = (text[text.index("train ") :] for text in shown)  # after the progress bar
    assert first == again
    assert "all: 4 of 46 classes; missing: 1121 Medium density urban fabric" in " ".join(first.split())


@pytest.mark.slow
def test_the_medium_simulated_release_can_tell_models_apart(tmp_path: Path) -> None:
    """At least 12 test blocks and 3 regions, and every class in every region and split."""
    space = workspace(tmp_path / "out")
    recipe = load(RECIPES / "luisa-sim-medium.toml", space.scenes)
    config = SimulationConfig.parse(recipe.simulate or {}, recipe.seasons, "recipe")
    for year, labels in label_maps(config).items():
        labels.write(space.scenes / "labels" / f"luisa_{year}.tif", config.bounds)
    rows = plan.plan(recipe, space)
    assert len({(row.region, row.block) for row in rows if row.split == "test"}) >= 12
    assert len(recipe.regions) >= 3
    found = read_coverage(space.splits)
    for region in recipe.regions:
        assert found.missing(region.name) == []
    for split in recipe.splits:
        assert found.missing(split=split) == []
