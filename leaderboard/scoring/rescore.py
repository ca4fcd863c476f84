"""Scoring of kept predictions again, after an upgrade of the scorer."""

from __future__ import annotations

import os
import secrets
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
    date and tier, in the table of this scorer version. Submissions that this version scored already are skipped, so
    that an interrupted call is repeated.

    Args:
        worker: the database, and the limits of scoring.
        submissions: ids; all on the board if empty.

    Yields:
        The id of each submission with the id of its new result, or with the reason why there is none.

    Raises:
        LulcbenchError: a named submission is not on the board.
    """
    with worker.db.read() as session:
        scored = session.scalars(select(Submission).where(Submission.status == "scored")).unique().all()
    known = {submission.id: submission for submission in scored}
    if missing := [name for name in submissions if name not in known]:
        raise LulcbenchError(f"There is no scored submission {missing[0]!r}.", "Name those that the board shows.")
    current = {(one.team_id, one.sha256) for one in scored if _version(one) == SCORER_VERSION}
    for submission in (known[name] for name in submissions or known):
        if version_order(_version(submission)) >= version_order(SCORER_VERSION):
            continue
        if (submission.team_id, submission.sha256) in current:
            continue
        yield submission.id, _again(worker, submission)


def _version(submission: Submission) -> str:
    return str(submission.result.summary["scorer_version"]) if submission.result else ""


def _again(worker: Worker, submission: Submission) -> str:
    """Score one submission; the id of the new result, or why there is none."""
    settings, new = worker.settings, secrets.token_hex(10)
    if not predictions_path(settings, submission.id).is_file():
        return "its predictions are not kept"
    at = submission.created_at.isoformat()
    job = Job(submission.id, submission.team.name, submission.tier, submission.filename, submission.sha256, {}, at, 1)
    with worker.scratch() as folder:
        answer = worker.score(job, folder, renew=False)
        if "result" not in answer:
            reason = answer.get("refused", {}).get("what") or next(iter(answer.values()))
            return f"not scored: {reason}"
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
    os.link(predictions_path(settings, submission.id), predictions_path(settings, new))
    ledger.write(settings.ledger, entry)
    replay(worker.db, settings)
    with worker.db.write() as session:
        audit(session, "operator", "submission.rescore", submission.id, result=new)
    return new
