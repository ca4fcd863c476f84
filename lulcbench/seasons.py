"""Seasons: the periods of a year that composites cover."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated

from pydantic import Field, field_validator

from lulcbench._files import Frozen, Name

Days = tuple[date, date]  # first and last, inclusive

_LEAP_YEAR = 2000
_MIDSUMMER = (7, 1)


class Season(Frozen):
    """A period of the year with one composite.

    A season whose start is later in the calendar than its end begins in the preceding year: the winter of 2018 from
    12-02 to 03-20 begins on 2 December 2017.

    Attributes:
        name: name, such as ``summer``.
        start: first day, MM-DD; 02-29 means 1 March in common years.
        end: last day, MM-DD; 02-29 means the last day of February in every year.

    Examples:
        >>> winter = Season(name="winter", start="12-02", end="03-20")
        >>> [day.isoformat() for day in winter.days(2018)]
        ['2017-12-02', '2018-03-20']
        >>> winter.midpoint(2018).isoformat()
        '2018-01-25'
    """

    name: Name
    start: Annotated[str, Field(pattern=r"^\d\d-\d\d$")]
    end: Annotated[str, Field(pattern=r"^\d\d-\d\d$")]

    @field_validator("start", "end")
    @classmethod
    def _exists(cls, day: str) -> str:
        date.fromisoformat(f"{_LEAP_YEAR}-{day}")
        return day

    def days(self, year: int) -> Days:
        """First and last day of the season of a year, inclusive."""
        start, end = _day(year, self.start, (3, 1)), _day(year, self.end, (2, 28))
        return (start if start <= end else _day(year - 1, self.start, (3, 1)), end)

    def midpoint(self, year: int) -> date:
        """Middle day of the season of a year."""
        start, end = self.days(year)
        return start + (end - start) // 2


# The four seasons of the OpenGeoHub / EcoDataCube Landsat composites (Witjes et al. 2022, peerj.com/articles/13573).
SEASONS = (
    Season(name="winter", start="12-02", end="03-20"),
    Season(name="spring", start="03-21", end="06-24"),
    Season(name="summer", start="06-25", end="09-12"),
    Season(name="autumn", start="09-13", end="12-01"),
)


def extent(seasons: Sequence[Season], years: Iterable[int]) -> Days:
    """First and last day of the seasons of several years."""
    spans = [season.days(year) for year in years for season in seasons]
    return min(start for start, _ in spans), max(end for _, end in spans)


def differing_seasons(known: Sequence[Season], wanted: Iterable[Season]) -> list[str]:
    """What differs between the days of seasons of the same name, in words.

    Examples:
        >>> differing_seasons(SEASONS, [Season(name="summer", start="06-01", end="08-31"), SEASONS[0]])
        ['summer is 06-25 to 09-12, not 06-01 to 08-31']
    """
    by_name = {season.name: season for season in known}
    return [
        f"{season.name} is {own.start} to {own.end}, not {season.start} to {season.end}"
        for season in wanted
        if (own := by_name.get(season.name)) is not None and own != season
    ]


def nearest_to_midsummer(seasons: Sequence[Season]) -> int:
    """Position of the season whose midpoint is nearest to 1 July of any year; figures show this one."""

    def distance(season: Season) -> int:
        days = (season.midpoint(2001) - date(2001, *_MIDSUMMER)).days % 365
        return min(days, 365 - days)

    return min(range(len(seasons)), key=lambda i: distance(seasons[i]))


def _day(year: int, day: str, without_leap_day: tuple[int, int]) -> date:
    """A day of a year; ``without_leap_day`` (month, day) replaces 29 February in common years."""
    if day == "02-29" and not calendar.isleap(year):
        return date(year, *without_leap_day)
    return date.fromisoformat(f"{year:04d}-{day}")
