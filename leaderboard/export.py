"""Export of the board: a Parquet table and static pages that need no service (GitHub Pages, Hugging Face)."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from sqlalchemy import select

from leaderboard.ranking.choice import Choice
from leaderboard.ranking.table import Row, Snapshot, to_csv, version_order
from leaderboard.settings import Settings
from leaderboard.store import chain, ledger, standing
from leaderboard.store.db import Database, Result, Submission
from leaderboard.store.records import differences, replay
from leaderboard.web.board import Board
from leaderboard.web.render import html
from leaderboard.web.views import (
    confusion_csv,
    history_html,
    parts_html,
    read_record,
    read_scores,
    submission_page,
    table_html,
)
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import RANKING
from lulcbench.evaluation.scores import Estimate

log = logging.getLogger(__name__)
LEVELS = (1, 2, 3, 4)
BEST = 5  # rows of each table on the front page
_FOLDER = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[^\s?#\"<>]*)?")


def export(db: Database, settings: Settings, out: Path, url: str = "") -> Path:
    """Write the whole board as files with relative links, so that the folder can be moved.

    Results of the ledger that the database does not have, such as those of a colleague, are added to it first.

    The files are ``leaderboard.parquet``, ``index.html`` and ``about.html``; for each table and level a page, a CSV
    and a history; for each submission a page, its confusion matrices as CSV, its images and its ledger file. A
    submission whose ledger file is damaged is logged and left out.

    Args:
        db: the database.
        settings: for the ledger and the images.
        out: folder to create; it is written atomically.
        url: address at which the folder will be served, for absolute permalinks; empty for relative ones.

    Returns:
        The folder.

    Raises:
        LulcbenchError: the folder exists, ``url`` is not the web address of a folder, or the database differs from the
            ledger.
    """
    if out.exists():
        raise LulcbenchError(f"{out} exists.", "Name a new folder.")
    if url and not _FOLDER.fullmatch(url):
        raise LulcbenchError(
            f"{url!r} is not the web address of a folder.", "Give one such as https://board.example/lulc."
        )
    contents = ledger.load(settings.ledger)
    replay(db, settings, contents)
    if faults := differences(db, settings, contents):
        raise LulcbenchError(f"{faults[0].what} {len(faults)} in all; nothing was exported.", faults[0].remedy)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "submissions").mkdir(parents=True)
    shutil.copytree(Path(__file__).parent / "web" / "static", part / "static")
    snapshot = _whole(Board(db, settings).current(), contents)
    records = [row.record(level) for row in snapshot.rows for level in LEVELS if level in row.levels]
    pd.DataFrame(records).to_parquet(part / "leaderboard.parquet", index=False)
    written = [(choice, _write_tables(part, settings, snapshot, choice)) for choice in _tables(snapshot)]
    tables = [(choice, pages) for choice, pages in written if pages]  # the rows of a table may all be superseded
    chained = (settings.ledger / chain.NAME).exists()
    values = {"tables": tables, "best": _best(snapshot), "snapshot": snapshot, "chained": chained}
    (part / "index.html").write_text(html("index.html", settings, **values, root="./", static=True))
    for name in ("about.html", "policy.html"):
        (part / name).write_text(html(name, settings, root="./", static=True))
    with db.read() as session:
        query = select(Submission).join(Result).where(Submission.status == "scored")
        shown = {row.id for row in snapshot.rows}
        scored = session.scalars(query).unique()
        submissions = {submission.id: submission for submission in scored if submission.id in shown}
        newer = {name: standing.successor_of(session, submission) for name, submission in submissions.items()}
    for name, submission in submissions.items():
        page = newer[name] and (f"{newer[name]}.html" if newer[name] in submissions else "")
        _write_submission(part, settings, submission, page, url.rstrip("/"))
    if chained:
        (part / "ledger").mkdir(exist_ok=True)
        shutil.copyfile(settings.ledger / chain.NAME, part / "ledger" / chain.NAME)
    part.rename(out)
    return out


def _whole(snapshot: Snapshot, contents: ledger.Contents) -> Snapshot:
    """The board without the rows of which a file in the ledger is not intact; they are logged."""
    intact = {entry.submission for entry in contents.entries} & {row.id for row in snapshot.rows if row.levels}
    intact -= contents.held_back
    for row in snapshot.rows:
        if row.id not in intact:
            log.error(
                "submission %s is left out: one of its ledger files is damaged, missing or of a newer format", row.id
            )
    return replace(snapshot, rows=tuple(row for row in snapshot.rows if row.id in intact))


def _tables(snapshot: Snapshot) -> list[Choice]:
    """One choice per table, including models that saw the scored labels, since a static page has no filters."""
    keys = ("release", "task", "years", "split", "scorer")
    names = {(row.release_key, row.task, row.years, row.split, row.scorer_version) for row in snapshot.rows}
    tables = [Choice.model_validate(dict(zip(keys, name, strict=True)) | {"saw_labels": True}) for name in names]
    tables.sort(
        key=lambda choice: (choice.split or "", choice.years or "", version_order(choice.scorer or "")), reverse=True
    )
    return sorted(tables, key=lambda choice: (choice.release or "", choice.task != "segmentation"))


def _best(snapshot: Snapshot) -> Callable[[Choice, int], list[tuple[Row, Estimate]]]:
    """A function that returns the best rows of a table at a level, with their scores."""

    def best(choice: Choice, level: int) -> list[tuple[Row, Estimate]]:
        rows = snapshot.select(choice.model_copy(update={"level": level, "saw_labels": False}))
        scored = [(row, row.estimate(level, RANKING)) for row in rows]
        return [(row, estimate) for row, estimate in scored if estimate is not None][:BEST]

    return best


def _write_tables(part: Path, settings: Settings, snapshot: Snapshot, table: Choice) -> dict[int, str]:
    """Write a table for each level that has results; returns level → page."""
    rows_of = {level: snapshot.select(table.model_copy(update={"level": level})) for level in LEVELS}
    present = [level for level, rows in rows_of.items() if any(level in row.levels for row in rows)]
    pages = {level: f"{table.model_copy(update={'level': level}).stem}.html" for level in present}
    for level in present:
        choice, rows = table.model_copy(update={"level": level}), rows_of[level]
        page, table_csv, history = (f"{choice.stem}{ending}" for ending in (".html", ".csv", "-history.html"))
        by_part = {number: f"{table.model_copy(update={'level': number}).stem}-parts.html" for number in present}
        downloads = {"CSV": table_csv, "History of the best": history, "By class and region": by_part[level]}
        (part / by_part[level]).write_text(
            parts_html(settings, snapshot, choice, root="./", static=True, table=page, levels=by_part)
        )
        (part / page).write_text(
            table_html(settings, snapshot, choice, "./", static=True, downloads=downloads, levels=pages)
        )
        (part / table_csv).write_text(to_csv(rows, level), newline="")
        (part / history).write_text(history_html(settings, snapshot, choice, "./", static=True))
    return pages


def _write_submission(part: Path, settings: Settings, submission: Submission, newer: str | None, url: str) -> None:
    """Write the page of a submission (``newer`` as of ``submission_page``), its images and its ledger file."""
    name = f"{submission.id}.html"
    permalink = f"{url}/submissions/{name}" if url else name
    text = submission_page(settings, submission, permalink, newer, root="../", static=True)
    (part / "submissions" / name).write_text(text)
    if submission.result is not None:
        entry = part / "ledger" / submission.result.ledger_path
        entry.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(settings.ledger / submission.result.ledger_path, entry)
        scores = read_scores(read_record(settings, submission.result.ledger_path))
        for level, of_level in scores.levels.items():
            table = part / "submissions" / f"{submission.id}-confusion-{level}.csv"
            table.write_text(confusion_csv(of_level), newline="")
    if (settings.media / submission.id).is_dir():
        shutil.copytree(settings.media / submission.id, part / "media" / submission.id)
