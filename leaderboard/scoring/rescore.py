"""Scoring of kept predictions again, after an upgrade of the scorer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence

from sqlalchemy import select

from leaderboard.ranking.table import version_order
from leaderboard.scoring.worker import Worker
from leaderboard.store import ledger
from leaderboard.store.db import Submission, audit, now
from leaderboard.store.queue import Job
from leaderboard.store.records import replay
from leaderboard.store.uploads import predictions_path
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scores import SCORER_VERSION


def rescore(worker: Worker, submissions: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Score submissions again that an older scorer scored.

    The result of the older scorer stays, since it is never changed; the new one is a submission of the same team, card,
    date and tier, in the table of this scorer version. Submissions that this version scored already, or that are
    superseded, are skipped. An interrupted call is completed by repeating it.

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
    ids = {submission.id for submission in everything}
    known = {submission.id: submission for submission in everything if submission.status == "scored"}
    if missing := [name for name in submissions if name not in known]:
        raise LulcbenchError(f"There is no scored submission {missing[0]!r}.", "Name those that the board shows.")
    for submission in (known[name] for name in submissions or known):
        if version_order(_version(submission)) >= version_order(SCORER_VERSION) or _rescored(submission) in ids:
            continue
        if submission.superseded_by is not None:
            if submissions:
                yield submission.id, "it is superseded"
            continue
        yield submission.id, _again(worker, submission)


def _version(submission: Submission) -> str:
    return str(submission.result.summary["scorer_version"]) if submission.result else ""


def _rescored(submission: Submission) -> str:
    """Id of the result of this scorer: always the same, so that a call that is repeated adds no second one."""
    return hashlib.sha256(f"{submission.id} {SCORER_VERSION}".encode()).hexdigest()[:20]


def _again(worker: Worker, submission: Submission) -> str:
    """Score one submission; the id of the new result, or why there is none."""
    settings, new = worker.settings, _rescored(submission)
    if submission.team.banned_at is not None:
        return "its team is banned"
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
    entry = ledger.Entry.model_validate(
        answer["result"]
        | {
            "submission": new,
            "team": submission.team.name,
            "tier": submission.tier,
            "filename": submission.filename,
            "sha256": submission.sha256,
            "card": submission.card,
            "submitted_at": submission.created_at,
            "scored_at": now(),
        }
    )
    if entry.scores["predictions_sha256"] != submission.sha256:
        shutil.rmtree(settings.media / new, ignore_errors=True)
        return "the kept predictions are not those that were submitted"
    with contextlib.suppress(FileExistsError):
        os.link(predictions_path(settings, submission.id), predictions_path(settings, new))
    ledger.write(settings.ledger, entry)
    replay(worker.db, settings)
    with worker.db.write() as session:
        audit(session, "operator", "submission.rescore", submission.id, result=new)
    return new
