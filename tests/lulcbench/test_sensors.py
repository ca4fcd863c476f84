"""Sensors: bands by name, each with the coding of its values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lulcbench.errors import LulcbenchError
from lulcbench.sensors import BACKSCATTER, REFLECTANCE, SENSORS, Band, Coding, Sensor, sensor, true_color

FLOAT = Coding("float32", 1, 0, "NaN")
CODINGS = [REFLECTANCE, BACKSCATTER, FLOAT, Coding("uint8", 1 / 250, 0, 255), Coding("int16", 0.5, 100, 32767)]


def test_band_order_and_lookup() -> None:
    for one in SENSORS.values():
        assert len({band.name for band in one.bands}) == len({band.asset for band in one.bands}) == len(one.bands)
    assert sensor("sentinel2").band("B8A").wavelength == 0.865


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(LulcbenchError, match="sentinel2, landsat, planet"):
        sensor("sentinel3")
    with pytest.raises(LulcbenchError, match="blue, green, red, nir"):
        sensor("planet").band("B02")


def test_true_color_follows_from_the_bands() -> None:
    for name, expected in (("sentinel2", ("B04", "B03", "B02")), ("planet", ("red", "green", "blue"))):
        bands = sensor(name).bands[::-1]
        positions = true_color(bands)
        assert positions is not None
        assert tuple(bands[i].name for i in positions) == expected
    assert true_color(sensor("sentinel1").bands) is None
    assert true_color(sensor("landsat").bands[2:]) is None


def test_bands_of_one_sensor_share_coding_and_unit() -> None:
    red = Band("red", 0.65, 10, "red")
    for other in (Band("vv", None, 10, "vv", "1", BACKSCATTER), Band("vv", None, 10, "vv", "dB"), red):
        with pytest.raises(ValueError, match=r"must share|same name"):
            Sensor("mixed", 10, (red, other), None, "none")


@given(st.floats(-0.0998, 6.4))
def test_reflectance_is_exact_to_half_a_step(reflectance: float) -> None:
    back = REFLECTANCE.decode(REFLECTANCE.encode(np.array([reflectance], np.float64)))
    assert abs(back[0] - reflectance) <= 0.5e-4 + 1e-6


@given(st.floats(-327, 327))
def test_backscatter_is_exact_to_half_a_step(decibels: float) -> None:
    back = BACKSCATTER.decode(BACKSCATTER.encode(np.array([decibels])))
    assert abs(back[0] - decibels) <= 0.005 + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("coding", CODINGS, ids=str)
@given(st.lists(st.floats(-1e38, 1e38) | st.sampled_from([math.nan, math.inf, -math.inf]), min_size=1))
def test_only_what_is_not_finite_is_nodata(coding: Coding, values: list[float]) -> None:
    array = np.array(values)
    stored = coding.encode(array)
    assert stored.dtype == coding.dtype
    np.testing.assert_array_equal(coding.missing(stored), ~np.isfinite(array))
    np.testing.assert_array_equal(np.isnan(coding.decode(stored)), ~np.isfinite(array))


def test_values_beyond_the_limits_are_clipped_short_of_nodata() -> None:
    stored = REFLECTANCE.encode(np.array([np.nan, -5.0, 50.0, -0.1, np.inf], np.float32))
    assert stored.tolist() == [0, 1, 65535, 1, 0]
    assert BACKSCATTER.encode(np.array([-1e9, 1e9])).tolist() == [-32767, 32767]
    assert Coding("uint8", 1, 0, 255).encode(np.array([-1, 255])).tolist() == [0, 254]


@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_a_coding_survives_json(coding: Coding) -> None:
    adapter = TypeAdapter(Coding)
    assert adapter.validate_json(adapter.dump_json(coding)) == coding


@pytest.mark.parametrize(
    "parts",
    [
        ("uint16", 1, 0, 7),
        ("uint16", 1, 0, "NaN"),
        ("float32", 1, 0, 0),
        ("int16", 1, 0, -9999),
        ("uint32", 1, 0, 0),
        ("uint8", 0, 0, 0),
        ("uint8", -1, 0, 0),
        ("uint8", math.inf, 0, 0),
        ("uint8", 1, math.nan, 0),
    ],
    ids=str,
)
def test_codings_that_cannot_work_are_refused(parts: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError):
        Coding(*parts)
