"""Legend subsets: study classes of LUISA codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines.data._subsets import read_subset
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, LEVELS, LegendSubset, legend

TOML = 'title = "Built-up"\n[classes]\nbuilt-up = [11, 121]\nforest = [31]\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "subset.toml").write_text(TOML)
    return tmp_path / "subset.toml"


def test_codes_of_any_level_are_of_the_class_that_contains_all_their_descendants(path: Path) -> None:
    subset = LegendSubset.load(path)
    assert subset.names == ("built-up", "forest")
    for code, landclass in legend().classes.items():
        expected = IGNORE_INDEX
        for index, roots in enumerate(((11, 121), (31,))):
            if any(legend().ancestor(code, legend().classes[root].level) == root for root in roots):
                expected = index
        assert subset.encode([code])[0] == expected, landclass
    assert subset.encode([1])[0] == IGNORE_INDEX  # artificial surfaces are only partly built-up
    assert subset.encode([0])[0] == IGNORE_INDEX


@pytest.mark.parametrize("level", LEVELS)
def test_tables_agree_with_codes(path: Path, level: int) -> None:
    subset = LegendSubset.load(path)
    codes = np.array(legend().codes(level))
    assert np.array_equal(subset.table(level)[: len(codes)], subset.encode(codes))
    assert (subset.table(level)[len(codes) :] == IGNORE_INDEX).all()


def test_colours_are_those_of_the_codes(path: Path) -> None:
    colors = LegendSubset.load(path).colors()
    assert colors[1].tolist() == list(bytes.fromhex(legend().classes[31].color[1:]))
    assert (colors[2:] == 255).all()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("31", "1111", "code 1111 is in 'built-up' and in 'forest'"),
        ("11, 121", "11, 111", "code 1111 is in 'built-up' and in 'built-up'"),
        ("31", "399", "399 of class 'forest' is not a LUISA code"),
        ("[31]", "[]", "class 'forest' has no codes"),
        ("forest = [31]\n", "", "has 1 classes"),
        ("[31]", '["31"]', "no valid table 'classes'"),
        ("[31]", "[true]", "no valid table 'classes'"),
        ("title", "name", "unknown key 'name'"),
    ],
    ids=[
        "code in two classes",
        "code twice in a class",
        "unknown code",
        "class without codes",
        "single class",
        "text as a code",
        "boolean as a code",
        "unknown key",
    ],
)
def test_invalid_subsets_are_refused(path: Path, old: str, new: str, says: str) -> None:
    path.write_text(TOML.replace(old, new, 1))
    with pytest.raises(LulcbenchError, match=says):
        LegendSubset.load(path)


def test_unknown_codes_and_files_are_refused(path: Path) -> None:
    with pytest.raises(LulcbenchError, match="Unknown LUISA code"):
        LegendSubset.load(path).encode([77])
    with pytest.raises(LulcbenchError, match="is missing"):
        LegendSubset.load(path.with_name("none.toml"))


def test_the_ten_classes_of_trentino_need_level_3() -> None:
    subset = read_subset("trentino")
    assert len(subset.names) == 10
    for level in (3, 4):
        assert set(subset.crosswalk(level).tolist()) == {*range(10), IGNORE_INDEX}
    with pytest.raises(LulcbenchError, match=r"Level 2 has no class of .*broadleaved, coniferous"):
        subset.crosswalk(2)
