"""The durable queue: a column of the submissions table, with leases.

A worker claims a row, keeps its lease alive while it scores, and finishes it in one transaction. A worker that dies
stops renewing, and another worker claims the row. A worker whose lease has expired gets ``LostLease``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import aliased

from leaderboard.settings import Settings
from leaderboard.store import accounts, ledger
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


class NoAccess(Exception):
    """The team was banned, or its tokens were revoked."""


class LostLease(Exception):
    """The submission was withdrawn, or another worker has claimed it."""


def claim(db: Database, settings: Settings, owner: str) -> Job | None:
    """Lease a submission that no worker is scoring to ``owner``; None if there is none.

    Teams take turns: first the team of which the fewest are being scored, then that whose last turn was longest ago;
    within a team, the oldest submission. A turn counts from its beginning, however it ends.
    """
    other = aliased(Submission)
    same_team = other.team_id == Submission.team_id
    scoring = select(func.count()).where(same_team, other.status == "scoring").scalar_subquery()
    last_turn = select(func.max(func.coalesce(other.claimed_at, other.finished_at))).where(same_team).scalar_subquery()
    with db.write() as session:
        submission = session.scalars(
            select(Submission)
            .where(
                Submission.status.in_(("queued", "scoring")),
                or_(Submission.lease_until.is_(None), Submission.lease_until < now()),
            )
            .order_by(scoring, last_turn.nulls_first(), Submission.created_at, Submission.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=Submission)
        ).first()
        if submission is None:
            return None
        submission.status = "scoring"
        submission.what = submission.remedy = None  # why it had to wait
        submission.lease_owner = owner
        submission.lease_until = now() + timedelta(seconds=settings.lease_s)
        submission.claimed_at = now()
        submission.attempts += 1
        audit(session, owner, "score.begin", submission.id, attempt=submission.attempts)
        return Job(
            submission.id,
            submission.team.name,
            submission.tier,
            submission.filename,
            submission.sha256,
            submission.card,
            submission.created_at.isoformat(),
            submission.attempts,
        )


def may_publish(db: Database, job: Job) -> bool:
    """Whether the team of a job has access; see ``accounts.may_publish``."""
    with db.read() as session:
        submission = session.get(Submission, job.submission_id)
        return submission is None or accounts.may_publish(session, submission.team_id)


def renew(db: Database, settings: Settings, owner: str, job: Job) -> None:
    """Keep the lease for another ``lease_s`` seconds.

    Raises:
        LostLease: ``owner`` no longer holds it.
    """
    with db.write() as session:
        _own(session, owner, job, lease_until=now() + timedelta(seconds=settings.lease_s))


def finish(db: Database, settings: Settings, owner: str, job: Job, entry: ledger.Entry) -> None:
    """Publish a result: first write the ledger file, then all of the database in one commit.

    A crash in between leaves a ledger entry without a row; the next worker finds the entry and only indexes it.

    Raises:
        LostLease: ``owner`` no longer holds the lease; nothing has been written.
        NoAccess: the team may not publish; nothing has been written.
    """
    with db.write() as session:
        submission = session.get(Submission, job.submission_id)
        if submission is not None and not accounts.may_publish(session, submission.team_id):
            raise NoAccess(job.team)
        _own(session, owner, job, status="scored", finished_at=now(), lease_owner=None, lease_until=None)
        if submission is not None:  # the names may have been replaced meanwhile
            entry = entry.model_copy(update={"team": submission.team.name, "card": submission.card})
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
    notice: tuple[str, str] | tuple[None, None] = (None, None),
) -> None:
    """Return a submission to the queue after an error that the file did not, or may not have, caused.

    Args:
        db: the database.
        owner: the worker that holds the lease.
        job: the submission.
        seconds: time until the next attempt.
        why: reason for the audit log, which only the operator sees.
        counted: whether it counts as one of ``max_attempts``; False if the machine is certainly the cause.
        notice: what and remedy, shown to the team while the submission waits.

    Raises:
        LostLease: ``owner`` no longer holds the lease.
    """
    later, attempts = now() + timedelta(seconds=seconds), job.attempts if counted else job.attempts - 1
    fields = {"status": "queued", "lease_owner": None, "lease_until": later, "attempts": attempts}
    with db.write() as session:
        _own(session, owner, job, **fields, what=notice[0], remedy=notice[1])
        audit(session, owner, "score.postpone", job.submission_id, why=why)


def index_row(entry: ledger.Entry, summary: dict[str, Any] | None = None) -> Result:
    """The database row of a ledger entry; its summary is computed unless it is given."""
    return Result(
        submission_id=entry.submission,
        release_key=entry.release_key,
        simulated=entry.simulated,
        task=entry.task,
        years=entry.years,
        split=entry.split,
        summary=entry.summary if summary is None else summary,
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
