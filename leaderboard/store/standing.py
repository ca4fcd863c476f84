"""Who may see a submission, and what may happen to it after it was made: withdrawn, superseded, raised in trust."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from leaderboard.problems import Problem, not_found
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import Identity
from leaderboard.store.db import Database, Submission, audit, now, touch
from lulcbench.errors import LulcbenchError

SUBMISSION_ID = re.compile(r"[0-9a-f]{20}")


def visible(session: Session, submission_id: str, who: Identity | None) -> Submission:
    """A submission that the asker may see: scored and withdrawn ones are public, the others are their team's.

    Raises:
        Problem: 404 otherwise.
    """
    found = session.get(Submission, submission_id) if SUBMISSION_ID.fullmatch(submission_id) else None
    if found is None:
        raise not_found()
    public = found.status == "scored" or (found.status == "withdrawn" and found.result is not None)
    if not public and not (who and (who.admin or who.team_id == found.team_id)):
        raise not_found()
    return found


def withdraw(db: Database, settings: Settings, who: Identity, submission_id: str) -> Submission:
    """Take a submission off the board, or out of the queue. Repeating it is harmless.

    Raises:
        Problem: 404, it is not the asker's.
    """
    with db.write() as session:
        found = _owned(session, who, submission_id)
        if found.status == "withdrawn":
            return found
        # A worker that died between ledger and commit leaves an entry without a row; a rebuild must not show it again.
        # The entry is not read: a damaged one can be withdrawn too.
        key = found.result.release_key if found.result else ledger.folder_of(settings.ledger, found.id)
        if key is not None:
            event = ledger.Event(submission=found.id, kind="withdrawn", at=now(), actor=who.team)
            ledger.record(settings.ledger, key, event)
        found.status, found.lease_owner, found.lease_until = "withdrawn", None, None
        audit(session, who.actor, "submission.withdraw", found.id)
        touch(session)
        return found


def supersede(db: Database, settings: Settings, who: Identity, submission_id: str, by: str) -> Submission:
    """Mark a submission as replaced by a newer one.

    Raises:
        Problem: 404, one of them is not the asker's; 409, they are not comparable, or it is replaced already.
    """
    with db.write() as session:
        old, new = _owned(session, who, submission_id), _owned(session, who, by)
        if old.status != "scored" or new.status != "scored" or old.result is None or new.result is None:
            raise Problem(409, "Only a scored submission supersedes a scored one.", "Wait until both are scored.")
        same = all(getattr(old.result, f) == getattr(new.result, f) for f in ("release_key", "task", "years", "split"))
        if not same or old.team_id != new.team_id or old.id == new.id:
            raise Problem(
                409,
                "The two are not of the same team, release, task, years and split.",
                "Supersede a submission by a newer one that replaces it on the same table.",
            )
        if new.superseded_by is not None or old.superseded_by not in (None, new.id):
            raise Problem(409, "One of the two is superseded already.", "Name the newest submission.")
        if old.superseded_by is None:
            event = ledger.Event(submission=old.id, kind="superseded", at=now(), actor=who.team, value=new.id)
            ledger.record(settings.ledger, old.result.release_key, event)
            old.superseded_by = new.id
            audit(session, who.actor, "submission.supersede", old.id, by=new.id)
            touch(session)
        return old


def set_tier(db: Database, settings: Settings, actor: str, submission_id: str, tier: str, evidence: str) -> Submission:
    """Record that a result was reproduced (or that this was an error); an operator's act.

    Args:
        db: the database.
        settings: for the ledger.
        actor: who did it, for the records.
        submission_id: of a scored submission.
        tier: one of ``ledger.TIERS``.
        evidence: what it rests on, for the audit log.

    Raises:
        LulcbenchError: no such scored submission (a ``Problem`` 404) or tier.
    """
    if tier not in ledger.TIERS:
        raise LulcbenchError(f"There is no tier {tier!r}.", f"Choose one of {', '.join(ledger.TIERS)}.")
    with db.write() as session:
        found = _locked(session, submission_id)
        if found is None or found.result is None:
            raise not_found(f"There is no scored submission {submission_id!r}.")
        event = ledger.Event(submission=found.id, kind="tier", at=now(), actor=actor, value=tier)
        ledger.record(settings.ledger, found.result.release_key, event)
        found.tier = tier
        audit(session, actor, "submission.tier", found.id, tier=tier, evidence=evidence)
        touch(session)
        return found


def _locked(session: Session, submission_id: str) -> Submission | None:
    """A submission that nobody else changes until this transaction ends."""
    if not SUBMISSION_ID.fullmatch(submission_id):  # PostgreSQL takes no NUL in a text
        return None
    query = select(Submission).where(Submission.id == submission_id).with_for_update(of=Submission)
    return session.scalars(query).one_or_none()


def _owned(session: Session, who: Identity, submission_id: str) -> Submission:
    found = _locked(session, submission_id)
    if found is None or not (who.admin or found.team_id == who.team_id):
        raise not_found()
    return found
