"""Rebuilding the database from the ledger; backup and restore of both."""

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
from leaderboard.store import chain, ledger
from leaderboard.store.accounts import ensure_team
from leaderboard.store.db import OPERATOR, TEAM, Database, Result, Submission, audit, touch
from leaderboard.store.queue import index_row
from lulcbench._files import hash_file
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError

MANIFEST = "manifest.json"
_FROM_BACKUP = "Restore it from a backup."
_DAMAGED = "Use an older backup, or rebuild the database from the ledger ('python -m leaderboard rebuild')."
MAX_MANIFEST_BYTES = 256 * 2**20  # some million files

log = logging.getLogger(__name__)


def prepare(db: Database, settings: Settings) -> None:
    """Update schema and summaries to this version of the service. To be called before any other use of the database.

    Summaries made by another version of ``summarise`` are computed again from the ledger. If the ledger entry of a
    result cannot be read, the old summary is kept, and the table shows its row without metrics. Several processes may
    call this at the same time.
    """
    db.upgrade(settings.ledger)
    with db.write() as session:
        results = session.scalars(select(Result))
        stale = [result for result in results if result.summary.get("version") != SUMMARY_VERSION]
        for result in stale:
            try:
                result.summary = ledger.read(settings.ledger / result.ledger_path).summary
            except LulcbenchError as error:
                log.error("%s keeps an old summary: %s", result.submission_id, error)
        if stale:
            audit(session, "operator", "summary.renew", "ledger", results=len(stale))
            touch(session)


def replay(db: Database, settings: Settings) -> int:
    """Add the results and events of the ledger that the database does not have yet.

    On an empty database this rebuilds the whole board; on a running one it does nothing, or completes what a crash
    interrupted. Damaged and stray files are logged and left out, and so are submissions with a damaged event.

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


def fill(db: Database, settings: Settings) -> int:
    """Add all results of the ledger to a database that has none, such as that of a fresh clone.

    Returns:
        The number of results added.
    """
    with db.read() as session:
        if session.scalars(select(Result.submission_id).limit(1)).first() is not None:
            return 0
    return replay(db, settings)


def verify(db: Database, settings: Settings, head: str = "") -> tuple[LulcbenchError, ...]:
    """Check every file of the ledger against its digest, the chain and the database.

    Args:
        db: the database.
        settings: for the folder of the ledger.
        head: a head of the chain noted earlier; the chain must have been extended from it.

    Returns:
        One error per file that is damaged, altered, missing, stray, or not in the chain.
    """
    contents = ledger.load(settings.ledger)
    faults: list[LulcbenchError] = list(contents.faults)
    if head and head not in chain.load(settings.ledger).heads:
        faults.append(
            ledger.DamagedFile(f"The chain does not contain the head {head}: it was rewritten.", _FROM_BACKUP)
        )
    intact = {entry.path: entry.digest for entry in contents.entries}
    with db.read() as session:
        listed = session.execute(select(Result.ledger_path, Result.ledger_digest).order_by(Result.ledger_path)).all()
    for path, digest in listed:
        file = settings.ledger / path
        if path in intact and intact[path] != digest:
            faults.append(ledger.DamagedFile(f"{file} is not the file that was scored; it was altered.", _FROM_BACKUP))
        elif path not in intact and path not in contents.missing and not (file.exists() or file.is_symlink()):
            faults.append(ledger.DamagedFile(f"{file} is missing.", _FROM_BACKUP))
    faults += [
        ledger.DamagedFile(
            f"{settings.ledger / path} is not in {chain.NAME}.",
            "If it was added on purpose, run 'python -m leaderboard ledger seal'; otherwise delete it.",
        )
        for path in contents.unsealed
    ]
    return tuple(faults)


def backup(db: Database, settings: Settings, path: Path) -> None:
    """Write database, ledger, predictions, media and secret into one tar; the service may keep running.

    The database is copied first, so that every file it refers to exists already.

    Raises:
        LulcbenchError: the file exists, the database is damaged, or ``pg_dump`` fails.
    """
    if path.exists():
        raise LulcbenchError(f"{path} exists.", "Name a new file; a backup is never overwritten.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with tempfile.TemporaryDirectory(dir=settings.data) as folder:
        dump, sealed = Path(folder) / "database", Path(folder) / chain.NAME
        _dump(db, dump)
        if (settings.ledger / chain.NAME).exists():  # before the files that it lists, since others may be added
            shutil.copyfile(settings.ledger / chain.NAME, sealed)
        digests: dict[str, str] = {}
        # The last member lists the SHA-256 of all others, so that a restore detects a damaged backup.
        with temporary.open("wb") as raw, tarfile.open(fileobj=raw, mode="w|") as tar:
            os.fchmod(raw.fileno(), 0o600)  # it holds the secret and other people's files
            for name, source in _members(settings, dump, sealed):
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
    """Restore a backup into empty folders and an empty database, after checking every byte.

    Raises:
        LulcbenchError: the backup is damaged or of another type of database, or the folders or database are not empty.
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
            raise LulcbenchError(f"{path} is not a complete backup: {error}", "Use another backup.") from error
        _verify(root, digests, path)
        if kind != ("sqlite" if db.sqlite else "postgresql"):
            raise LulcbenchError(f"{path} is a backup of a {kind} database.", "Give a --database of that type.")
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
    submission = session.get(Submission, entry.submission)
    if submission is None:
        submission = Submission(
            id=entry.submission,
            team_id=team.id,
            tier=entry.tier,
            filename=entry.filename,
            sha256=entry.sha256,
            card=entry.card,
            created_at=entry.submitted_at,
        )
        session.add(submission)
    submission.status = "scored"
    submission.finished_at = entry.scored_at
    submission.lease_owner = submission.lease_until = submission.what = submission.remedy = None
    session.flush()
    session.add(index_row(entry))


def _apply(session: Session, event: ledger.Event) -> None:
    submission = session.get(Submission, event.submission)
    if submission is None:
        return
    if event.kind == "withdrawn":
        submission.take_off(TEAM if event.actor == submission.team.name else OPERATOR, event.at)
    elif event.kind == "restored":
        submission.put_back()
    elif event.kind == "superseded":
        submission.superseded_by = event.value
    elif event.kind == "tier":
        submission.tier = event.value


def _members(settings: Settings, dump: Path, sealed: Path) -> list[tuple[str, Path]]:
    members = [("database", dump)] + ([(f"ledger/{chain.NAME}", sealed)] if sealed.exists() else [])
    for name, folder in (("ledger", settings.ledger), ("predictions", settings.predictions), ("media", settings.media)):
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith((".", chain.NAME)))
        members += [(f"{name}/{file.relative_to(folder)}", file) for file in files]
    secret = settings.data / "secret.key"
    return [*members, ("secret.key", secret)] if secret.exists() else members


def _verify(root: Path, digests: dict[str, str], path: Path) -> None:
    extracted = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()} - {MANIFEST}
    if surplus := sorted(extracted - set(digests)):
        raise LulcbenchError(f"{path}: {surplus[0]} is not in its manifest.", "Use another backup.")
    for name, expected in digests.items():
        file = root / name
        if not file.is_file() or hash_file(file) != expected:
            raise LulcbenchError(f"{path}: {name} is missing or damaged.", "Use another backup.")


def _dump(db: Database, target: Path) -> None:
    if db.sqlite:
        path = str(db.engine.url.database)
        try:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
            _check_database(target, path)
        except sqlite3.DatabaseError as error:
            raise LulcbenchError(f"The database {path} is damaged: {error}.", _DAMAGED) from error
        return
    _postgresql("pg_dump", "--format=custom", f"--file={target}", f"--dbname={_plain_url(db)}")


def _check_database(path: Path, name: str) -> None:
    """Read every page of a SQLite database.

    Raises:
        LulcbenchError: it is damaged.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        faults = [str(error)]
    if faults != ["ok"]:
        raise LulcbenchError(f"The database {name} is damaged: {faults[0].splitlines()[-1]}.", _DAMAGED)


def _load(db: Database, dump: Path) -> None:
    if db.sqlite:
        _check_database(dump, "of the backup")
        shutil.copyfile(dump, str(db.engine.url.database))
        return
    _postgresql("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={_plain_url(db)}", str(dump))


def _check_empty(db: Database) -> None:
    """Refuse to overwrite a database.

    Raises:
        LulcbenchError: the database is not empty.
    """
    remedy = "Give a new --database; a restore never overwrites one."
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
