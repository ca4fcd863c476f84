"""Patches below the minimum mapping unit: filled by the stated rule, for any area that is mapped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import shapely
import xarray as xr

from lulcbench.legend import ClassScheme, legend
from lulcbench.maps import Area, MapOptions, MappingUnit, map_release
from lulcbench.maps.mapping_unit import STEPS, generalise

AREA = (4346000.0, 3132000.0, 4349000.0, 3135000.0)  # m, across the edge of two blocks


def by_the_rule(chosen: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Class by class with scipy, then pixel by pixel."""
    kept: dict[tuple[int, int], int] = {}
    for value in range(1, int(chosen.max()) + 1):
        patches, _ = scipy.ndimage.label(chosen == value)
        large = np.bincount(patches.ravel()) >= pixels[value - 1]
        kept |= dict.fromkeys(map(tuple, np.argwhere(large[patches] & (patches > 0)).tolist()), value)
    waiting = [(y, x) for y, x in np.argwhere(chosen > 0).tolist() if (y, x) not in kept]
    for _ in range(STEPS):
        new = {}
        for y, x in waiting:
            near = [kept[at] for at in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)) if at in kept]
            if near:
                # The first of the most frequent ones: Counter keeps the order in which they were counted.
                new[y, x] = Counter(near).most_common(1)[0][0]
        kept |= new
        waiting = [at for at in waiting if at not in kept]
    result = chosen.copy()
    for at, value in kept.items():
        result[at] = value
    return result


def blobs(rng: np.random.Generator, side: int) -> np.ndarray:
    """Patches of all sizes of five classes, single pixels, and pixels without data."""
    fields = [scipy.ndimage.gaussian_filter(rng.normal(size=(side, side)), sigma) for sigma in (0.5, 1, 2, 3, 4)]
    chosen = np.argmax([own / own.std() for own in fields], axis=0).astype(np.uint8) + 1
    chosen[rng.random(chosen.shape) < 0.02] = 0
    return chosen


def test_patches_that_are_too_small_are_filled_as_the_rule_states() -> None:
    rng = np.random.default_rng(2)
    pixels = np.array([4, 9, 15, 15, 15])
    for side in (12, 40, 61):
        chosen = blobs(rng, side)
        result = generalise(chosen, pixels)
        np.testing.assert_array_equal(result, by_the_rule(chosen, pixels))
        np.testing.assert_array_equal(result == 0, chosen == 0)
    assert 0.1 < (result != chosen).mean() < 0.9
    # All small patches are gone, but those without a large one within 32 pixels.
    for value in range(1, 6):
        patches, number = scipy.ndimage.label(result == value)
        for patch in range(1, number + 1):
            own = patches == patch
            small = own.sum() < pixels[value - 1]
            assert not small or (result[own] == chosen[own]).all()


def test_a_small_patch_without_a_large_one_in_reach_stays() -> None:
    line = np.full((1, 90), 1, np.uint8)
    line[0, 1::2] = 2
    line[0, :5] = 3
    result = generalise(line, np.array([2, 2, 2]))
    assert (result[0, : 5 + STEPS] == 3).all()
    np.testing.assert_array_equal(result[0, 5 + STEPS :], line[0, 5 + STEPS :])


def test_the_result_depends_on_nothing_beyond_the_margin() -> None:
    rng = np.random.default_rng(4)
    unit = MappingUnit(artificial=0.05, other=0.1)
    pixels, margin = unit.pixels(ClassScheme.luisa(1), 10), unit.margin(ClassScheme.luisa(1), 10)
    assert (pixels.tolist(), margin) == ([5, 10, 10, 10, 10], 41)
    chosen = blobs(rng, 240)
    whole = generalise(chosen, pixels)
    for y, x in rng.integers(margin, 240 - margin - 20, (20, 2)):
        window = chosen[y - margin : y + 20 + margin, x - margin : x + 20 + margin]
        part = generalise(window, pixels)[margin:-margin, margin:-margin]
        np.testing.assert_array_equal(part, whole[y : y + 20, x : x + 20])


@pytest.fixture(scope="module")
def maps(exported, release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, xr.Dataset]:
    """The same area mapped alone, as a part of a larger one, and as the model decided it."""
    unit = MappingUnit()
    areas = {
        "alone": MapOptions((2018,), area=Area("alone", shapely.box(*AREA)), mapping_unit=unit),
        "part": MapOptions((2018,), (4344000.0, 3130000.0, 4352000.0, 3137000.0), mapping_unit=unit),
        "decided": MapOptions((2018,)),
    }
    folder = tmp_path_factory.mktemp("unit")
    found = {}
    for name, options in areas.items():
        path = map_release(exported("forest"), release_root, folder / name, options).folder
        assert not (path / ".work").exists()
        with xr.open_zarr(path, group="2018/0", consolidated=False, mask_and_scale=False) as opened:
            found[name] = opened.load()
            found[name].attrs["unit"] = json.loads((path / "zarr.json").read_bytes())["attributes"][
                "lulcbench:mapping_unit"
            ]
    return found


def test_a_generalised_map_is_the_same_in_parts_and_marks_what_changed(maps: dict[str, xr.Dataset]) -> None:
    inside = {"x": slice(AREA[0], AREA[2]), "y": slice(AREA[3], AREA[1])}
    alone, part = (maps[name].sel(**inside) for name in ("alone", "part"))
    xr.testing.assert_identical(alone.drop_attrs(), part.drop_attrs())
    around = MappingUnit().margin(ClassScheme.luisa(3), 30) * 30
    decided = maps["decided"].sel(
        x=slice(AREA[0] - around, AREA[2] + around), y=slice(AREA[3] + around, AREA[1] - around)
    )
    codes = np.array([0, *legend().codes(3)])
    chosen = np.searchsorted(codes, decided.class_3.to_numpy()).astype(np.uint8)
    pixels = np.where(np.array(legend().codes(3)) < 200, 12, 56)
    expected = decided.class_3.copy(data=codes[by_the_rule(chosen, pixels)]).sel(**inside)
    assert (expected != 0).mean() > 0.9
    np.testing.assert_array_equal(alone.class_3, expected)
    for level in (1, 2):
        np.testing.assert_array_equal(alone[f"class_{level}"], legend().remap(alone.class_3.to_numpy(), level))
    before = decided.sel(**inside)
    np.testing.assert_array_equal(alone.changed_by_mapping_unit == 1, before.class_3 != alone.class_3)
    assert 0.01 < (alone.changed_by_mapping_unit == 1).mean() < 0.99
    np.testing.assert_array_equal(alone.probability, before.probability)
    assert maps["alone"].attrs["unit"] == {"artificial": 1.0, "other": 5.0}
    assert maps["decided"].attrs["unit"] is None


@pytest.mark.parametrize("wrong", [{"artificial": 0}, {"other": -1}, {"other": float("nan")}, {"other": 1e9}])
def test_units_that_are_not_possible_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MappingUnit(**wrong)
