"""What the table holds and how a reader chooses from it: rows, filters, order, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from leaderboard.db import Submission
from leaderboard.summary import ALL_METRICS, SMALLER_IS_BETTER

PAGE_ROWS = 50
TIER_ORDER = ("reproduced", "rescored", "reported")

Figure = tuple[float, float | None, float | None]


class Choice(BaseModel):
    """What a reader wants to see; exactly the query string of the page and of ``/api/v1/leaderboard``."""

    model_config = ConfigDict(frozen=True)

    release: str | None = Field(None, max_length=160, description="Release key; by default that of the newest result.")
    task: Literal["segmentation", "change"] | None = None
    split: str | None = Field(None, max_length=16)
    level: int = Field(4, ge=1, le=4)
    sensor: str | None = Field(None, max_length=200, description="Models that use this sensor.")
    sensors: str | None = Field(None, max_length=400, description="Models that use these and no others: a+b.")
    tier: Literal["reported", "rescored", "reproduced"] | None = None
    pretraining: str | None = Field(None, max_length=200)
    max_parameters: float | None = Field(None, ge=0, description="Millions.")
    since: date | None = Field(None, description="Submitted on or after.")
    q: str | None = Field(None, max_length=200, description="Part of the model's or team's name.")
    superseded: bool = False
    sort: str = Field("miou", max_length=200)
    order: Literal["asc", "desc"] | None = None
    page: int = Field(1, ge=1, le=100_000)

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, values: Any) -> Any:
        """A form sends its empty fields too."""
        return {key: value for key, value in values.items() if value != ""} if isinstance(values, dict) else values

    @property
    def descending(self) -> bool:
        """The order asked for, or the column's natural one: best first, newest first, names from A."""
        if self.order:
            return self.order == "desc"
        return self.sort == "date" or (self.sort in ALL_METRICS and self.sort not in SMALLER_IS_BETTER)


@dataclass(frozen=True, slots=True)
class Row:
    """One result on the board."""

    id: str
    team: str
    model: str
    tier: str
    sensors: tuple[str, ...]
    pretraining: str
    parameters: int | None
    saw_labels: bool
    submitted: datetime
    release_key: str
    simulated: bool
    task: str
    split: str
    scorer_version: str
    superseded_by: str | None
    levels: dict[str, dict[str, Figure]]

    @property
    def sensor_set(self) -> str:
        """The sensors as one word, alphabetical: ``landsat+sentinel2``."""
        return "+".join(self.sensors)

    def figure(self, level: int, metric: str) -> Figure | None:
        """(value, low, high) of a metric, or None where it has none."""
        found = self.levels.get(str(level), {}).get(metric)
        return (found[0], found[1], found[2]) if found else None

    def record(self, level: int) -> dict[str, Any]:
        """The row as flat JSON at one level."""
        flat: dict[str, Any] = {
            "submission": self.id,
            "model": self.model,
            "team": self.team,
            "tier": self.tier,
            "sensors": self.sensor_set,
            "pretraining": self.pretraining,
            "parameters": self.parameters,
            "saw_scored_labels": self.saw_labels,
            "submitted": self.submitted.isoformat(),
            "release": self.release_key,
            "simulated": self.simulated,
            "task": self.task,
            "split": self.split,
            "scorer_version": self.scorer_version,
            "superseded_by": self.superseded_by,
            "level": level,
        }
        for metric in ALL_METRICS:
            value, low, high = self.figure(level, metric) or (None, None, None)
            flat |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
        return flat


@dataclass(frozen=True)
class Snapshot:
    """The board at one revision."""

    revision: int
    rows: tuple[Row, ...]

    @property
    def releases(self) -> dict[str, bool]:
        """Release key → simulated, that of the newest result first."""
        newest = sorted(self.rows, key=lambda row: row.submitted, reverse=True)
        return {row.release_key: row.simulated for row in newest}

    def resolve(self, choice: Choice) -> Choice:
        """The choice with its defaults filled in: the newest result's release, task and split."""
        release = choice.release or next(iter(self.releases), None)
        rows = [row for row in self.rows if row.release_key == release]
        newest = max(rows, key=lambda row: row.submitted, default=None)
        task = choice.task or (newest.task if newest else "segmentation")
        split = choice.split or ("test" if newest is None or any(r.split == "test" for r in rows) else newest.split)
        return choice.model_copy(update={"release": release, "task": task, "split": split})

    def select(self, choice: Choice) -> list[Row]:
        """The rows that fit a choice, sorted; rows without the figure sorted by come last either way."""
        wanted = self.resolve(choice)
        needle = (wanted.q or "").casefold()
        rows = [
            row
            for row in self.rows
            if row.release_key == wanted.release
            and row.task == wanted.task
            and row.split == wanted.split
            and (wanted.superseded or row.superseded_by is None)
            and (wanted.sensor is None or wanted.sensor in row.sensors)
            and (wanted.sensors is None or wanted.sensors == row.sensor_set)
            and (wanted.tier is None or wanted.tier == row.tier)
            and (wanted.pretraining is None or wanted.pretraining == row.pretraining)
            and (wanted.max_parameters is None or (row.parameters or 0) <= wanted.max_parameters * 1e6)
            and (wanted.since is None or row.submitted.date() >= wanted.since)
            and (not needle or needle in row.model.casefold() or needle in row.team.casefold())
        ]
        key = _sort_key(wanted)
        known = sorted((row for row in rows if key(row) is not None), key=key, reverse=wanted.descending)
        return known + [row for row in rows if key(row) is None]

    def best_by_sensors(self, choice: Choice) -> list[tuple[str, Row, int]]:
        """Of the rows that fit a choice: sensor set, its best row by the metric sorted by, and how many it has."""
        metric = choice.sort if choice.sort in ALL_METRICS else "miou"
        groups: dict[str, list[Row]] = {}
        for row in self.select(choice.model_copy(update={"sort": metric, "order": None})):
            groups.setdefault(row.sensor_set, []).append(row)
        return [(name, rows[0], len(rows)) for name, rows in groups.items()]

    def options(self) -> dict[str, list[str]]:
        """The values that the filters offer."""
        return {
            "sensor": sorted({sensor for row in self.rows for sensor in row.sensors}),
            "sensors": sorted({row.sensor_set for row in self.rows}),
            "pretraining": sorted({row.pretraining for row in self.rows}),
            "split": sorted({row.split for row in self.rows}),
        }

    def to_json(self, choice: Choice, rows: list[Row]) -> dict[str, Any]:
        """The rows, with what they were chosen by."""
        resolved = self.resolve(choice).model_dump(mode="json", exclude={"page"})
        return {"choice": resolved, "rows": [row.record(choice.level) for row in rows]}


def to_csv(rows: list[Row], level: int) -> str:
    """The rows as CSV. A text cell that a spreadsheet would take for a formula gets a leading apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    records = [row.record(level) for row in rows]
    writer.writerow(records[0] if records else ["submission"])
    for record in records:
        writer.writerow([harmless(value) for value in record.values()])
    return buffer.getvalue()


def harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def _sort_key(choice: Choice) -> Callable[[Row], Any]:
    columns: dict[str, Callable[[Row], Any]] = {
        "model": lambda row: (row.model.casefold(), row.id),
        "team": lambda row: (row.team.casefold(), row.id),
        "date": lambda row: (row.submitted, row.id),
        "tier": lambda row: (TIER_ORDER.index(row.tier), row.id),
        "sensors": lambda row: (row.sensors, row.id),
        "pretraining": lambda row: (row.pretraining, row.id),
        "parameters": lambda row: None if row.parameters is None else (row.parameters, row.id),
    }
    metric = choice.sort if choice.sort in ALL_METRICS else "miou"

    def by_metric(row: Row) -> Any:
        figure = row.figure(choice.level, metric)
        return None if figure is None else (figure[0], row.id)

    return columns.get(choice.sort, by_metric)


def make_row(found: Submission) -> Row:
    """The row of a scored submission."""
    if found.result is None:
        raise RuntimeError(f"{found.id} is scored without a result")
    result, summary = found.result, found.result.summary
    return Row(
        id=found.id,
        team=found.team.name,
        model=summary["model"],
        tier=found.tier,
        sensors=tuple(summary["sensors"]),
        pretraining=summary["pretraining"],
        parameters=summary["parameters"],
        saw_labels=summary["saw_labels"],
        submitted=found.created_at.astimezone(UTC),
        release_key=result.release_key,
        simulated=result.simulated,
        task=result.task,
        split=result.split,
        scorer_version=summary["scorer_version"],
        superseded_by=found.superseded_by,
        levels=summary["levels"],
    )
