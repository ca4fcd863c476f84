from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.stages._composite import _STRIP, median, medoid
from lulcbench.sensors import BACKSCATTER, REFLECTANCE, Coding

CODINGS = [
    REFLECTANCE,
    BACKSCATTER,
    Coding("uint8", 1, 0, 255),
    Coding("uint16", 1, 0, 65535),
    Coding("int16", 1, 0, 32767),
]
FLOAT = Coding("float32", 1, 0, "NaN")


def stacks(coding: Coding) -> st.SearchStrategy[Any]:
    """Up to eleven dates of one band; a third of the pixels or so are missing."""
    low, high = coding.limits
    valid = st.integers(int(low), int(high)) if coding.nodata != "NaN" else st.floats(-1e6, 1e6, width=32)
    elements = valid | valid | st.just(coding.fill_value.item())
    return st.integers(1, 11).flatmap(lambda n: arrays(coding.dtype, (n, 1, 3, 4), elements=elements))


@pytest.mark.slow
@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: f"{coding.dtype}, {coding.nodata}")
@given(st.data())
def test_median_is_that_of_the_valid_dates(coding: Coding, data: st.DataObject) -> None:
    stack = data.draw(stacks(coding))
    expected = np.full((3, 4), coding.fill_value, coding.dtype)
    for y, x in np.ndindex(3, 4):
        values = stack[:, 0, y, x]
        values = values[~coding.missing(values)].astype(float)
        if len(values):
            expected[y, x] = np.floor(np.median(values) + 0.5)
    np.testing.assert_array_equal(median(stack, coding)[0], expected)


@given(stacks(FLOAT))
def test_median_of_floats_is_that_of_the_valid_dates(stack: np.ndarray) -> None:
    expected = np.full((3, 4), np.nan)
    for y, x in np.ndindex(3, 4):
        values = stack[:, 0, y, x]
        if np.isfinite(values).any():
            expected[y, x] = np.median(values[np.isfinite(values)].astype(float))
    # The mean of the middle two is of float32: where they cancel, its error is relative to them, not to their mean.
    largest = float(np.abs(stack[np.isfinite(stack)]).max(initial=0))
    np.testing.assert_allclose(median(stack, FLOAT)[0], expected, rtol=1e-6, atol=1e-6 * largest)


def test_bands_are_composited_apart() -> None:
    stack = np.array([[[[1]], [[30]]], [[[3]], [[20]]], [[[2]], [[10]]], [[[0]], [[0]]]], np.uint16)
    assert median(stack, REFLECTANCE)[:, 0, 0].tolist() == [2, 20]


def nearest_to_all(values: np.ndarray) -> np.ndarray:
    """The medoid of ``(date, band)`` values by its definition: the first with the least sum of distances."""
    sums = [sum(np.linalg.norm(one - other) for other in values) for one in values]
    return values[int(np.argmin(sums))]


@pytest.mark.parametrize("coding", [REFLECTANCE, BACKSCATTER, FLOAT], ids=lambda coding: coding.dtype)
@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_the_medoid_is_the_observation_nearest_to_all_others(coding: Coding, dates: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack = rng.integers(1, 30_000, (dates, 3, 2, 5)).astype(coding.dtype)
    holes = np.broadcast_to(rng.random((dates, 1, 2, 5)) < 0.3, stack.shape)
    stack[holes] = coding.fill_value
    composite = medoid(stack, coding)
    for y, x in np.ndindex(2, 5):
        valid = stack[~coding.missing(stack[:, 0, y, x]), :, y, x].astype(float)
        expected = nearest_to_all(valid) if len(valid) else np.full(3, coding.fill_value)
        np.testing.assert_array_equal(composite[:, y, x], expected)


def test_a_medoid_depends_on_the_dates_of_its_own_pixel_alone() -> None:
    side = int(_STRIP**0.5) + 3  # more than one strip
    stack = np.random.default_rng(3).integers(0, 50, (4, 2, side, side)).astype(np.uint16)
    stack[:, :, (stack == 0).any(axis=(0, 1))] = 0
    whole = medoid(stack, REFLECTANCE)
    np.testing.assert_array_equal(whole[:, 5:9, 7:30], medoid(stack[:, :, 5:9, 7:30], REFLECTANCE))
    empty = np.zeros((1, 2, side, side), np.uint16)  # a date without a value
    np.testing.assert_array_equal(whole, medoid(np.concatenate([stack[:2], empty, stack[2:]]), REFLECTANCE))


def test_the_medoid_of_a_clear_series_with_a_missed_cloud_is_not_the_cloud() -> None:
    clear = [[300, 500, 2500], [320, 480, 2600], [310, 520, 2400]]
    cloud = [6000, 6100, 6200]
    stack = np.array([cloud, *clear], np.uint16)[..., None, None]
    assert medoid(stack, REFLECTANCE)[:, 0, 0].tolist() == clear[0]
