"""Sensors: bands by name, one coding of reflectance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENSORS, sensor, to_reflectance, to_stored


def test_band_order_and_lookup() -> None:
    for one in SENSORS.values():
        assert len({band.name for band in one.bands}) == len({band.asset for band in one.bands}) == len(one.bands)
        assert [one.band(name).name for name in one.rgb] == list(one.rgb)
    assert sensor("sentinel2").band("B8A").wavelength == 0.865


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(LulcbenchError, match="sentinel2, landsat, planet"):
        sensor("sentinel3")
    with pytest.raises(LulcbenchError, match="blue, green, red, nir"):
        sensor("planet").band("B02")


@given(st.floats(-0.0998, 6.4))
def test_coding_is_exact_to_half_a_step(reflectance: float) -> None:
    back = to_reflectance(to_stored(np.array([reflectance], np.float64)))
    assert abs(back[0] - reflectance) <= 0.5e-4 + 1e-6


def test_nodata_and_clipping() -> None:
    stored = to_stored(np.array([np.nan, -5.0, 50.0, -0.1, np.inf], np.float32))
    assert stored.tolist() == [0, 1, 65535, 1, 0]  # the darkest value is 1: only missing pixels are 0
    assert np.isnan(to_reflectance(np.array([0], np.uint16))[0])
