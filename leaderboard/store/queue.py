"""The durable queue: a column of the submissions table, with leases.

A worker claims a row, keeps its lease alive while it scores, and finishes it in one transaction. A worker that dies
stops renewing, and the row goes to the next. Whoever comes late finds that the lease is no longer its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select, update

from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.db import Database, Result, Submission, audit, now, touch


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed submission."""

    submission_id: str
    team: str
    tier: str
    filename: str
    sha256: str
    card: dict[str, Any]
    submitted_at: str
    attempts: int


class LostLease(Exception):
    """The submission was withdrawn, or went to another worker."""


def claim(db: Database, settings: Settings, owner: str) -> Job | None:
    """The oldest submission that nobody scores, leased to ``owner``; None when there is none."""
    with db.write() as session:
        found = session.scalars(
            select(Submission)
            .where(
                Submission.status.in_(("queued", "scoring")),
                or_(Submission.lease_until.is_(None), Submission.lease_until < now()),
            )
            .order_by(Submission.created_at, Submission.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=Submission)
        ).first()
        if found is None:
            return None
        found.status = "scoring"
        found.what = found.remedy = None  # why it waited
        found.lease_owner = owner
        found.lease_until = now() + timedelta(seconds=settings.lease_s)
        found.attempts += 1
        audit(session, owner, "score.begin", found.id, attempt=found.attempts)
        return Job(
            found.id,
            found.team.name,
            found.tier,
            found.filename,
            found.sha256,
            found.card,
            found.created_at.isoformat(),
            found.attempts,
        )


def renew(db: Database, settings: Settings, owner: str, job: Job) -> None:
    """Keep the lease for another ``lease_s`` seconds.

    Raises:
        LostLease: it is no longer the owner's.
    """
    with db.write() as session:
        _own(session, owner, job, lease_until=now() + timedelta(seconds=settings.lease_s))


def finish(db: Database, settings: Settings, owner: str, job: Job, entry: ledger.Entry) -> None:
    """Make a result visible: ledger first, then all of the database in one commit.

    A crash in between leaves a ledger entry without a row; the next worker finds the entry and only indexes it.

    Raises:
        LostLease: it is no longer the owner's; nothing has been written.
    """
    with db.write() as session:
        _own(session, owner, job, status="scored", finished_at=now(), lease_owner=None, lease_until=None)
        entry = ledger.write(settings.ledger, entry)
        session.add(index_row(entry))
        audit(session, owner, "score.finish", job.submission_id, ledger_digest=entry.digest)
        touch(session)


def refuse(db: Database, owner: str, job: Job, what: str, remedy: str) -> None:
    """Close a submission that cannot be scored, with the reason for its team."""
    with db.write() as session:
        fields = {"status": "refused", "what": what, "remedy": remedy, "finished_at": now()}
        _own(session, owner, job, **fields, lease_owner=None, lease_until=None)
        audit(session, owner, "score.refuse", job.submission_id, what=what)


def put_back(
    db: Database,
    owner: str,
    job: Job,
    seconds: float,
    why: str,
    counted: bool = False,
    told: tuple[str, str] | tuple[None, None] = (None, None),
) -> None:
    """Return a submission to the queue because it was not the file, or not surely the file, that was at fault.

    Args:
        db: the database.
        owner: of the lease.
        job: the submission.
        seconds: until the next try.
        why: for the audit log, which the operator alone sees.
        counted: whether it was one of ``max_attempts`` tries; False if the machine surely is at fault.
        told: what and remedy that its team sees while it waits.

    Raises:
        LostLease: it is no longer the owner's.
    """
    later, attempts = now() + timedelta(seconds=seconds), job.attempts if counted else job.attempts - 1
    fields = {"status": "queued", "lease_owner": None, "lease_until": later, "attempts": attempts}
    with db.write() as session:
        _own(session, owner, job, **fields, what=told[0], remedy=told[1])
        audit(session, owner, "score.postpone", job.submission_id, why=why)


def index_row(entry: ledger.Entry) -> Result:
    """The database's row for a ledger entry."""
    return Result(
        submission_id=entry.submission,
        release_key=entry.release_key,
        simulated=entry.simulated,
        task=entry.task,
        years=entry.years,
        split=entry.split,
        summary=entry.summary,
        ledger_path=entry.path,
        ledger_digest=entry.digest,
        scored_at=entry.scored_at,
    )


def _own(session: Any, owner: str, job: Job, **values: Any) -> None:
    changed = session.execute(
        update(Submission)
        .where(Submission.id == job.submission_id, Submission.lease_owner == owner, Submission.status == "scoring")
        .values(**values)
    )
    if changed.rowcount != 1:
        raise LostLease(job.submission_id)
