"""Seasons cover the days that they say, in every year."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lulcbench.seasons import SEASONS, Season, extent, nearest_to_midsummer

years = st.integers(1985, 2100)


@given(years)
def test_the_default_seasons_follow_one_another_without_a_gap(year: int) -> None:
    days = [season.days(year) for season in SEASONS] + [SEASONS[0].days(year + 1)]
    for (_, end), (start, _) in pairwise(days):
        assert start == end + timedelta(1)


@given(years)
def test_a_season_may_begin_in_the_year_before(year: int) -> None:
    start, end = SEASONS[0].days(year)
    assert (start, end) == (date(year - 1, 12, 2), date(year, 3, 20))


@given(years)
def test_meteorological_seasons_lose_no_leap_day(year: int) -> None:
    winter, spring = Season(name="djf", start="12-01", end="02-29"), Season(name="mam", start="03-01", end="05-31")
    assert winter.days(year)[1] + timedelta(1) == spring.days(year)[0]


def test_a_start_on_29_february_is_1_march_in_other_years() -> None:
    season = Season(name="spring", start="02-29", end="05-31")
    assert [season.days(year)[0] for year in (2016, 2017)] == [date(2016, 2, 29), date(2017, 3, 1)]


@given(years, st.sampled_from(SEASONS))
def test_the_midpoint_is_as_far_from_both_ends(year: int, season: Season) -> None:
    (start, end), middle = season.days(year), season.midpoint(year)
    assert 0 <= ((end - middle) - (middle - start)).days <= 1


@pytest.mark.parametrize("day", ["02-30", "13-01", "00-10", "6-25"])
def test_days_that_no_calendar_has_are_refused(day: str) -> None:
    with pytest.raises(ValidationError):
        Season(name="odd", start=day, end="12-31")


def test_extent_spans_all_seasons_of_all_years() -> None:
    assert extent(SEASONS, (2018, 2012)) == (date(2011, 12, 2), date(2018, 12, 1))


def test_pictures_show_the_season_nearest_to_midsummer() -> None:
    assert SEASONS[nearest_to_midsummer(SEASONS)].name == "summer"
    assert nearest_to_midsummer(SEASONS[::-1]) == 1
    assert nearest_to_midsummer([SEASONS[0], SEASONS[3]]) == 1  # autumn, 23 October, is nearer than winter, 25 January
