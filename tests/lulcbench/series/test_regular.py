"""Interpolation and indices, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError
from lulcbench.sensors import LANDSAT, SENTINEL2, Sensor
from lulcbench.series.indices import INDICES, available, letters, with_indices
from lulcbench.series.regular import cell_means, check_dates, days_of_year, regular


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([15, 30, 61]), st.sampled_from([0.0, 0.3]))
def test_values_are_those_of_numpys_interpolation_within_the_year(
    seed: int, count: int, every: int, gaps_of_bands: float
) -> None:
    rng = np.random.default_rng(seed)
    days = np.sort(rng.choice(1096, count + 6, replace=False))
    dates = np.datetime64("2018-01-01") + days
    values = rng.normal(size=(4, len(days), 2)).astype(np.float32)
    values[rng.random((4, len(days))) < 0.4] = np.nan
    values[rng.random(values.shape) < gaps_of_bands] = np.nan
    for year in {int(str(day)[:4]) for day in dates}:
        found = regular(values, dates, year, every)
        start = np.datetime64(f"{year}-01-01")
        own = np.array([str(day).startswith(str(year)) for day in dates])
        for pixel in range(4):
            for band in range(2):
                clear = own & np.isfinite(values[pixel, :, band])
                if not clear.any():
                    assert np.isnan(found[pixel, :, band]).all()
                    continue
                known = (dates[clear] - start).astype(int)
                expected = np.interp(days_of_year(every), known, values[pixel, clear, band])
                np.testing.assert_allclose(found[pixel, :, band], expected, atol=1e-5)


def test_other_years_have_no_influence() -> None:
    dates = np.array(["2018-06-01", "2018-11-30", "2019-01-02", "2019-07-01"], "datetime64[D]")
    values = np.array([0.1, 0.2, 0.9, 0.8], np.float32).reshape(1, 4, 1)
    changed = values.copy()
    changed[:, 2:] = -5
    np.testing.assert_array_equal(regular(values, dates, 2018, 15), regular(changed, dates, 2018, 15))


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (["2018-05-01", "2018-03-01"], "2018-03-01 follows 2018-05-01"),
        (["2018-05-01", "2018-05-01"], "2018-05-01 occurs twice"),
        (["2018-05-01", "NaT"], "A date is missing"),
    ],
)
def test_dates_out_of_order_or_doubled_are_refused(dates: list[str], message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        check_dates(np.array(dates, "datetime64[D]"))


def test_a_year_without_dates_is_named() -> None:
    with pytest.raises(LulcbenchError, match="no date in 2019"):
        regular(np.zeros((1, 1, 1), np.float32), np.array(["2018-05-01"], "datetime64[D]"), 2019, 30)


def test_masked_values_are_missing_and_values_need_a_date_each() -> None:
    dates = np.array(["2020-01-01", "2020-02-29", "2020-12-31"], "datetime64[D]")
    stored = np.ma.masked_equal(np.array([1, -9999, 3], np.int16).reshape(1, 3, 1), -9999)
    found = regular(stored, dates, 2020, 90)[0, :, 0]
    np.testing.assert_allclose(found, np.interp(days_of_year(90), [0, 365], [1, 3]), rtol=1e-6)
    with pytest.raises(LulcbenchError, match=r"Values \(1, 2, 1\) are not of 3 dates"):
        regular(np.zeros((1, 2, 1), np.float32), dates, 2020, 90)
    for every in (0, 400):
        with pytest.raises(LulcbenchError, match=f"Steps are {every} days apart"):
            regular(np.zeros((1, 3, 1), np.float32), dates, 2020, every)


def test_dates_of_other_calendars_are_refused() -> None:
    """As xarray reads times of CF that have the calendar of a climate model."""

    class Day360:
        calendar = "360_day"

        def isoformat(self) -> str:
            return "2019-05-01"

    for dates, message in (
        ([Day360()], "calendar 360_day"),
        (np.array([Day360()], object), "calendar 360_day"),
        (["2019-02-30"], "Dates cannot be read"),
    ):
        with pytest.raises(LulcbenchError, match=message):
            regular(np.zeros((1, 1, 1), np.float32), dates, 2019, 90)  # type: ignore[arg-type]


@pytest.mark.parametrize("sensor", [SENTINEL2, LANDSAT])
def test_indices_are_their_published_formulas(sensor: Sensor) -> None:
    bands = sensor.bands
    assert available(bands) == INDICES
    rng = np.random.default_rng(0)
    values = rng.uniform(0.01, 0.6, (50, len(bands))).astype(np.float32)
    at = letters(bands)
    blue, green, red, nir, swir = (values[:, at[letter]].astype(float) for letter in ("B", "G", "R", "N", "S1"))
    expected = {
        "NDVI": (nir - red) / (nir + red),
        "NDWI": (green - nir) / (green + nir),
        "NDSI": (green - swir) / (green + swir),
        "BI": ((swir + red) - (nir + blue)) / ((swir + red) + (nir + blue)),
        "NDBI": (swir - nir) / (swir + nir),
    }
    found = with_indices(values, bands, INDICES)
    for k, name in enumerate(INDICES):
        np.testing.assert_allclose(found[:, len(bands) + k], expected[name], atol=1e-5)


def test_missing_pixels_have_no_index_and_unknown_indices_are_named() -> None:
    bands = [SENTINEL2.band("B04"), SENTINEL2.band("B08")]
    assert available(bands) == ("NDVI",)
    found = with_indices(np.array([[np.nan, np.nan], [0.0, 0.0]]), bands, ["NDVI"])
    assert np.isnan(found[:, 2]).all()
    with pytest.raises(LulcbenchError, match="no spectral index 'NDXX'"):
        with_indices(np.zeros((1, 2)), bands, ["NDXX"])
    masked = with_indices(np.ma.masked_equal(np.array([[0, 0.4]]), 0), bands, ["NDVI"])
    assert np.isnan(masked).tolist() == [[True, False, True]]
    with pytest.raises(LulcbenchError, match=r"Values \(1, 3\) are not of 2 bands"):
        with_indices(np.zeros((1, 3)), bands, ["NDVI"])
    with pytest.raises(LulcbenchError, match="NDWI needs G"):
        with_indices(np.zeros((1, 2)), bands, ["NDWI"])


def test_cells_are_means_of_their_clear_pixels() -> None:
    rng = np.random.default_rng(1)
    image = rng.random((2, 480, 480)).astype(np.float32)
    image[:, rng.random((480, 480)) < 0.3] = np.nan
    image[:, :5, :5] = np.nan
    found = cell_means(image)
    assert np.isnan(found[:, 0, 0]).all()
    np.testing.assert_allclose(found[1, 40, 7], np.nanmean(image[1, 200:205, 35:40]), rtol=1e-5)
    coarse = rng.random((1, 160, 160)).astype(np.float32)
    assert cell_means(coarse)[0, 95, 0] == coarse[0, 159, 0]
