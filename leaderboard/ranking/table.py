"""The ranking table: rows, filters, order, CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, get_args

from leaderboard.ranking.choice import Choice
from leaderboard.ranking.columns import COLUMNS, TIER_ORDER
from leaderboard.ranking.resolution import Resolution, resolve
from leaderboard.ranking.summary import SUMMARY_VERSION
from leaderboard.store.db import Submission
from lulcbench.evaluation.metrics import METRICS, RANKING
from lulcbench.evaluation.scores import Estimate
from lulcbench.predictions.format import Task, task_of

PAGE_ROWS = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One result on the board.

    Attributes:
        card: the model card, without its description; empty if the summary was made by another version.
        worst_region: level → name of the region where ``RANKING`` is worst, and its value there.
        without_blocks, parts: see ``summary.summarise``, with levels as numbers.
    """

    id: str
    team: str
    model: str
    tier: str
    sensors: tuple[str, ...]
    pretraining: str
    parameters: int | None
    saw_labels: bool
    submitted: datetime
    sha256: str
    release_key: str
    simulated: bool
    task: str
    years: str
    split: str
    scorer_version: str
    superseded_by: str | None
    levels: dict[int, dict[str, Estimate]]
    card: dict[str, Any]
    worst_region: dict[int, tuple[str, float]]
    without_blocks: dict[int, tuple[float, ...]]
    parts: dict[int, dict[str, dict[str, float]]]

    @property
    def members(self) -> int:
        """Number of trained models whose outputs are combined; 1 if the card does not state an ensemble."""
        return int(self.card.get("members", 1))

    @property
    def sensor_set(self) -> str:
        """The sensors as one word, alphabetical: ``landsat+sentinel2``, or ``none``."""
        return "+".join(self.sensors) or "none"

    def estimate(self, level: int, metric: str) -> Estimate | None:
        """The estimate of a metric, or None if the result has none."""
        return self.levels.get(level, {}).get(metric)

    def record(self, level: int) -> dict[str, Any]:
        """The row as flat JSON at one level."""
        flat: dict[str, Any] = {
            "submission": self.id,
            **{column.key: column.value(self) for column in COLUMNS.values()},
            "saw_scored_labels": self.saw_labels,
            "release": self.release_key,
            "simulated": self.simulated,
            "task": self.task,
            "years": self.years,
            "split": self.split,
            "scorer_version": self.scorer_version,
            "superseded_by": self.superseded_by,
            "level": level,
            "members": self.members,
        }
        region, value = self.worst_region.get(level, (None, None))
        flat |= {"worst_region": region, f"worst_region_{RANKING}": value}
        for name in METRICS:
            estimate = self.estimate(level, name)
            value, low, high = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
            flat |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return flat


@dataclass(frozen=True, slots=True)
class Hidden:
    """Numbers of results that match a choice and are not shown with it.

    Attributes:
        other_scorers: number of results of other scorer versions.
        versions: these versions, newest first.
        saw_labels: number of results of models that saw labels of the scored split, unless these were requested.
    """

    other_scorers: int
    versions: tuple[str, ...]
    saw_labels: int


@dataclass(frozen=True)
class Snapshot:
    """The board at one revision."""

    revision: int
    rows: tuple[Row, ...]

    @property
    def releases(self) -> dict[str, bool]:
        """Release key → simulated; real before simulated, then by newest result."""
        newest = sorted(self.rows, key=lambda row: row.submitted, reverse=True)
        return {row.release_key: row.simulated for row in sorted(newest, key=lambda row: row.simulated)}

    def resolve(self, choice: Choice) -> Choice:
        """Fill in the defaults of a choice, so that it selects one table, whose scores can be compared.

        Defaults: the release of the newest result, preferring real to simulated ones; the first of segmentation,
        change and series for which it has results; the test split, if it has results; the latest years; the newest
        scorer version.
        """
        release = choice.release or next(iter(self.releases), None)
        rows = [row for row in self.rows if row.release_key == release]
        tasks = {row.task for row in rows}
        available = next((name for name in get_args(Task) if name in tasks), "segmentation")
        task = choice.task or (_task(choice.years) if choice.years else available)
        rows = [row for row in rows if row.task == task]
        splits = {row.split for row in rows}
        split = choice.split or ("test" if "test" in splits or not splits else min(splits))
        rows = [row for row in rows if row.split == split]
        years = choice.years
        if years is None or _task(years) != task:
            years = max((row.years for row in rows), key=_latest, default=None)
        rows = [row for row in rows if row.years == years]
        scorer = choice.scorer or max((row.scorer_version for row in rows), key=version_order, default=None)
        filled = {"release": release, "task": task, "split": split, "years": years, "scorer": scorer}
        return choice.model_copy(update=filled)

    def without_idle_filters(self, choice: Choice) -> Choice:
        """A choice without the filters that every row passes: with any other value they would give the same table."""
        idle: dict[str, Any] = {}
        largest = max((row.parameters or 0 for row in self.rows), default=0)
        if choice.max_parameters is not None and choice.max_parameters * 1e6 >= largest:
            idle["max_parameters"] = None
        if choice.since is not None and all(row.submitted.date() >= choice.since for row in self.rows):
            idle["since"] = None
        return choice.model_copy(update=idle)

    def select(self, choice: Choice) -> list[Row]:
        """The rows that match a choice, sorted; of several with the same predictions only one (``originals``).

        Rows with the same value are in the order of submission. Rows without a value in the sorted column are at the
        end in both orders, and after them those of models that saw the labels, which are not ranked.
        """
        wanted = self.resolve(choice)
        rows = [
            row
            for row in self._fitting(wanted)
            if row.scorer_version == wanted.scorer and (wanted.saw_labels or not row.saw_labels)
        ]
        known = [row for row in rows if sort_value(row, wanted) is not None]
        known.sort(key=lambda row: sort_value(row, wanted), reverse=wanted.descending)
        known += [row for row in rows if sort_value(row, wanted) is None]
        return sorted(known, key=lambda row: row.saw_labels)

    @cached_property
    def originals(self) -> tuple[Row, ...]:
        """The rows in the order of submission, one for each predictions file of a table; see ``original``.

        They do not depend on filters, so that no filter shows another row of the same predictions.
        """
        shown = [original(rows) for rows in self._groups]
        return tuple(sorted(shown, key=lambda row: (row.submitted, row.id)))

    @cached_property
    def copies(self) -> dict[str, int]:
        """Submission id → number of other submissions of the same predictions, for ``originals`` that have any."""
        return {original(rows).id: len(rows) - 1 for rows in self._groups if len(rows) > 1}

    @cached_property
    def _groups(self) -> list[list[Row]]:
        """The rows of each predictions file of a table."""
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            table = (row.release_key, row.task, row.years, row.split, row.scorer_version)
            groups.setdefault((*table, row.sha256), []).append(row)
        return list(groups.values())

    def hidden(self, choice: Choice) -> Hidden:
        """Numbers of results that match a choice and are not among its rows."""
        wanted = self.resolve(choice)
        rows = self._fitting(wanted)
        others = [row.scorer_version for row in rows if row.scorer_version != wanted.scorer]
        saw = sum(row.saw_labels and row.scorer_version == wanted.scorer for row in rows)
        versions = sorted(set(others), key=version_order, reverse=True)
        return Hidden(len(others), tuple(versions), 0 if wanted.saw_labels else saw)

    def _fitting(self, wanted: Choice) -> list[Row]:
        """Originals that match a resolved choice, regardless of scorer version and of the labels that models saw."""
        needle = (wanted.q or "").casefold()
        return [
            row
            for row in self.originals
            if row.release_key == wanted.release
            and row.task == wanted.task
            and row.split == wanted.split
            and row.years == wanted.years
            and (wanted.superseded or row.superseded_by is None)
            and (wanted.sensor is None or wanted.sensor in row.sensors)
            and (wanted.sensors is None or wanted.sensors == row.sensor_set)
            and (wanted.tier is None or wanted.tier == row.tier)
            and (wanted.pretraining is None or wanted.pretraining == row.pretraining)
            and (wanted.max_parameters is None or (row.parameters or 0) <= wanted.max_parameters * 1e6)
            and (wanted.since is None or row.submitted.date() >= wanted.since)
            and (not needle or needle in row.model.casefold() or needle in row.team.casefold())
        ]

    def best_by_sensors(self, choice: Choice) -> list[tuple[str, Row, int]]:
        """Sensor set, its best row by ``choice.metric``, and its number of rows, for the ranked rows of a choice."""
        groups: dict[str, list[Row]] = {}
        ranked = {"sort": choice.metric, "order": None, "saw_labels": False}
        for row in self.select(choice.model_copy(update=ranked)):
            groups.setdefault(row.sensor_set, []).append(row)
        return [(name, rows[0], len(rows)) for name, rows in groups.items()]

    def options(self, choice: Choice) -> dict[str, list[str]]:
        """The values that the filters offer; years and scorer versions are those of the chosen release and task."""
        wanted = self.resolve(choice)
        rows = [row for row in self.rows if row.release_key == wanted.release and row.task == wanted.task]
        years = {row.years for row in rows} | ({wanted.years} if wanted.years else set())
        scorers = {row.scorer_version for row in rows} | ({wanted.scorer} if wanted.scorer else set())
        return {
            "years": sorted(years, key=_latest, reverse=True),
            "scorer": sorted(scorers, key=version_order, reverse=True),
            "sensor": sorted({sensor for row in self.rows for sensor in row.sensors}),
            "sensors": sorted({row.sensor_set for row in self.rows}),
            "pretraining": sorted({row.pretraining for row in self.rows}),
            "split": sorted({row.split for row in self.rows}),
        }

    def to_json(self, choice: Choice, rows: list[Row]) -> dict[str, Any]:
        """The rows, with the resolved choice and the numbers of results that are not shown."""
        resolved = self.resolve(choice).model_dump(mode="json", exclude={"page"})
        hidden = self.hidden(choice)
        left_out = {"other_scorer_versions": hidden.other_scorers, "saw_scored_labels": hidden.saw_labels}
        found = self.resolution(choice)
        return {
            "choice": resolved,
            "hidden": left_out,
            "resolution": {"metric": RANKING, "floor": found.floor, "blocks": found.blocks},
            "rows": [row.record(choice.level) | {"tied_ranks": found.ties.get(row.id)} for row in rows],
        }

    def resolution(self, choice: Choice) -> Resolution:
        """What the blocks of a table can tell apart, by ``RANKING``, regardless of the column that it is sorted by."""
        ranked = {"sort": RANKING, "order": None, "saw_labels": False, "page": 1}
        return resolve(self.select(choice.model_copy(update=ranked)), choice.level)


def original(rows: Sequence[Row]) -> Row:
    """Of rows with the same predictions, the one that a table shows: of the highest trust tier, and then the earliest.

    A row that a newer one replaces comes after the others of its tier.
    """
    return min(rows, key=lambda row: (TIER_ORDER.index(row.tier), row.superseded_by is not None, row.submitted, row.id))


def with_labels_seen(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, marked as having seen the labels if the card of any row with the same predictions states it.

    The card of a self-reported row counts for its own team only: the board has not seen its predictions, and anybody
    can name the SHA-256 of another team's file.
    """
    stated = [row for row in rows if row.saw_labels]
    files = {row.sha256 for row in stated if row.tier != "reported"}
    of_team = {(row.sha256, row.team) for row in stated}
    return tuple(
        replace(row, saw_labels=row.saw_labels or row.sha256 in files or (row.sha256, row.team) in of_team)
        for row in rows
    )


def to_csv(rows: list[Row], level: int) -> str:
    """The rows as CSV. A text that a spreadsheet would interpret as a formula gets a leading apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    records = [row.record(level) for row in rows]
    writer.writerow(records[0] if records else ["submission"])
    for record in records:
        writer.writerow([harmless(value) for value in record.values()])
    return buffer.getvalue()


def harmless(value: Any) -> Any:
    """Prefix a text that a spreadsheet would interpret as a formula with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def version_order(version: str) -> tuple[tuple[int, ...], str]:
    """Sort key of versions: 1.9 before 1.10."""
    return tuple(int(part) for part in re.findall(r"\d+", version)), version


def _task(years: str) -> Task:
    """The task of results of these years."""
    return task_of(_latest(years))


def _latest(years: str) -> list[int]:
    """Sort key of years, by the last of them."""
    return [int(year) for year in reversed(years.split("-"))]


def sort_value(row: Row, choice: Choice) -> Any:
    """Value of a row in the column by which a choice is sorted; None if it has none."""
    if choice.sort in COLUMNS:
        return COLUMNS[choice.sort].sort_key(row)
    estimate = row.estimate(choice.level, choice.metric)
    return None if estimate is None else estimate.value


def make_row(submission: Submission, superseded_by: str | None) -> Row:
    """The row of a scored submission; without metrics if its summary has another version (``records.prepare``).

    Args:
        submission: a scored submission.
        superseded_by: the one that replaces it on the board, see ``standing.successor``.
    """
    if submission.result is None:
        raise RuntimeError(f"{submission.id} is scored without a result")
    result, summary = submission.result, submission.result.summary
    current = summary.get("version") == SUMMARY_VERSION
    levels = summary["levels"] if current else {}
    return Row(
        id=submission.id,
        team=submission.team.name,
        model=summary["model"],
        tier=submission.tier,
        sensors=tuple(summary["sensors"]),
        pretraining=summary["pretraining"],
        parameters=summary["parameters"],
        saw_labels=summary["saw_labels"],
        submitted=submission.created_at.astimezone(UTC),
        sha256=submission.sha256,
        release_key=result.release_key,
        simulated=result.simulated,
        task=result.task,
        years=result.years,
        split=result.split,
        scorer_version=summary["scorer_version"],
        superseded_by=superseded_by,
        levels={
            int(level): {name: Estimate(**estimate) for name, estimate in part.items()}
            for level, part in levels.items()
        },
        card=summary.get("card", {}),
        worst_region={int(k): (name, value) for k, (name, value) in summary["worst_region"].items()} if current else {},
        without_blocks={int(k): tuple(values) for k, values in summary["without_blocks"].items()} if current else {},
        parts={int(level): kinds for level, kinds in summary["parts"].items()} if current else {},
    )
