"""The legend: one CSV, four levels, loud about what it does not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.legend import (
    IGNORE_INDEX,
    LEVELS,
    NODATA,
    corine_grid_codes,
    corine_to_luisa,
    legend,
    lucas_to_luisa,
)

CODES4 = legend().codes(4)


def test_class_counts() -> None:
    assert [len(legend().codes(level)) for level in LEVELS] == [5, 14, 41, 46]


def test_group_sizes_of_level_4() -> None:
    per_group = np.bincount(legend().remap(CODES4, 1))[1:]
    # 17 built-up, 11 agriculture, 13 nature including wetlands (12 + 1), 5 water.
    assert per_group.tolist() == [17, 11, 12, 1, 5]


def test_parents_are_code_prefixes() -> None:
    for code, land_class in legend().classes.items():
        if land_class.parent is not None:
            assert str(code).startswith(str(land_class.parent))
            assert legend().classes[land_class.parent].level == land_class.level - 1


def test_remap_to_every_level() -> None:
    codes = np.array([[1123, 0], [4000, 5230]])
    assert legend().remap(codes, 4).tolist() == codes.tolist()
    assert legend().remap(codes, 3).tolist() == [[112, 0], [400, 523]]
    assert legend().remap(codes, 2).tolist() == [[11, 0], [40, 52]]
    assert legend().remap(codes, 1).tolist() == [[1, 0], [4, 5]]


def test_coarse_codes_never_claim_a_finer_level() -> None:
    assert legend().remap([112, 11, 1], 4).tolist() == [NODATA] * 3
    assert legend().encode([112], 4).tolist() == [IGNORE_INDEX]
    assert legend().remap([112, 11, 1], 1).tolist() == [1, 1, 1]


@given(st.lists(st.sampled_from((*legend().classes, NODATA)), max_size=50), st.sampled_from(LEVELS))
def test_encode_then_decode_is_remap(codes: list[int], level: int) -> None:
    array = np.array(codes, np.uint16)
    indices = legend().encode(array, level)
    assert np.array_equal(legend().decode(indices, level), legend().remap(array, level))
    assert np.array_equal(indices == IGNORE_INDEX, legend().remap(array, level) == NODATA)


@given(st.lists(st.sampled_from(CODES4), min_size=1, max_size=50), st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_remaps_compose(codes: list[int], first: int, second: int) -> None:
    """Going to level a and then to a coarser level b is going to b."""
    fine, coarse = max(first, second), min(first, second)
    assert np.array_equal(legend().remap(legend().remap(codes, fine), coarse), legend().remap(codes, coarse))


def test_parents_agree_with_remap() -> None:
    for level in LEVELS:
        for to in range(1, level + 1):
            by_index = np.array(legend().codes(to))[legend().parents(level, to)]
            assert np.array_equal(by_index, legend().remap(legend().codes(level), to))
    with pytest.raises(LulcbenchError, match="finer"):
        legend().parents(1, 4)


@pytest.mark.parametrize("bad", [9999, 115, 44, 9, -3, 70000])
def test_unknown_code_is_named_with_its_place(bad: int) -> None:
    array = np.full((4, 5), 3110, np.int32)
    array[2, 3] = bad
    with pytest.raises(LulcbenchError, match=rf"{bad} at \(2, 3\)") as caught:
        legend().remap(array, 2, where="labels.tif")
    assert "labels.tif" in str(caught.value)


def test_floats_and_bad_levels_are_refused() -> None:
    with pytest.raises(LulcbenchError, match="float64"):
        legend().encode(np.array([3110.0]), 4)
    for level in (0, 5, "4"):
        with pytest.raises(LulcbenchError, match="no level"):
            legend().remap([3110], level)  # type: ignore[arg-type]
    with pytest.raises(LulcbenchError, match="class index"):
        legend().decode(np.array([46], np.uint8), 4)


def test_colors_are_those_of_the_csv_and_ignored_is_white() -> None:
    colors = legend().colors(4)
    assert colors[CODES4.index(1111)].tolist() == [0x8C, 0, 0]
    assert colors[IGNORE_INDEX].tolist() == [255, 255, 255]
    assert len({tuple(row) for row in colors[:46].tolist()}) == 46


def test_corine_covers_all_44_classes_and_splits_stop_at_level_3() -> None:
    crosswalk = corine_to_luisa()
    assert len(crosswalk) == 44
    assert sorted(corine_grid_codes()) == list(range(1, 45))
    assert sorted(corine_grid_codes().values()) == sorted(crosswalk)
    assert {clc for clc, luisa in crosswalk.items() if luisa < 1000} == {112, 122, 124, 142}
    assert all(crosswalk[clc] == 4000 for clc in (411, 412, 421, 422, 423))
    # 113 (urban vegetation) is LUISA's own; every other level-3 class is reached.
    assert set(legend().codes(3)) - set(legend().remap(list(crosswalk.values()), 3).tolist()) == {113}


def test_lucas_uses_representative_pairs_only() -> None:
    assert lucas_to_luisa("A11", "U370") == 1111
    assert lucas_to_luisa("A11", "U113") == NODATA  # listed, but not representative
    assert lucas_to_luisa("A11") == 1  # without land use a building may be 111, 121, 133 or 142
    assert lucas_to_luisa("Z99", "U000") == NODATA


def test_lucas_reach_is_what_the_facts_say() -> None:
    from lulcbench.legend.crosswalks import _lucas_pairs

    reached = [lucas_to_luisa(*pair) for pair in _lucas_pairs()]
    at = {level: {int(c) for c in legend().remap(reached, level)} - {NODATA} for level in LEVELS}
    assert len(at[1]) == 5
    assert set(legend().codes(2)) - at[2] == {24, 52}
