"""Which days a season of a year covers."""

from __future__ import annotations

from datetime import date, datetime

from builders.readers.scene import Scene
from builders.recipe import Recipe, SensorRule
from lulcbench.errors import LulcbenchError
from lulcbench.release import Season

Days = tuple[date, date]


def days(season: Season, year: int) -> Days:
    """First and last day, inclusive; a season whose start lies after its end begins in the year before."""
    try:
        end = date.fromisoformat(f"{year}-{season.end}")
        start = date.fromisoformat(f"{year}-{season.start}")
        if start > end:
            start = date.fromisoformat(f"{year - 1}-{season.start}")
    except ValueError as error:
        raise LulcbenchError(
            f"Season {season.name!r} ({season.start} to {season.end}) has no such day in {year}.",
            "Give start and end as MM-DD; for the end of February use 02-28.",
        ) from error
    return start, end


def composites(recipe: Recipe, rule: SensorRule, year: int) -> list[Days]:
    """The days of each season's composite of a sensor and year."""
    if rule.acquired:
        try:
            span = (date.fromisoformat(rule.acquired[0]), date.fromisoformat(rule.acquired[1]))
        except ValueError as error:
            raise LulcbenchError(f"{rule.name}: acquired {rule.acquired}: {error}.", "Use YYYY-MM-DD.") from error
        return [span for _ in recipe.seasons]
    return [days(season, year) for season in recipe.seasons]


def falls_in(scene: Scene, span: Days) -> bool:
    """Whether a scene was, or may have been, acquired within the days."""
    start, end = (datetime.fromisoformat(moment).date() for moment in (scene.start, scene.end))
    return start <= span[1] and end >= span[0]
