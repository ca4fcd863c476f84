"""The board without the service: one Parquet table, and static pages for GitHub or Hugging Face."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from sqlalchemy import select

from leaderboard.board import Board
from leaderboard.db import Database, Result, Submission
from leaderboard.pages import submission_html, table_html
from leaderboard.render import html
from leaderboard.settings import Settings
from leaderboard.table import Choice
from lulcbench.errors import LulcbenchError

LEVELS = (1, 2, 3, 4)


def export(db: Database, settings: Settings, out: Path) -> Path:
    """Write ``leaderboard.parquet``, ``index.html``, one page a table and level, one page a submission.

    Args:
        db: the database.
        settings: for the ledger and the pictures.
        out: folder to make; it appears whole.

    Returns:
        The folder.

    Raises:
        LulcbenchError: the folder exists.
    """
    if out.exists():
        raise LulcbenchError(f"{out} exists.", "Name a new folder.")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "submissions").mkdir(parents=True)
    shutil.copytree(Path(__file__).parent / "static", part / "static")
    snapshot = Board(db, settings).current()
    records = [row.record(level) for row in snapshot.rows for level in LEVELS if str(level) in row.levels]
    pd.DataFrame(records).to_parquet(part / "leaderboard.parquet", index=False)
    tables = sorted({(row.release_key, row.task, row.split) for row in snapshot.rows})
    links = []
    for release, task, split in tables:
        for level in LEVELS:
            choice = Choice(release=release, task=task, split=split, level=level)  # type: ignore[arg-type]
            name = f"{release}-{task}-{split}-level{level}.html"
            (part / name).write_text(table_html(snapshot, choice, root="./", static=True))
            links.append((name, choice))
    (part / "index.html").write_text(html("index.html", links=links, snapshot=snapshot, root="./", static=True))
    with db.read() as session:
        for found in session.scalars(select(Submission).join(Result).where(Submission.status == "scored")).unique():
            page = submission_html(settings, found, root="../", static=True)
            (part / "submissions" / f"{found.id}.html").write_text(page)
            if (settings.media / found.id).is_dir():
                shutil.copytree(settings.media / found.id, part / "media" / found.id)
    part.rename(out)
    return out
