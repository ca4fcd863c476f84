"""Sums of stored values are exact, for every type and every division of the data."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from builders.stages._sums import statistics, sums
from lulcbench.sensors import BACKSCATTER, REFLECTANCE, Coding

ELEVATION = Coding("float32", 1, 0, "NaN")
UNIT = {"float32": Fraction(1, 2**149)}


def check(values: np.ndarray, coding: Coding) -> None:
    """One pixel per value, one band."""
    found = sums(values.reshape(1, 1, 1, 1, -1), coding)
    valid = [Fraction(float(v)) for v in values if not coding.missing(v)]
    unit = UNIT.get(coding.dtype, Fraction(1))
    assert found["pixels"] == len(valid)
    assert found["sum"][0] * unit == sum(valid)
    assert found["squares"][0] * unit**2 == sum(v * v for v in valid)


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_infinity=False)))
def test_sums_of_floats_are_exact_over_the_whole_range(values: np.ndarray) -> None:
    check(values, ELEVATION)


@given(arrays(np.int16, st.integers(1, 60)))
def test_sums_of_signed_integers_are_exact(values: np.ndarray) -> None:
    check(values, BACKSCATTER)


@pytest.mark.slow
def test_sums_are_exact_where_float64_alone_would_round() -> None:
    check(np.full(2**20 + 7, 65535, np.uint16), REFLECTANCE)
    check(np.array([2.0**60, 1.0, -(2.0**60), 2.0**-149], np.float32), ELEVATION)


@pytest.mark.slow
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_statistics_do_not_depend_on_how_tiles_are_cut_into_shards(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles = (rng.standard_normal((6, 2, 2, 4, 5)) * 10.0 ** rng.integers(-9, 9, (6, 2, 1, 4, 5))).astype(np.float32)
    tiles[rng.random((6, 2, 1, 4, 5)).repeat(2, 2) < 0.2] = np.nan
    whole = statistics([sums(tiles, ELEVATION)], ELEVATION)
    parts = [sums(tiles[first : first + size], ELEVATION) for first in range(0, 6, size)]
    assert statistics(parts[::-1], ELEVATION) == whole


@pytest.mark.parametrize("coding", [REFLECTANCE, BACKSCATTER, ELEVATION, Coding("uint8", 1 / 250, 0, 255)], ids=str)
def test_statistics_are_in_the_unit_of_the_band(coding: Coding) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, (2, 3, 2, 20, 20))
    values[:, :, :, :4] = np.nan
    stored = coding.encode(values)
    found = statistics([sums(stored, coding)], coding)
    assert found is not None
    decoded = coding.decode(stored).astype(np.float64)
    assert found.pixels == 2 * 3 * 16 * 20
    np.testing.assert_allclose(found.mean, np.nanmean(decoded, axis=(0, 1, 3, 4)), rtol=1e-6)
    np.testing.assert_allclose(found.std, np.nanstd(decoded, axis=(0, 1, 3, 4)), rtol=1e-5)


def test_nothing_valid_has_no_statistics() -> None:
    assert statistics([sums(np.full((1, 1, 2, 3, 3), np.nan, np.float32), ELEVATION)], ELEVATION) is None
