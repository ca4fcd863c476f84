"""The database as an index of the ledger: renewing it, rebuilding it, and checking both."""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session

from leaderboard.ranking.summary import SUMMARY_VERSION
from leaderboard.settings import Settings
from leaderboard.store import chain, ledger
from leaderboard.store.db import Database, Result, Submission, audit, touch
from leaderboard.store.stated import Stated, locked, stated
from lulcbench.errors import LulcbenchError

_FROM_BACKUP = "Restore it from a backup."
MAX_RECHECKED = 20  # submissions that can have changed while the ledger was read

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


def replay(db: Database, settings: Settings, contents: ledger.Contents | None = None) -> int:
    """Add what the ledger states and the database does not have: results, events, and summaries that were altered.

    On an empty database this rebuilds the whole board; on a running one it does nothing, or completes what a crash
    interrupted. Damaged and stray files are logged and left out. Submissions with a damaged event stay as they are in
    the database, and are not added.

    Args:
        db: the database.
        settings: for the folder of the ledger.
        contents: of the ledger, if it was read already.

    Returns:
        The number of results added.
    """
    contents = contents or ledger.load(settings.ledger)
    for fault in contents.faults:
        log.error("%s", fault.what)
    known = stated(contents)
    with db.read() as session:
        rows = _submissions(session)
        behind = [name for name, one in known.items() if any(one.differences(rows.get(name)))]
    if not behind:
        return 0
    added = 0
    with db.write() as session:
        for name in behind:
            submission = locked(session, name)
            # It may have changed since the ledger was read, but not between the lock and the end of the transaction.
            now = known[name] if submission is None else stated(ledger.load(settings.ledger, name)).get(name)
            if now is not None:
                added += now.take_over(session, submission)
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
    """Check every file of the ledger against its digest and the chain, and the database against the ledger.

    Args:
        db: the database; one without results is not compared.
        settings: for the folder of the ledger.
        head: a head of the chain noted earlier; the chain must have been extended from it.

    Returns:
        One error per file that is damaged, altered, missing, stray, not in the chain, or in which more than names may
        have been replaced, and per submission that the database shows otherwise than the ledger states.
    """
    contents = ledger.load(settings.ledger)
    faults = damage(db, settings, contents)
    if head and head not in chain.load(settings.ledger).heads:
        faults.append(
            ledger.DamagedFile(f"The chain does not contain the head {head}: it was rewritten.", _FROM_BACKUP)
        )
    faults += [
        ledger.DamagedFile(
            f"{settings.ledger / path}: names were replaced in it, and {chain.NAME}, of an earlier version, does "
            "not state the rest of its content.",
            "Compare its scores with an older clone or backup.",
        )
        for path in sorted(contents.unproven)
    ]
    faults += [
        ledger.DamagedFile(
            f"{settings.ledger / path} is not in {chain.NAME}.",
            "If it was added on purpose, run 'python -m leaderboard ledger seal'; otherwise delete it.",
        )
        for path in contents.unsealed
    ]
    return tuple(faults)


def damage(db: Database, settings: Settings, contents: ledger.Contents) -> list[LulcbenchError]:
    """One error per file that is damaged, altered, missing or stray, and per submission shown otherwise than stated."""
    return [*contents.faults, *differences(db, settings, contents)]


def differences(db: Database, settings: Settings, contents: ledger.Contents) -> list[LulcbenchError]:
    """Where the database shows something else than the intact files of the ledger state.

    Args:
        db: the database; one without results is not compared.
        settings: for the folder of the ledger.
        contents: of the ledger.

    Returns:
        One error per submission.
    """
    with db.read() as session:
        rows = _submissions(session)
    if not any(submission.result for submission in rows.values()):
        return []
    known = stated(contents)
    names = {**known, **{name: row for name, row in sorted(rows.items()) if row.result}}
    found = {name: _difference(settings, contents, known.get(name), rows.get(name)) for name in names}
    suspects = [name for name, fault in found.items() if fault]
    if suspects and len(suspects) <= MAX_RECHECKED:
        with db.write() as session:  # some may only have changed meanwhile
            for name in suspects:
                row = locked(session, name)
                again = ledger.load(settings.ledger, name)
                found[name] = _difference(settings, again, stated(again).get(name), row)
    return [fault for fault in found.values() if fault]


def _difference(
    settings: Settings, contents: ledger.Contents, one: Stated | None, submission: Submission | None
) -> LulcbenchError | None:
    """The error about one submission; None if the database shows it as the ledger states it, or not yet."""
    result = submission.result if submission else None
    if result is not None:
        file = settings.ledger / result.ledger_path
        intact = {entry.path: entry.digest for entry in contents.entries if entry.submission == result.submission_id}
        if intact.get(result.ledger_path, result.ledger_digest) != result.ledger_digest:
            return ledger.DamagedFile(f"{file} is not the file that was scored; it was altered.", _FROM_BACKUP)
        listed = result.ledger_path in intact or result.ledger_path in contents.missing
        if not (listed or file.exists() or file.is_symlink()):
            return ledger.DamagedFile(f"{file} is missing.", _FROM_BACKUP)
    elif submission is not None and submission.status != "scored":
        return None  # a worker adds its result, or it was withdrawn before
    differ = list(one.differences(submission)) if one else []
    if not differ:
        return None
    return LulcbenchError(
        f"The database differs from the ledger in {', '.join(differ)} of submission {one.id if one else ''}.",
        "Run 'python -m leaderboard rebuild', which takes over what the ledger states. If it still differs, move the "
        "database away and rebuild a new one.",
    )


def _submissions(session: Session) -> dict[str, Submission]:
    return {submission.id: submission for submission in session.scalars(select(Submission)).unique()}
