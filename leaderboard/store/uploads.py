"""Uploads: begun, written in pieces at an offset, checked, and put into the queue.

The offset is the size of the partial file. A request holds a lock on the file while it writes, which also excludes
other processes; the system releases the lock when the process ends, so that nothing stays locked after a crash.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select
from sqlalchemy.orm import Session, defer

from leaderboard.errors import RequestError
from leaderboard.settings import Settings
from leaderboard.store import accounts
from leaderboard.store.accounts import Identity
from leaderboard.store.db import Database, Submission, Upload, audit, now
from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError
from lulcbench.predictions import archive_limits
from lulcbench.release import MANIFEST, Manifest

_ID = re.compile(r"[0-9a-f]{32}")


def begin(
    db: Database, settings: Settings, identity: Identity, filename: str, size: int, sha256: str, card: dict[str, Any]
) -> Upload:
    """Register an upload and count it against the team's daily limit.

    Args:
        db: the database.
        settings: limits and folders.
        identity: the team that uploads.
        filename: shown to readers, never used as a path.
        size: size of the file in bytes.
        sha256: its SHA-256, hexadecimal.
        card: the validated model card.

    Raises:
        RequestError: 413, too large; 429, over a limit of the team; 507, no space.
    """
    limit = largest_file(settings)
    if size > limit:
        raise RequestError(
            413,
            f"The file has {size:,} bytes, the limit is {limit:,}.",
            "Was it written by PredictionWriter? If so, leave out the probabilities.",
        )
    upload = Upload(
        id=secrets.token_hex(16),
        team_id=identity.team_id,
        submission_id=secrets.token_hex(10),
        # Shown on pages and terminals, and PostgreSQL does not accept NUL.
        filename="".join(c if c.isprintable() else "?" for c in filename),
        size=size,
        sha256=sha256,
        card=card,
        created_at=now(),
    )
    with db.write() as session:
        accounts.spend(session, identity, settings.daily_submissions)
        _reserve(session, settings, identity, size)
        session.add(upload)
        audit(session, identity.actor, "upload.begin", upload.submission_id, filename=upload.filename, bytes=size)
    return upload


def largest_file(settings: Settings) -> int:
    """Size limit of a predictions file in bytes: at most what the largest split of the board's releases can need."""
    try:
        known = [_largest_of(root, (root / MANIFEST).stat().st_mtime_ns) for root in settings.releases]
    except (OSError, LulcbenchError):  # the worker reports a damaged release and lets its submissions wait
        known = []
    return min(settings.max_upload_bytes, max(known, default=settings.max_upload_bytes))


@lru_cache(maxsize=64)
def _largest_of(root: Path, changed: int) -> int:
    return archive_limits(Manifest.load(root))[0]


def check_space(settings: Settings, size: int) -> None:
    """Refuse a file that does not fit on the disk.

    Raises:
        RequestError: 507, no space.
    """
    if size + settings.disk_reserve_bytes > shutil.disk_usage(settings.data).free:
        raise RequestError(507, "The server has no space for this file.", "Try again later, or tell the operator.")


def _reserve(session: Session, settings: Settings, identity: Identity, size: int) -> None:
    """Refuse a file that does not fit in addition to the missing bytes of all unfinished uploads.

    Raises:
        RequestError: 429, the team's own unfinished uploads are too large; 507, no space.
    """
    unfinished = session.scalars(select(Upload).where(Upload.completed_at.is_(None)).options(defer(Upload.card))).all()
    ours = sum(upload.size for upload in unfinished if upload.team_id == identity.team_id)
    if ours + size > settings.max_open_bytes:
        raise RequestError(
            429,
            f"{identity.team} has unfinished uploads of {ours:,} bytes; the limit is {settings.max_open_bytes:,}.",
            "Finish them first; an upload that is not continued is deleted after two days.",
        )
    check_space(settings, size + sum(max(0, upload.size - offset(settings, upload)) for upload in unfinished))


def find(session: Session, identity: Identity, upload_id: str) -> Upload:
    """An upload of the team of ``identity``.

    Raises:
        RequestError: 404, there is no such upload, or it belongs to another team.
    """
    upload = session.get(Upload, upload_id) if _ID.fullmatch(upload_id) else None
    if upload is None or upload.team_id != identity.team_id:
        raise RequestError(404, "There is no such upload.", "Begin one with POST /api/v1/uploads.")
    return upload


def offset(settings: Settings, upload: Upload) -> int:
    """Number of bytes that have been written."""
    if upload.completed_at:
        return upload.size
    try:
        return partial_path(settings, upload).stat().st_size
    except FileNotFoundError:
        # A crash between the rename and the commit of ``complete`` leaves the finished file.
        return upload.size if predictions_path(settings, upload.submission_id).exists() else 0


@contextmanager
def writing(settings: Settings, upload: Upload, at: int) -> Iterator[int]:
    """A file descriptor that appends at ``at``, for one request at a time.

    Raises:
        RequestError: 409, the upload is complete, another request is writing, or ``at`` is not the offset.
    """
    if upload.completed_at:
        raise RequestError(409, "This upload is complete.", f"See submission {upload.submission_id}.")
    create = os.O_CREAT if at == 0 else 0
    try:
        flags = os.O_WRONLY | create | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(partial_path(settings, upload), flags, 0o600)
    except FileNotFoundError as error:  # nothing has arrived, or another request has just completed it
        arrived = str(offset(settings, upload))
        raise RequestError(
            409, f"The upload is at byte {arrived}.", "Ask for the offset, and continue.", {"Upload-Offset": arrived}
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(
                409, "Another request is writing this upload.", "Wait, then ask for the offset."
            ) from error
        size = os.fstat(descriptor).st_size
        if at != size:
            raise RequestError(
                409,
                f"The upload is at byte {size}, not {at}.",
                "Continue from there.",
                {"Upload-Offset": str(size)},
            )
        yield descriptor
    finally:
        os.close(descriptor)


def write_piece(settings: Settings, descriptor: int, piece: bytes) -> None:
    """Append a piece.

    Raises:
        OSError: the disk is full except for the reserve; bytes written so far are kept and counted by the offset.
    """
    disk = os.fstatvfs(descriptor)
    if piece and disk.f_bavail * disk.f_frsize < len(piece) + settings.disk_reserve_bytes:
        raise OSError(errno.ENOSPC, "the disk is full except for the reserve")
    view = memoryview(piece)
    while view:
        view = view[os.write(descriptor, view) :]


def complete(db: Database, settings: Settings, identity: Identity, upload: Upload) -> str:
    """Check size and SHA-256, keep the file and queue it. Repeating it is harmless.

    Returns:
        The submission id.

    Raises:
        RequestError: 404, it has been deleted; 409, bytes are missing; 422, the SHA-256 differs, and the upload starts
            again from byte 0.
    """
    if upload.completed_at:
        return upload.submission_id
    final = predictions_path(settings, upload.submission_id)
    if not final.exists():
        try:
            _keep(settings, upload, final)
        except RequestError:
            if not final.exists():  # else a concurrent request has kept it
                raise
    with db.write() as session:
        again = session.get(Upload, upload.id, with_for_update=True)
        if again is None:
            final.unlink(missing_ok=True)
            raise RequestError(404, "There is no such upload.", "Begin one with POST /api/v1/uploads.")
        if again.completed_at is None:
            again.completed_at = now()
            session.add(
                Submission(
                    id=upload.submission_id,
                    team_id=upload.team_id,
                    status="queued",
                    tier="rescored",
                    filename=upload.filename,
                    sha256=upload.sha256,
                    card=upload.card,
                    created_at=again.completed_at,
                )
            )
            audit(session, identity.actor, "upload.complete", upload.submission_id, sha256=upload.sha256)
    return upload.submission_id


def forget(db: Database, settings: Settings, actor: str, upload: Upload) -> None:
    """Delete an unfinished upload and its partial file; does nothing if it is complete."""
    with db.write() as session:
        gone = session.execute(delete(Upload).where(Upload.id == upload.id, Upload.completed_at.is_(None)))
        if cast("CursorResult[Any]", gone).rowcount != 1:
            return
        audit(session, actor, "upload.forget", upload.submission_id)
    partial_path(settings, upload).unlink(missing_ok=True)
    # A crash between the rename and the commit of ``complete`` leaves the file there.
    predictions_path(settings, upload.submission_id).unlink(missing_ok=True)


def predictions_path(settings: Settings, submission_id: str) -> Path:
    """Path of a complete file; the id is a random hexadecimal number generated by this module."""
    return settings.predictions / f"{submission_id}.zarr.zip"


def partial_path(settings: Settings, upload: Upload) -> Path:
    """Path of an incomplete file."""
    return settings.partial / f"{upload.id}.part"


def _keep(settings: Settings, upload: Upload, final: Path) -> None:
    arrived = offset(settings, upload)
    if arrived != upload.size:
        raise RequestError(409, f"{arrived} of {upload.size} bytes have arrived.", "Send the rest, then complete.")
    with writing(settings, upload, upload.size) as descriptor:
        path = partial_path(settings, upload)
        sha256 = hash_file(path)
        if sha256 != upload.sha256:
            os.ftruncate(descriptor, 0)
            raise RequestError(
                422,
                f"The bytes that arrived have SHA-256 {sha256}, not {upload.sha256}.",
                "They were altered during the transfer; send them again from byte 0.",
            )
        os.fsync(descriptor)
        path.rename(final)
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
