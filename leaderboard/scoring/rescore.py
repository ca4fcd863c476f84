"""Scoring of kept predictions again, after an upgrade of the scorer."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from leaderboard.ranking.table import version_order
from leaderboard.scoring.worker import Worker
from leaderboard.store import ledger
from leaderboard.store.db import Submission, audit, now, touch
from leaderboard.store.queue import Job
from leaderboard.store.records import replay
from leaderboard.store.rescored import rescored_id, scorer_version
from leaderboard.store.standing import successor, successor_of
from leaderboard.store.stated import Stated
from leaderboard.store.uploads import predictions_path
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scores import SCORER_VERSION


def rescore(worker: Worker, submissions: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Score submissions again that an older scorer scored.

    The result of the older scorer stays, since it is never changed; the new one is a submission of the same team, card,
    date and tier, in the table of this scorer version, and follows it if it is withdrawn or superseded later.
    Submissions that this version scored already, that are superseded, or that are rescored results themselves are
    skipped, and so are those that are withdrawn while others are scored. An interrupted call is completed by repeating
    it.

    Args:
        worker: the database, and the limits of scoring.
        submissions: ids; all on the board if empty.

    Yields:
        The id of each submission with the id of its new result, or with the reason why there is none.

    Raises:
        LulcbenchError: a named submission is not on the board.
    """
    replay(worker.db, worker.settings)  # a result that an interrupted call wrote
    with worker.db.read() as session:
        everything = session.scalars(select(Submission)).unique().all()
    found = {submission.id: submission for submission in everything}
    known = {submission.id: submission for submission in everything if submission.status == "scored"}
    if missing := [name for name in submissions if name not in known]:
        raise LulcbenchError(f"There is no scored submission {missing[0]!r}.", "Name those that the board shows.")
    versions = {scorer_version(submission) for submission in everything}
    copies = {rescored_id(name, version) for name in found for version in versions}
    for submission in (known[name] for name in submissions or known):
        done = version_order(scorer_version(submission)) >= version_order(SCORER_VERSION)
        if done or rescored_id(submission.id, SCORER_VERSION) in found:
            continue
        if submission.id in copies or successor(submission, found.get) is not None:
            if submissions:
                copy = submission.id in copies
                yield submission.id, "it is a rescored result; name the original" if copy else "it is superseded"
            continue
        yield submission.id, _again(worker, submission.id)


def _closed(session: Session, submission: Submission) -> str:
    """Why a submission, as it is now, is not scored again; empty if it is."""
    if submission.status != "scored":
        return "it was withdrawn"
    if submission.team.banned_at is not None:
        return "its team is banned"
    return "it is superseded" if successor_of(session, submission) is not None else ""


def _again(worker: Worker, submission_id: str) -> str:
    """Score one submission; the id of the new result, or why there is none."""
    settings, new = worker.settings, rescored_id(submission_id, SCORER_VERSION)
    with worker.db.read() as session:  # others were scored since the list was made
        submission = session.get_one(Submission, submission_id)
        if why := _closed(session, submission):
            return why
    if not predictions_path(settings, submission.id).is_file():
        return "its predictions are not kept"
    at = submission.created_at.isoformat()
    job = Job(submission.id, submission.team.name, submission.tier, submission.filename, submission.sha256, {}, at, 1)
    with worker.scratch() as folder:
        answer = worker.score(job, folder, renew=False)
        if "result" not in answer:
            reason = answer.get("refused", {}).get("what") or next(iter(answer.values()))
            return f"not scored: {reason}"
        shutil.rmtree(settings.media / new, ignore_errors=True)
        (folder / "media").replace(settings.media / new)
    why = "the kept predictions are not those that were submitted"
    if answer["result"]["scores"]["predictions_sha256"] == submission.sha256:
        with contextlib.suppress(FileExistsError):
            os.link(predictions_path(settings, submission.id), predictions_path(settings, new))
        why = _publish(worker, submission.id, new, answer["result"])
    if why:
        shutil.rmtree(settings.media / new, ignore_errors=True)
        predictions_path(settings, new).unlink(missing_ok=True)
    return why or new


def _publish(worker: Worker, submission_id: str, new: str, result: dict[str, Any]) -> str:
    """Add a new result to ledger and database, in one transaction; why not, or empty.

    It may have been withdrawn, superseded, banned or renamed during the scoring, and is not before this has ended.
    """
    with worker.db.write() as session:
        submission = session.get_one(Submission, submission_id, with_for_update={"of": Submission})
        if why := _closed(session, submission):
            return why
        known = {
            "submission": new,
            "team": submission.team.name,
            "tier": submission.tier,
            "filename": submission.filename,
            "sha256": submission.sha256,
            "card": submission.card,
            "submitted_at": submission.created_at,
            "scored_at": now(),
        }
        entry = ledger.write(worker.settings.ledger, ledger.Entry.model_validate(result | known))
        Stated(new, entry, entry.summary, ()).take_over(session, session.get(Submission, new))
        audit(session, "operator", "submission.rescore", submission.id, result=new)
        touch(session)
    return ""
