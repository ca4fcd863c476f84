"""What the ledger states about each submission, where the database differs from it, and taking it over from there.

Every change is written to the ledger before the database commits it, so that a row that differs was altered, or belongs
to a change that was interrupted. Submissions with an event that cannot be read or is missing are left as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from leaderboard.store import ledger
from leaderboard.store.accounts import ensure_team
from leaderboard.store.db import OPERATOR, TEAM, Submission
from leaderboard.store.queue import index_row

_ROUNDING = 1e-9  # of summaries that another machine computed
_OF_RESULT = ("release_key", "simulated", "task", "years", "split", "ledger_path", "scored_at")


@dataclass(frozen=True, slots=True)
class Stated:
    """What the ledger states about one submission.

    Attributes:
        id: the submission.
        entry: its result; None if that is damaged or missing.
        summary: the summary of the result.
        events: in the order in which they happened.
    """

    id: str
    entry: ledger.Entry | None
    summary: dict[str, Any]
    events: tuple[ledger.Event, ...]

    @property
    def standing(self) -> ledger.Event | None:
        """The last withdrawal, or the undoing of it."""
        return self._last("withdrawn", "restored")

    @property
    def successor(self) -> str | None:
        """Id of the submission that supersedes it."""
        event = self._last("superseded")
        return event.value if event else None

    @property
    def tier(self) -> str | None:
        """Its trust tier; None if neither its result nor an event states one."""
        event = self._last("tier")
        if event is not None:
            return event.value
        return self.entry.tier if self.entry else None

    def _withdrawn_by(self, submission: Submission) -> str:
        own = self.standing is not None and self.standing.actor == submission.team.name
        return TEAM if own else OPERATOR

    def _last(self, *kinds: str) -> ledger.Event | None:
        return next((event for event in reversed(self.events) if event.kind in kinds), None)

    def differences(self, submission: Submission | None) -> Iterator[str]:
        """Names of what the database has otherwise.

        A result that is not the one that was scored is left out: its digest is compared with that of the file.
        """
        if submission is None or submission.result is None:
            if self.entry is not None:
                yield "result"
            return
        result = submission.result
        withdrawn = self.standing is not None and self.standing.kind == "withdrawn"
        if submission.status != ("withdrawn" if withdrawn else "scored"):
            yield "status"
        if withdrawn and submission.status == "withdrawn" and submission.withdrawn_by != self._withdrawn_by(submission):
            yield "who withdrew it"
        if submission.superseded_by != self.successor:
            yield "successor"
        if submission.tier != (self.tier or submission.tier):
            yield "tier"
        if self.entry is None or result.ledger_digest != self.entry.digest:
            return
        if submission.team.name != self.entry.team:
            yield "team"
        if (submission.sha256, submission.created_at) != (self.entry.sha256, self.entry.submitted_at):
            yield "predictions"
        index = index_row(self.entry, self.summary)
        if any(getattr(result, name) != getattr(index, name) for name in _OF_RESULT):
            yield "table"
        if not _same(result.summary, self.summary):
            yield "scores"

    def take_over(self, session: Session, submission: Submission | None) -> bool:
        """Add a missing result to the database, and what was interrupted; whether a result was added.

        What hides a result, a withdrawal or a successor, is not undone without an event. A result whose digest is
        not that of the file is left as it is, since it is the evidence that the file was altered.
        """
        if submission is None:
            if self.entry is None:
                return False
            submission = _new(session, self.entry)
        added = False
        if self.entry is None:
            pass  # its events hold nevertheless
        elif submission.result is None:
            added = True
            if submission.status != "withdrawn":
                submission.status = "scored"
            submission.finished_at = self.entry.scored_at
            submission.lease_owner = submission.lease_until = submission.what = submission.remedy = None
            submission.result = index_row(self.entry, self.summary)
        elif submission.result.ledger_digest == self.entry.digest:
            index = index_row(self.entry, self.summary)
            for name in (*_OF_RESULT, "summary"):
                setattr(submission.result, name, getattr(index, name))
            submission.sha256, submission.created_at = self.entry.sha256, self.entry.submitted_at
        if self.standing is not None:
            if self.standing.kind == "withdrawn":
                submission.take_off(self._withdrawn_by(submission), self.standing.at)
            else:
                submission.put_back()
            if submission.result is not None and submission.status == "withdrawn":
                submission.status_before = "scored"
            elif submission.result is not None:
                submission.status = "scored"
        submission.superseded_by = self.successor or submission.superseded_by
        submission.tier = self.tier or submission.tier
        return added


def stated(contents: ledger.Contents) -> dict[str, Stated]:
    """Submission → what the ledger states about it, in the order of scoring."""
    entries = {entry.submission: entry for entry in contents.entries}
    events: dict[str, list[ledger.Event]] = {}
    for event in contents.events:
        events.setdefault(event.submission, []).append(event)
    return {
        name: Stated(name, entries.get(name), contents.summaries.get(name, {}), tuple(events.get(name, ())))
        for name in (*entries, *(name for name in events if name not in entries))
        if name not in contents.held_back
    }


def locked(session: Session, submission_id: str) -> Submission | None:
    """A submission as it is now, which no other process changes until this transaction ends."""
    query = select(Submission).where(Submission.id == submission_id).with_for_update(of=Submission)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def _new(session: Session, entry: ledger.Entry) -> Submission:
    submission = Submission(
        id=entry.submission,
        team=ensure_team(session, entry.team),
        tier=entry.tier,
        filename=entry.filename,
        sha256=entry.sha256,
        card=entry.card,
        created_at=entry.submitted_at,
    )
    session.add(submission)
    return submission


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same as JSON, except for rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING) or (math.isnan(one) and math.isnan(other))
    return bool(one == other)
