import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.stages._composite import median


@given(st.integers(1, 11).flatmap(lambda n: arrays(np.uint16, (n, 1, 3, 4), elements=st.integers(0, 65534))))
def test_median_is_that_of_the_valid_dates(stack: np.ndarray) -> None:
    expected = np.zeros((3, 4))
    for y, x in np.ndindex(3, 4):
        values = stack[:, 0, y, x]
        values = values[values > 0].astype(float)
        expected[y, x] = np.floor(np.median(values) + 0.5) if len(values) else 0
    np.testing.assert_array_equal(median(stack)[0], expected)


def test_bands_are_composited_apart() -> None:
    stack = np.array([[[[1]], [[30]]], [[[3]], [[20]]], [[[2]], [[10]]], [[[0]], [[0]]]], np.uint16)
    assert median(stack)[:, 0, 0].tolist() == [2, 20]
