"""The database from the ledger, and both to and from a backup."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from leaderboard.ranking.summary import SUMMARY_VERSION
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import ensure_team
from leaderboard.store.db import Database, Result, Submission, audit, touch
from leaderboard.store.queue import index_row
from lulcbench._files import hash_file
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 256 * 2**20  # some million files

log = logging.getLogger(__name__)


def prepare(db: Database, settings: Settings) -> None:
    """Bring schema and summaries to what this version of the service expects; belongs before all use of the database.

    Summaries that another version of ``summarise`` made are made again from the ledger. Where the ledger cannot give a
    result, the old summary stays, and the table shows its row without figures. Several processes may do so at once.
    """
    db.upgrade(settings.ledger)
    with db.write() as session:
        stale = [one for one in session.scalars(select(Result)) if one.summary.get("version") != SUMMARY_VERSION]
        for result in stale:
            try:
                result.summary = ledger.read(settings.ledger / result.ledger_path).summary
            except LulcbenchError as error:
                log.error("%s keeps an old summary: %s", result.submission_id, error)
        if stale:
            audit(session, "operator", "summary.renew", "ledger", results=len(stale))
            touch(session)


def replay(db: Database, settings: Settings) -> int:
    """Bring everything of the ledger into the database that is not there yet.

    On an empty database this rebuilds the whole board; on a running one it does nothing, or completes what a crash
    left. Files that are damaged or stray are logged and left out, and so are submissions of which an event is.

    Returns:
        The number of results added.
    """
    contents = ledger.load(settings.ledger)
    for fault in contents.faults:
        log.error("%s", fault.what)
    added = 0
    with db.write() as session:
        known = set(session.scalars(select(Result.submission_id)))
        for entry in contents.entries:
            if entry.submission not in known and entry.submission not in contents.held_back:
                _add(session, entry)
                added += 1
        session.flush()
        for event in contents.events:
            _apply(session, event)
        if added:
            audit(session, "operator", "ledger.replay", "ledger", added=added)
        touch(session)
    return added


def verify(db: Database, settings: Settings) -> tuple[LulcbenchError, ...]:
    """Check every file of the ledger, and that it has all that the database names.

    Returns:
        One error per file that is damaged, missing or stray.
    """
    contents = ledger.load(settings.ledger)
    whole = {entry.path for entry in contents.entries}
    with db.read() as session:
        named = session.scalars(select(Result.ledger_path).order_by(Result.ledger_path)).all()
    missing = [settings.ledger / path for path in named if path not in whole]
    return contents.faults + tuple(
        ledger.DamagedFile(f"{path} is missing.", "Restore it from a backup.")
        for path in missing
        if not (path.exists() or path.is_symlink())  # else it is among the faults
    )


def backup(db: Database, settings: Settings, path: Path) -> None:
    """Write one tar of database, ledger, predictions, media and secret; the service may go on running.

    The database is copied first: whatever it names existed before, and what came later is not named.

    Raises:
        LulcbenchError: the file exists, or ``pg_dump`` fails.
    """
    if path.exists():
        raise LulcbenchError(f"{path} exists.", "Name a new file; a backup is never overwritten.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with tempfile.TemporaryDirectory(dir=settings.data) as folder:
        dump = Path(folder) / "database"
        _dump(db, dump)
        digests: dict[str, str] = {}
        # The tar names every member with its SHA-256 at its end, so that a damaged backup is found on restore.
        with temporary.open("wb") as raw, tarfile.open(fileobj=raw, mode="w|") as tar:
            os.fchmod(raw.fileno(), 0o600)  # it holds the secret and other people's files
            for name, source in _members(settings, dump):
                with source.open("rb") as file:
                    info = tar.gettarinfo(arcname=name, fileobj=file)
                    digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
                    file.seek(0)
                    tar.addfile(info, file)
            manifest = json.dumps({"database": "sqlite" if db.sqlite else "postgresql", "sha256": digests}).encode()
            info = tarfile.TarInfo(MANIFEST)
            info.size = len(manifest)
            tar.addfile(info, io.BytesIO(manifest))
            tar.close()
            raw.flush()
            os.fsync(raw.fileno())
    temporary.replace(path)


def restore(db: Database, settings: Settings, path: Path) -> None:
    """Put a backup into empty folders and an empty database, after checking every byte of it.

    Raises:
        LulcbenchError: the backup is damaged, of another kind of database, or something is already there.
    """
    if (settings.data.exists() and any(settings.data.iterdir())) or any(settings.ledger.glob("*/*.json")):
        raise LulcbenchError(
            f"{settings.data} or {settings.ledger} is not empty.", "Restore into new folders, then serve from them."
        )
    _check_empty(db)
    settings.prepare()
    with tempfile.TemporaryDirectory(dir=settings.data.parent) as folder:
        root = Path(folder)
        try:
            with tarfile.open(path) as tar:
                tar.extractall(root, filter="data")
            manifest = parse_json(read_limited(root / MANIFEST, MAX_MANIFEST_BYTES), max_bytes=MAX_MANIFEST_BYTES)
            digests, kind = dict(manifest["sha256"]), str(manifest["database"])
        except (OSError, ValueError, TypeError, KeyError, tarfile.TarError) as error:
            raise LulcbenchError(f"{path} is not a whole backup: {error}", "Take another one.") from error
        _verify(root, digests, path)
        if kind != ("sqlite" if db.sqlite else "postgresql"):
            raise LulcbenchError(f"{path} is of a {kind} database.", "Give a --database of that kind.")
        for name, target in (
            ("ledger", settings.ledger),
            ("predictions", settings.predictions),
            ("media", settings.media),
        ):
            if (root / name).is_dir():
                shutil.copytree(root / name, target, dirs_exist_ok=True)
        if (root / "secret.key").exists():
            shutil.copy2(root / "secret.key", settings.data / "secret.key")
        _load(db, root / "database")


def _add(session: Session, entry: ledger.Entry) -> None:
    team = ensure_team(session, entry.team)
    found = session.get(Submission, entry.submission)
    if found is None:
        found = Submission(
            id=entry.submission,
            team_id=team.id,
            tier=entry.tier,
            filename=entry.filename,
            sha256=entry.sha256,
            card=entry.card,
            created_at=entry.submitted_at,
        )
        session.add(found)
    found.status = "scored"
    found.finished_at = entry.scored_at
    found.lease_owner = found.lease_until = found.what = found.remedy = None
    session.flush()
    session.add(index_row(entry))


def _apply(session: Session, event: ledger.Event) -> None:
    found = session.get(Submission, event.submission)
    if found is None:
        return
    if event.kind == "withdrawn":
        found.status = "withdrawn"
    elif event.kind == "superseded":
        found.superseded_by = event.value
    else:
        found.tier = event.value


def _members(settings: Settings, dump: Path) -> list[tuple[str, Path]]:
    members = [("database", dump)]
    for name, folder in (("ledger", settings.ledger), ("predictions", settings.predictions), ("media", settings.media)):
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        members += [(f"{name}/{file.relative_to(folder)}", file) for file in files]
    secret = settings.data / "secret.key"
    return [*members, ("secret.key", secret)] if secret.exists() else members


def _verify(root: Path, digests: dict[str, str], path: Path) -> None:
    found = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()} - {MANIFEST}
    if surplus := sorted(found - set(digests)):
        raise LulcbenchError(f"{path}: {surplus[0]} is not in its manifest.", "Take another backup.")
    for name, expected in digests.items():
        file = root / name
        if not file.is_file() or hash_file(file) != expected:
            raise LulcbenchError(f"{path}: {name} is missing or damaged.", "Take another backup.")


def _dump(db: Database, target: Path) -> None:
    if db.sqlite:
        with closing(sqlite3.connect(str(db.engine.url.database))) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
        return
    _postgresql("pg_dump", "--format=custom", f"--file={target}", f"--dbname={_plain_url(db)}")


def _load(db: Database, dump: Path) -> None:
    if db.sqlite:
        shutil.copyfile(dump, str(db.engine.url.database))
        return
    _postgresql("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={_plain_url(db)}", str(dump))


def _check_empty(db: Database) -> None:
    """Refuse to write over a database, wherever it is.

    Raises:
        LulcbenchError: there is something in it.
    """
    remedy = "Give a --database that is new; a restore never writes over one."
    if db.sqlite:
        path = Path(str(db.engine.url.database))
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists() and file.stat().st_size:
                raise LulcbenchError(f"{file} is not empty.", remedy)
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    try:
        tables = inspect(db.engine).get_table_names()
    finally:
        db.close()
    if tables:
        raise LulcbenchError(f"The database has tables already ({', '.join(sorted(tables)[:3])} …).", remedy)


def _plain_url(db: Database) -> str:
    return db.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def _postgresql(*command: str) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise LulcbenchError(f"{command[0]} is not installed.", "Install PostgreSQL's client programs.")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise LulcbenchError(f"{command[0]} failed: {done.stderr.strip()[:500]}", "Check the database's address.")
