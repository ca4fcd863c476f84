from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.stages._composite import median
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
