"""Teams, their tokens (create, check, revoke) and the daily limit of uploads."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from leaderboard.errors import RequestError
from leaderboard.store.db import Database, Quota, Team, Token, audit, now
from lulcbench.errors import LulcbenchError

SCOPES = ("submit", "admin")
_TOKEN = re.compile(r"lb_([0-9a-f]{12})_([0-9a-f]{64})")
_TEAM = re.compile(r"[\w][\w .,&()+-]{0,63}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Team and scope of a valid token."""

    token_id: str
    team_id: int
    team: str
    scope: str

    @property
    def admin(self) -> bool:
        """Whether it may act for every team."""
        return self.scope == "admin"

    @property
    def actor(self) -> str:
        """Name in the audit log."""
        return f"{self.team}/{self.token_id}"


def create_token(db: Database, team_name: str, scope: str = "submit") -> str:
    """Create a token for a team (and the team, if new). It is shown once and cannot be read back.

    Raises:
        LulcbenchError: the scope or the team name is not allowed.
    """
    if scope not in SCOPES:
        raise LulcbenchError(f"There is no scope {scope!r}.", f"Choose one of {', '.join(SCOPES)}.")
    check_team(team_name)
    token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    with db.write() as session:
        team = ensure_team(session, team_name)
        session.add(Token(id=token_id, team_id=team.id, scope=scope, digest=_digest(secret), created_at=now()))
        audit(session, "operator", "token.create", token_id, team=team_name, scope=scope)
    return f"lb_{token_id}_{secret}"


def check_team(name: str) -> None:
    """Check a team name.

    Raises:
        LulcbenchError: it is empty, too long, or has other characters than those allowed.
    """
    if not _TEAM.fullmatch(name):
        raise LulcbenchError(
            f"{name!r} is not a team name.", "Use 1 to 64 letters, digits, spaces and . , & ( ) + - _."
        )


def revoke_token(db: Database, token_id: str) -> None:
    """Revoke a token with immediate effect. Takes its id (between the underscores) or the complete token."""
    match = _TOKEN.fullmatch(token_id)
    token_id = match[1] if match else token_id
    with db.write() as session:
        token = session.get(Token, token_id)
        if token is None:
            raise LulcbenchError(f"There is no token {token_id!r}.", "See 'python -m leaderboard token list'.")
        if token.revoked_at is None:
            token.revoked_at = now()
            audit(session, "operator", "token.revoke", token_id, team=token.team.name)


def identify(session: Session, presented: str) -> Identity:
    """The identity of a token.

    Raises:
        RequestError: 401, it is malformed, unknown or revoked; the message is the same for all three.
    """
    match = _TOKEN.fullmatch(presented)
    token = session.get(Token, match[1]) if match else None
    expected = token.digest if token else _digest("")
    if not hmac.compare_digest(expected, _digest(match[2] if match else "-")) or token is None or token.revoked_at:
        raise RequestError(
            401,
            "The token is not valid.",
            "Ask the operator for a new one, and send it as 'Authorization: Bearer TOKEN'.",
            {"WWW-Authenticate": "Bearer"},
        )
    return Identity(token.id, token.team_id, token.team.name, token.scope)


def identify_by_id(session: Session, token_id: str) -> Identity | None:
    """The identity of a signed-in browser, or None if its token has been revoked since."""
    token = session.get(Token, token_id)
    if token is None or token.revoked_at:
        return None
    return Identity(token.id, token.team_id, token.team.name, token.scope)


def ensure_team(session: Session, name: str) -> Team:
    """The team of that name, created if it is new; concurrent writers get the same team."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.execute(insert(Team).values(name=name).on_conflict_do_nothing())
    return session.scalars(select(Team).where(Team.name == name)).one()


def spend(session: Session, identity: Identity, limit: int) -> None:
    """Count one upload against today's limit.

    Test and increment are one statement, so that parallel requests cannot exceed the limit together.

    Raises:
        RequestError: 429, the limit is reached.
    """
    day = now().date().isoformat()
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.execute(insert(Quota).values(team_id=identity.team_id, day=day, used=0).on_conflict_do_nothing())
    counted = session.execute(
        update(Quota)
        .where(Quota.team_id == identity.team_id, Quota.day == day, Quota.used < limit)
        .values(used=Quota.used + 1)
    )
    if cast("CursorResult[Any]", counted).rowcount != 1:
        raise _over_limit(identity, limit)


def check_limit(session: Session, identity: Identity, limit: int) -> None:
    """Raise the error that ``spend`` would raise, without counting anything.

    Raises:
        RequestError: 429, the limit is reached.
    """
    used = session.get(Quota, (identity.team_id, now().date().isoformat()))
    if used is not None and used.used >= limit:
        raise _over_limit(identity, limit)


def _over_limit(identity: Identity, limit: int) -> RequestError:
    return RequestError(
        429,
        f"{identity.team} has begun {limit} uploads today, which is the limit.",
        "Try again after midnight UTC; an unfinished upload can be resumed and does not count again.",
        {"Retry-After": "3600"},
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
