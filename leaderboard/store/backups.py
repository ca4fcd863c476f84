"""Backup of database, ledger and files in one tar, and the restoring of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import inspect

from leaderboard.settings import Settings
from leaderboard.store import chain, ledger
from leaderboard.store.db import Database
from leaderboard.store.records import damage, prepare, replay
from lulcbench._files import hash_file
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError

MANIFEST = "manifest.json"
_DAMAGED = "Use an older backup, or rebuild the database from the ledger ('python -m leaderboard rebuild')."
MAX_MANIFEST_BYTES = 256 * 2**20  # some million files
_UNPACKED = ".restoring-"
_DELETED = ("predictions/", "media/")  # folders of which files may be deleted while the service runs


def backup(db: Database, settings: Settings, path: Path) -> list[LulcbenchError]:
    """Write database, ledger, predictions, media and secret into one tar; the service may keep running.

    The database is copied first, so that every file it refers to exists already. Predictions and media that are deleted
    meanwhile are left out.

    Returns:
        The faults of the ledger (``records.damage``). A backup with faults holds what is intact; older ones should be
        kept.

    Raises:
        LulcbenchError: the file exists or cannot be written, the database is damaged, or ``pg_dump`` fails.
    """
    if path.exists():
        raise LulcbenchError(f"{path} exists.", "Name a new file; a backup is never overwritten.")
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.data) as folder:
            _write(db, settings, Path(folder), temporary)
        temporary.replace(path)
    except OSError as error:
        raise LulcbenchError(f"{path} cannot be written: {error}.", "Check the disk and its permissions.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return damage(db, settings, ledger.load(settings.ledger))


def _write(db: Database, settings: Settings, folder: Path, path: Path) -> None:
    dump, sealed = folder / "database", folder / chain.NAME
    _dump(db, dump)
    if (settings.ledger / chain.NAME).exists():  # before the files that it lists, since others may be added
        shutil.copyfile(settings.ledger / chain.NAME, sealed)
    digests: dict[str, str] = {}
    # The last member lists the SHA-256 of all others, so that a restore detects a damaged backup.
    with path.open("wb") as raw, tarfile.open(fileobj=raw, mode="w|") as tar:
        os.fchmod(raw.fileno(), 0o600)  # it holds the secret and other people's files
        for name, source in _members(settings, dump, sealed):
            try:
                file = source.open("rb")
            except FileNotFoundError:
                if name.startswith(_DELETED):  # by a withdrawal, a rescoring or the hourly housekeeping
                    continue
                raise
            with file:
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


def restore(db: Database, settings: Settings, path: Path) -> list[LulcbenchError]:
    """Restore a backup into empty folders and an empty database, after checking every byte.

    If it fails, the folders and the database are empty as before. Events that the ledger of the backup has and its
    database does not, such as a withdrawal while it was written, are taken over.

    Returns:
        The faults that the ledger had when it was backed up (``records.damage``).

    Raises:
        LulcbenchError: the backup is damaged or of another type of database, the folders or database are not empty, or
            cannot be written.
    """
    if any(_kept(settings.data)) or any(settings.ledger.glob("*/*.json")):
        raise LulcbenchError(
            f"{settings.data} or {settings.ledger} is not empty.", "Restore into new folders, then serve from them."
        )
    _check_empty(db)
    created = not settings.data.exists()
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in settings.data.iterdir():  # by a restore that was killed
            shutil.rmtree(left)
        # The folder beside it belongs to another user in a container.
        with tempfile.TemporaryDirectory(dir=settings.data, prefix=_UNPACKED) as folder:
            _unpack(db, Path(folder), path)
            _put(db, settings, Path(folder))
    except OSError as error:
        what = f"{path} cannot be restored into {settings.data} and {settings.ledger}: {error}."
        raise LulcbenchError(what, "Check the disk and its permissions.") from error
    finally:
        if created and settings.data.exists() and not any(settings.data.iterdir()):
            settings.data.rmdir()
    try:
        prepare(db, settings)
        replay(db, settings)
        return damage(db, settings, ledger.load(settings.ledger))
    finally:
        db.close()


def _kept(folder: Path) -> Iterator[Path]:
    """What is in a folder, except what a restore that was killed left there."""
    return (path for path in (folder.iterdir() if folder.exists() else ()) if not path.name.startswith(_UNPACKED))


def _unpack(db: Database, root: Path, path: Path) -> None:
    """Extract a backup, and check every byte of it."""
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


def _put(db: Database, settings: Settings, root: Path) -> None:
    """Put what was unpacked in its place. What can fail is first, and undone if it does."""
    (root / "ledger").mkdir(exist_ok=True)
    try:
        shutil.copytree(root / "ledger", settings.ledger, dirs_exist_ok=True)  # which may be on another disk
        _load(db, root / "database")
    except BaseException:
        for name in (entry.name for entry in (root / "ledger").iterdir()):
            copied = settings.ledger / name
            shutil.rmtree(copied) if copied.is_dir() else copied.unlink(missing_ok=True)
        raise
    settings.prepare()
    for name, target in (("predictions", settings.predictions), ("media", settings.media)):
        for file in (root / name).iterdir() if (root / name).is_dir() else ():
            file.rename(target / file.name)
    if (root / "secret.key").exists():
        (root / "secret.key").rename(settings.data / "secret.key")


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
        target = Path(str(db.engine.url.database))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(dump, target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        return
    _postgresql("pg_restore", "--single-transaction", "--no-owner", f"--dbname={_plain_url(db)}", str(dump))


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
