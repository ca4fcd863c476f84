"""The link between a submission and its rescored results: the id of the latter is a hash of the former's."""

from __future__ import annotations

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.db import Result, Submission
from leaderboard.store.stated import stated
from lulcbench.evaluation.scores import SCORER_VERSION


def rescored_id(submission_id: str, scorer_version: str) -> str:
    """Id of the result of a scorer version: always the same, so that a call that is repeated adds no second one."""
    return hashlib.sha256(f"{submission_id} {scorer_version}".encode()).hexdigest()[:20]


def scorer_version(submission: Submission) -> str:
    """The scorer version of a result; empty without one."""
    return str(submission.result.summary.get("scorer_version", "")) if submission.result else ""


def complete(session: Session, settings: Settings, submission: Submission) -> None:
    """Add the rescored result that is in the ledger only, because rescoring was killed before the database had it.

    It follows what is done to its original from then on, as if the call had ended.
    """
    name = rescored_id(submission.id, SCORER_VERSION)
    if session.get(Submission, name) is None and ledger.folder_of(settings.ledger, name) is not None:
        result = stated(ledger.load(settings.ledger, name)).get(name)
        if result is not None:
            result.take_over(session, None)
            session.flush()


def rescored(session: Session, settings: Settings, submission: Submission) -> list[Submission]:
    """The rescored results of a submission, locked against other changes; also those made from one of them."""
    complete(session, settings, submission)
    query = (
        select(Submission)
        .join(Result)
        .where(Submission.team_id == submission.team_id, Submission.sha256 == submission.sha256)
        .order_by(Submission.id)
        .with_for_update(of=Submission)
    )
    same = session.scalars(query).unique().all()
    names, found = {submission.id}, list[Submission]()
    while more := [
        one
        for one in same
        if one.id not in names and any(one.id == rescored_id(name, scorer_version(one)) for name in names)
    ]:
        found += more
        names |= {one.id for one in more}
    return found
