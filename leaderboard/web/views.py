"""What the public pages show: HTML of tables, results, comparisons and the history, for the service and for exports."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from leaderboard.errors import RequestError, not_found
from leaderboard.ranking.choice import Choice
from leaderboard.ranking.paired import paired_tests
from leaderboard.ranking.parts import KINDS, parts
from leaderboard.ranking.summary import shown
from leaderboard.ranking.table import PAGE_ROWS, Row, Snapshot, harmless, sort_value
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.db import Submission
from leaderboard.web.render import html
from lulcbench.errors import UnsupportedFormatError
from lulcbench.evaluation.metrics import METRICS, RANKING
from lulcbench.evaluation.scores import LevelScores, Scores

log = logging.getLogger(__name__)
MAX_COMPARED = 6
FEED_ROWS = 50


def table_html(
    settings: Settings,
    snapshot: Snapshot,
    choice: Choice,
    root: str = "/",
    static: bool = False,
    downloads: Mapping[str, str] = MappingProxyType({}),
    levels: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """The page of a table.

    Args:
        settings: what every page names, such as the title.
        snapshot: the board.
        choice: filters and order.
        root: prefix of links.
        static: leave out links that need the service (filters, other pages of the table).
        downloads: label → file, additional links of a static page.
        levels: level → file, the other levels of a static page.
    """
    asked, choice = choice, snapshot.resolve(choice)
    rows = snapshot.select(choice)
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    page = min(choice.page, pages)
    shown = rows if static else rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
    wanted = [metric for metric in METRICS.values() if "board" in metric.tables or metric.name == choice.sort]
    shown_metrics = [metric for metric in wanted if any(row.estimate(choice.level, metric.name) for row in rows)]
    return html(
        "table.html",
        settings,
        snapshot=snapshot,
        asked=asked,
        choice=choice,
        hidden=snapshot.hidden(choice),
        rows=shown,
        ranks=ranks(rows, choice),
        resolution=snapshot.resolution(choice),
        levels=levels if static else {level: _link(choice, level=level, page="") for level in (1, 2, 3, 4)},
        sizes=[
            (row.model, row.parameters, estimate.value)
            for row in rows
            if row.parameters and not row.saw_labels and (estimate := row.estimate(choice.level, choice.metric))
        ],
        copies=snapshot.copies,
        total=len(rows),
        page=page,
        pages=pages,
        shown_metrics=shown_metrics or [METRICS[RANKING]],
        options=snapshot.options(choice),
        best=snapshot.best_by_sensors(choice),
        by_part="" if static else f"/parts{_link(choice, page='', sort='', order='')}",
        link=lambda **changes: _link(choice, **({"years": asked.years, "scorer": asked.scorer} | changes)),
        root=root,
        static=static,
        downloads=downloads,
    )


def confusion_csv(level: LevelScores) -> str:
    """The confusion matrix of a level: label pixels by class of the label (rows) and of the prediction (columns)."""
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(["label", "name", *(f"predicted {column.code}" for column in level.classes)])
    for row, counts in zip(level.classes, level.confusion, strict=True):
        table.writerow([row.code, harmless(row.name), *counts])
    return lines.getvalue()


def parts_html(
    settings: Settings,
    snapshot: Snapshot,
    choice: Choice,
    part: str = "",
    root: str = "/",
    static: bool = False,
    table: str = "",
    levels: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """The page of a table by class, region and label edge.

    Args:
        settings: what every page names, such as the title.
        snapshot: the board.
        choice: the table and its level.
        part: key of a part whose whole ranking is shown; empty for none.
        root: prefix of links.
        static: leave out links that need the service.
        table: file of the table, of a static page.
        levels: level → file, of a static page.

    Raises:
        RequestError: 404, there is no such part.
    """
    choice = snapshot.resolve(choice)
    found = parts(snapshot, choice)
    chosen = next((one for one in found if one.key == part), None)
    if part and chosen is None:
        raise not_found("The table has no such part.")
    return html(
        "parts.html",
        settings,
        snapshot=snapshot,
        choice=choice,
        parts=found,
        chosen=chosen,
        kinds=KINDS,
        levels=levels if static else {level: _link(choice, level=level) for level in (1, 2, 3, 4)},
        table=table or f"/{_link(choice)}",
        link=lambda key: f"{_link(choice, part=key)}#h-chosen",
        root=root,
        static=static,
    )


def ranks(rows: Sequence[Row], choice: Choice) -> dict[str, int]:
    """Submission id → rank, for the rows that are ranked; rows with the same value in the sorted column share one."""
    result: dict[str, int] = {}
    before: tuple[Any, int] | None = None
    for position, row in enumerate((row for row in rows if not row.saw_labels), start=1):
        value = sort_value(row, choice)
        rank = before[1] if before is not None and value is not None and value == before[0] else position
        before = (value, rank)
        result[row.id] = rank
    return result


def history_html(settings: Settings, snapshot: Snapshot, choice: Choice, root: str = "/", static: bool = False) -> str:
    """The history page: all scores of a table in order of time, and those that were the best when submitted.

    Models that saw labels of the scored split are left out.
    """
    asked, metric = choice, METRICS[choice.metric]
    ranked = {"sort": metric.name, "superseded": True, "saw_labels": False, "page": 1}
    choice = snapshot.resolve(choice.model_copy(update=ranked))
    rows = sorted(snapshot.select(choice), key=lambda row: row.submitted)
    scored = [(row, estimate.value) for row in rows if (estimate := row.estimate(choice.level, metric.name))]
    best: list[tuple[Row, float]] = []
    for row, value in scored:
        if not best or metric.better(value, best[-1][1]):
            best.append((row, value))
    return html(
        "history.html",
        settings,
        snapshot=snapshot,
        asked=asked,
        choice=choice,
        options=snapshot.options(choice),
        metric=metric,
        best=best,
        points=[(row.submitted, value, row.model) for row, value in scored],
        leaders=[(row.submitted, value, row.model) for row, value in best],
        root=root,
        static=static,
    )


def feed_xml(settings: Settings, snapshot: Snapshot) -> str:
    """The feed, newest first."""
    newest = sorted(snapshot.rows, key=lambda row: row.submitted, reverse=True)[:FEED_ROWS]
    base = settings.public_url.rstrip("/")
    return html("feed.xml", settings, rows=newest, base=base, metric=METRICS[RANKING])


def submission_html(settings: Settings, submission: Submission, superseded_by: str | None) -> str:
    """The page of a scored submission, and the one that replaces it on the board."""
    newer = f"/submissions/{superseded_by}" if superseded_by else None
    permalink = f"{settings.public_url.rstrip('/')}/submissions/{submission.id}"
    return submission_page(settings, submission, permalink, newer)


def submission_page(
    settings: Settings,
    submission: Submission,
    permalink: str,
    newer: str | None,
    root: str = "/",
    static: bool = False,
) -> str:
    """The page of a scored submission, for the service or for an exported folder.

    Args:
        settings: for the ledger and the images.
        submission: a scored submission.
        permalink: address of this page.
        newer: page of the submission that supersedes it; empty if it has no page, None if there is none.
        root: prefix of other links.
        static: leave out links that need the service.
    """
    if submission.result is None:
        raise not_found()
    entry = read_record(settings, submission.result.ledger_path)
    media = settings.media / submission.id
    scores = read_scores(entry)
    levels = scores.levels.values()
    given = [metric for metric in METRICS.values() if any(metric.name in level.metrics for level in levels)]
    return html(
        "submission.html",
        settings,
        submission=submission,
        entry=entry,
        scores=scores,
        given=given,
        links=[(name, entry.card[name]) for name in ("code", "paper", "weights") if entry.card.get(name)],
        citation=citation(settings.title, entry, submission, permalink),
        samples=entry.samples if media.is_dir() else [],
        permalink=permalink,
        newer=newer,
        root=root,
        static=static,
    )


def citation(title: str, entry: ledger.Entry, submission: Submission, permalink: str) -> str:
    """The entry as BibTeX; characters that BibTeX and LaTeX would interpret are left out, underscores escaped."""
    authors = " and ".join(str(author) for author in entry.card["authors"])
    fields = {
        "title": f"{entry.card['name']}: result on {entry.release}, {entry.task}, {entry.split} split",
        "author": authors,
        "year": f"{submission.created_at:%Y}",
        "howpublished": f"{title}, {permalink}",
        "note": f"predictions SHA-256 {entry.sha256}, ledger digest {entry.digest}",
    }
    safe = {key: re.sub(r"[{}\\%$#&~^]", "", value).replace("_", r"\_") for key, value in fields.items()}
    lines = [f"  {key} = {{{value}}}," for key, value in safe.items()]
    return "\n".join([f"@misc{{lulcbench-{submission.id},", *lines, "}"])


def compare_html(settings: Settings, snapshot: Snapshot, ids: list[str], level: int) -> str:
    """The page of a comparison; raises the errors of ``compared``."""
    rows, entries = compared(settings, snapshot, ids, level)
    scores = [read_scores(entry) for entry in entries]
    parts = [file_scores.levels.get(level) for file_scores in scores]
    tests = paired_tests(entries, level)
    return html(
        "compare.html",
        settings,
        rows=rows,
        level=level,
        blocks=scores[0].blocks,
        classes=_classes(parts),
        tests=tests,
        query=urlencode({"id": [row.id for row in rows], "level": level}, doseq=True),
    )


def check_ids(ids: list[str], level: int) -> list[str]:
    """The submissions to compare: the first, against which the others are tested, and the others sorted by id.

    The same comparison therefore has one key, in whichever order it is requested.

    Raises:
        RequestError: 422, too few, too many, or no such level.
    """
    wanted = list(dict.fromkeys(ids))
    if not 2 <= len(wanted) <= MAX_COMPARED:
        raise RequestError(422, f"{len(wanted)} submissions are chosen.", f"Select 2 to {MAX_COMPARED} in the table.")
    if not 1 <= level <= 4:
        raise RequestError(422, f"LUISA has no level {level}.", "Choose 1, 2, 3 or 4.")
    return [wanted[0], *sorted(wanted[1:])]


def compared(
    settings: Settings, snapshot: Snapshot, ids: list[str], level: int
) -> tuple[list[Row], list[ledger.Entry]]:
    """The rows and ledger entries of the submissions to compare.

    Raises:
        RequestError: 422, the submissions cannot be compared; 404, one is not on the board; 503, a record is damaged.
    """
    wanted = check_ids(ids, level)
    by_id = {row.id: row for row in snapshot.rows}
    if not all(submission_id in by_id for submission_id in wanted):
        raise not_found("One of the submissions is not on the board.")
    rows = [by_id[submission_id] for submission_id in wanted]
    if len({(row.release_key, row.task, row.years, row.split, row.scorer_version) for row in rows}) > 1:
        raise RequestError(
            422,
            "The submissions differ in release, task, years, split or scorer version.",
            "Choose submissions from one table.",
        )
    return rows, [read_record(settings, f"{row.release_key}/{row.id}.json") for row in rows]


def read_record(settings: Settings, path: str) -> ledger.Entry:
    """The ledger entry at a path stored in the database.

    Raises:
        RequestError: 503, it is missing or damaged; the error is logged for the operator.
    """
    try:
        return ledger.read(settings.ledger / path)
    except ledger.DamagedFile as error:
        report_once(error.what)
        raise RequestError(
            503,
            f"The record of submission {PurePosixPath(path).stem} cannot be read.",
            "The operator has to restore it from a backup; other pages are not affected.",
        ) from error


def read_scores(entry: ledger.Entry) -> Scores:
    """The scores of a ledger entry, as ``summary.shown``.

    Raises:
        RequestError: 503, they have an unknown format.
    """
    try:
        return shown(entry.scores, entry.blocks, entry.path)
    except UnsupportedFormatError as error:
        report_once(error.what)
        raise RequestError(
            503,
            f"The scores of submission {entry.submission} have a newer format.",
            "The operator has to upgrade the service; other pages are not affected.",
        ) from error


@lru_cache(maxsize=1024)
def report_once(what: str) -> None:
    """Log once an error that every request for a page would log again."""
    log.error("%s", what)


def _classes(parts: list[LevelScores | None]) -> list[dict[str, Any]]:
    """Code, name, support and IoU in each of the compared submissions, for each class that occurs in them."""
    classes = next((part.classes for part in parts if part), ())
    ious = [{scored.code: scored.iou for scored in part.classes} if part else {} for part in parts]
    rows: list[dict[str, Any]] = [
        {
            "code": scored.code,
            "name": scored.name,
            "support": scored.support,
            "ious": [iou.get(scored.code) for iou in ious],
        }
        for scored in classes
    ]
    return [row for row in rows if row["support"] or any(row["ious"])]


def _link(choice: Choice, **changes: Any) -> str:
    fields = choice.model_dump(mode="json", exclude_defaults=True) | changes
    fields = {key: value for key, value in fields.items() if value not in (None, "", False)}
    return "?" + urlencode(fields) if fields else "?"
