"""Renaming of teams and removal of authors' names, in the database and in the ledger, while the scores stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import check_resemblance, check_team
from leaderboard.store.db import Audit, Database, Result, Submission, Team, Upload, audit, now, touch
from leaderboard.store.files import text_of
from leaderboard.store.rescored import complete
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

OPERATOR = "operator"


def rename(db: Database, settings: Settings, name: str, new: str, authors: Sequence[str] = ()) -> int:
    """Give a team another name, and its model cards other authors, everywhere: tables, ledger, audit log.

    The ledger notes that names were replaced in a file, not which. Backups, and copies that others made, keep the old
    names. An interrupted call is completed by repeating it, before the database is rebuilt from the ledger.

    Args:
        db: the database.
        settings: for the ledger.
        name: name of the team.
        new: its new name, such as ``Former team 3``.
        authors: authors of all its model cards; empty leaves them.

    Returns:
        The number of ledger files changed.

    Raises:
        LulcbenchError: there is no such team, or the new name is not allowed, resembles another one or is taken.
    """
    check_team(new)
    with db.write() as session:
        team = session.scalars(select(Team).where(Team.name == name)).one_or_none()
        if team is None:
            raise LulcbenchError(f"There is no team {name!r}.", "See 'python -m leaderboard token list'.")
        if new != name:
            if session.scalars(select(Team.id).where(Team.name == new)).first() is not None:
                raise LulcbenchError(f"There is a team {new!r} already.", "Choose another name.")
            check_resemblance(session, new, besides=name)
        changed = _as_actor(settings.ledger, name, new) if new != name else 0
        own = select(Submission).where(Submission.team_id == team.id)
        for submission in session.scalars(own).unique().all():
            complete(session, settings, submission)
        for submission in session.scalars(own).unique():
            changed += _in_ledger(session, settings, submission, name, new, authors)
            if authors:
                submission.card = submission.card | {"authors": list(authors)}
        if authors:
            for upload in session.scalars(select(Upload).where(Upload.team_id == team.id)):
                upload.card = upload.card | {"authors": list(authors)}
        team.name = new
        _in_audit(session, name, new)
        audit(session, OPERATOR, "team.rename", new[:64], files=changed)
        touch(session)
    return changed


def _in_ledger(
    session: Session, settings: Settings, submission: Submission, name: str, new: str, authors: Sequence[str]
) -> int:
    changed = 0
    for path, item in _files(settings.ledger, submission.id):
        if isinstance(item, ledger.Entry):
            card = item.card | ({"authors": list(authors)} if authors else {})
            replaced: ledger.Entry | ledger.Event = item.model_copy(update={"team": new, "card": card})
        else:
            replaced = item.model_copy(update={"actor": new if item.actor == name else item.actor})
        if replaced.digest == item.digest:
            continue
        _replace(settings.ledger, path, replaced)
        changed += 1
    result = session.get(Result, submission.id)
    if result is not None:
        entry = ledger.read(settings.ledger / result.ledger_path)
        result.ledger_digest, result.summary = entry.digest, entry.summary
    return changed


def _as_actor(root: Path, name: str, new: str) -> int:
    """Replace a name in events, also in those on submissions of other teams, which operators have; how many."""
    changed = 0
    for path in sorted(root.glob("*/*.*.json")):
        if ".redacted-" not in path.name:
            event = _intact(ledger.read_event, path)
            if event.actor == name:
                _replace(root, path, event.model_copy(update={"actor": new}))
                changed += 1
    return changed


def _in_audit(session: Session, name: str, new: str) -> None:
    for line in session.scalars(select(Audit)):
        if line.actor == name or line.actor.startswith(f"{name}/"):
            line.actor = new + line.actor[len(name) :]
        if line.subject == name:
            line.subject = new[:64]
        if line.detail.get("team") == name:
            line.detail = line.detail | {"team": new}


def _files(root: Path, submission_id: str) -> list[tuple[Path, ledger.Entry | ledger.Event]]:
    """The result and events of a submission, without replacements of names.

    Raises:
        LulcbenchError: one is damaged, and may hold the old name.
    """
    found: list[tuple[Path, ledger.Entry | ledger.Event]] = []
    for path in sorted(root.glob(f"*/{submission_id}.*json")):
        if path.name == f"{submission_id}.json":
            found.append((path, _intact(ledger.read, path)))
        elif ".redacted-" not in path.name:
            found.append((path, _intact(ledger.read_event, path)))
    return found


def _intact[T](read: Callable[[Path], T], path: Path) -> T:
    try:
        return read(path)
    except ledger.DamagedFile as error:
        raise LulcbenchError(error.what, "Restore it first; then repeat the command.") from error


def _replace(root: Path, path: Path, item: ledger.Entry | ledger.Event) -> None:
    """Replace a file by one with other names. The chain notes this first, so that the new content is accepted.

    If the process ends in between, the file still has the old names and is intact.
    """
    value = f"{path.name} {item.digest}"
    if ledger.redactions(path)[-1:] != [value]:
        event = ledger.Event(submission=item.submission, kind="redacted", at=now(), actor=OPERATOR, value=value)
        ledger.record(root, path.parent.name, event)
    write_atomic(path, text_of(item.model_dump(mode="json") | {"digest": item.digest}))
