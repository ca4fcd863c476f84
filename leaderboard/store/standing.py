"""Who may see a submission, and what can change after it was sent: withdrawal, supersession, trust tier."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from leaderboard.errors import RequestError, not_found
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import Identity
from leaderboard.store.db import OPERATOR as BY_OPERATOR
from leaderboard.store.db import TEAM, Database, Submission, audit, now, touch
from leaderboard.store.rescored import rescored, scorer_version
from lulcbench.errors import LulcbenchError

UNDO = timedelta(days=1)
MAX_UNDOS = 3  # by the team of a submission; each leaves files in the ledger that are never deleted
OPERATOR = Identity("operator", 0, "operator", "admin")
SUBMISSION_ID = re.compile(r"[0-9a-f]{20}")


def visible(session: Session, submission_id: str, who: Identity | None) -> Submission:
    """A submission that ``who`` may see: scored and withdrawn ones are public, others are visible to their team only.

    Raises:
        RequestError: 404 otherwise.
    """
    submission = session.get(Submission, submission_id) if SUBMISSION_ID.fullmatch(submission_id) else None
    if submission is None:
        raise not_found()
    public = submission.status == "scored" or (submission.status == "withdrawn" and submission.result is not None)
    if not public and not (who and (who.admin or who.team_id == submission.team_id)):
        raise not_found()
    return submission


def withdraw(db: Database, settings: Settings, who: Identity, submission_id: str) -> Submission:
    """Take a submission and its rescored results off the board, or out of the queue. Repeating it is harmless.

    A withdrawal by the operator replaces one by the team, which could be undone by the team.

    Raises:
        RequestError: 404, it does not belong to the team of ``who``.
    """
    with db.write() as session:
        submission, at = _owned(session, who, submission_id), now()
        by = BY_OPERATOR if who.admin else TEAM
        for one in (submission, *rescored(session, settings, submission)):
            if one.status != "withdrawn" or by not in (TEAM, one.withdrawn_by):
                _withdraw(session, settings, who, one, by, at)
        return submission


def _withdraw(
    session: Session, settings: Settings, who: Identity, submission: Submission, by: str, at: datetime
) -> None:
    # A worker that died between ledger and commit leaves an entry without a row; a rebuild must not show it again.
    # The entry is not read: a damaged one can be withdrawn too.
    key = submission.result.release_key if submission.result else ledger.folder_of(settings.ledger, submission.id)
    if key is not None:
        event = ledger.Event(submission=submission.id, kind="withdrawn", at=at, actor=who.team)
        ledger.record(settings.ledger, key, event)
    submission.take_off(by, at)
    audit(session, who.actor, "submission.withdraw", submission.id)
    touch(session)


def undoable(submission: Submission) -> bool:
    """Whether the team of a submission may undo its withdrawal."""
    return submission.status == "withdrawn" and _lasting(submission) is None


def _lasting(submission: Submission) -> RequestError | None:
    """Why the team of a withdrawn submission may not undo the withdrawal; None if it may."""
    at = submission.withdrawn_at
    if submission.withdrawn_by != TEAM:
        return RequestError(409, "The operator withdrew this submission.", "Ask the operator.")
    if at is None or now() - at >= UNDO:
        return RequestError(409, "There is no withdrawal of the last day.", "Submit the predictions again.")
    if submission.undos >= MAX_UNDOS:
        what = f"Its withdrawal was undone {MAX_UNDOS} times, which is the limit."
        return RequestError(409, what, "Submit the predictions again, or ask the operator.")
    return None


def undo(db: Database, settings: Settings, who: Identity, submission_id: str) -> Submission:
    """Undo a withdrawal: the submission is again what it was before: on the board, in the queue, or refused.

    Its rescored results return with it, if they were withdrawn with it.

    Raises:
        RequestError: 404, it does not belong to the team of ``who``; 409, it is not withdrawn, more than a day has
            passed, the operator withdrew it, or its team has undone this ``MAX_UNDOS`` times.
    """
    with db.write() as session:
        submission = _owned(session, who, submission_id)
        if submission.status != "withdrawn":
            raise RequestError(409, "There is no withdrawal to undo.", "See its page for its status.")
        if not who.admin:
            if why_not := _lasting(submission):
                raise why_not
            submission.undos += 1
        at = submission.withdrawn_at
        for one in (submission, *rescored(session, settings, submission)):
            if one.status == "withdrawn" and one.withdrawn_at == at:  # not what was withdrawn by itself
                _undo(session, settings, who, one)
        return submission


def _undo(session: Session, settings: Settings, who: Identity, submission: Submission) -> None:
    key = submission.result.release_key if submission.result else ledger.folder_of(settings.ledger, submission.id)
    if key is not None:
        restored = ledger.Event(submission=submission.id, kind="restored", at=now(), actor=who.team)
        ledger.record(settings.ledger, key, restored)
    submission.put_back()
    audit(session, who.actor, "submission.undo", submission.id)
    touch(session)


def retry(db: Database, submission_id: str) -> None:
    """Put a refused submission, or one whose worker is gone, back into the queue. Reserved for operators.

    Raises:
        LulcbenchError: there is no such submission, or it is scored or withdrawn.
    """
    with db.write() as session:
        submission = _locked(session, submission_id)
        if submission is None or submission.status not in ("queued", "scoring", "refused"):
            raise not_found(f"There is no unscored submission {submission_id!r}.")
        submission.status, submission.lease_owner, submission.lease_until = "queued", None, None
        submission.attempts, submission.what, submission.remedy, submission.finished_at = 0, None, None, None
        audit(session, "operator", "submission.retry", submission.id)


def successor(submission: Submission, find: Callable[[str], Submission | None]) -> str | None:
    """Id of the submission that replaces one on the board: the first of its successors that is on the board.

    None if there is none, so that withdrawing a successor brings back what it replaced.

    Args:
        submission: a submission.
        find: the submission with an id; None if there is none.
    """
    seen = {submission.id}
    name = submission.superseded_by
    while name is not None and name not in seen:
        seen.add(name)
        newer = find(name)
        if newer is None:
            return None
        if newer.status == "scored":
            return newer.id
        name = newer.superseded_by
    return None


def successor_of(session: Session, submission: Submission) -> str | None:
    """``successor`` of a submission, from the database."""
    return successor(submission, lambda name: session.get(Submission, name))


def supersedable(session: Session, old: Submission, new: Submission) -> bool:
    """Whether ``supersede`` accepts these two submissions of one team."""
    if old.result is None or new.result is None or {old.status, new.status} != {"scored"}:
        return False
    free = successor_of(session, old) is None and successor_of(session, new) is None
    return free and new.created_at > old.created_at and _same_table(old, new)


def supersede(db: Database, settings: Settings, who: Identity, submission_id: str, by: str) -> Submission:
    """Mark a submission as replaced by a newer one, and its rescored results by that one's.

    Raises:
        RequestError: 404, one of them does not belong to the team of ``who``; 409, they cannot be compared, or one is
            superseded already.
    """
    with db.write() as session:
        old, new = _owned(session, who, submission_id), _owned(session, who, by)
        if old.status != "scored" or new.status != "scored" or old.result is None or new.result is None:
            raise RequestError(409, "Only a scored submission supersedes a scored one.", "Wait until both are scored.")
        if not _same_table(old, new) or old.team_id != new.team_id or old.id == new.id:
            raise RequestError(
                409,
                "The two submissions differ in team, release, task, years or split.",
                "Supersede a submission by a newer one that replaces it on the same table.",
            )
        if new.created_at <= old.created_at:
            raise RequestError(
                409, "A submission is superseded by a newer one only.", "Withdraw the newer one instead."
            )
        replaced = successor_of(session, old)
        if successor_of(session, new) is not None or replaced not in (None, new.id):
            raise RequestError(409, "One of the two is superseded already.", "Name the newest submission.")
        if replaced is None:
            _supersede(session, settings, who, old, new.id)
            newer = {scorer_version(one): one.id for one in rescored(session, settings, new) if one.status == "scored"}
            for one in rescored(session, settings, old):
                if successor_of(session, one) is None and one.id != new.id:
                    _supersede(session, settings, who, one, newer.get(scorer_version(one), new.id))
        return old


def _supersede(session: Session, settings: Settings, who: Identity, old: Submission, by: str) -> None:
    if old.result is not None:
        event = ledger.Event(submission=old.id, kind="superseded", at=now(), actor=who.team, value=by)
        ledger.record(settings.ledger, old.result.release_key, event)
    old.superseded_by = by
    audit(session, who.actor, "submission.supersede", old.id, by=by)
    touch(session)


def set_tier(db: Database, settings: Settings, actor: str, submission_id: str, tier: str, evidence: str) -> Submission:
    """Set the trust tier of a result, for example because it was reproduced. Reserved for operators.

    Args:
        db: the database.
        settings: for the ledger.
        actor: who did it, for the records.
        submission_id: id of a scored submission.
        tier: one of ``ledger.TIERS``.
        evidence: grounds for the change, for the audit log.

    Raises:
        LulcbenchError: no such scored submission (a ``RequestError`` 404) or tier.
    """
    if tier not in ledger.TIERS:
        raise LulcbenchError(f"There is no tier {tier!r}.", f"Choose one of {', '.join(ledger.TIERS)}.")
    with db.write() as session:
        submission = _locked(session, submission_id)
        if submission is None or submission.result is None:
            raise not_found(f"There is no scored submission {submission_id!r}.")
        event = ledger.Event(submission=submission.id, kind="tier", at=now(), actor=actor, value=tier)
        ledger.record(settings.ledger, submission.result.release_key, event)
        submission.tier = tier
        audit(session, actor, "submission.tier", submission.id, tier=tier, evidence=evidence)
        touch(session)
        return submission


def _same_table(old: Submission, new: Submission) -> bool:
    fields = ("release_key", "task", "years", "split")
    return all(getattr(old.result, name) == getattr(new.result, name) for name in fields)


def _locked(session: Session, submission_id: str) -> Submission | None:
    """A submission, locked against other changes until this transaction ends."""
    if not SUBMISSION_ID.fullmatch(submission_id):  # PostgreSQL does not accept NUL in text
        return None
    query = select(Submission).where(Submission.id == submission_id).with_for_update(of=Submission)
    return session.scalars(query).one_or_none()


def _owned(session: Session, who: Identity, submission_id: str) -> Submission:
    submission = _locked(session, submission_id)
    if submission is None or not (who.admin or submission.team_id == who.team_id):
        raise not_found()
    return submission
