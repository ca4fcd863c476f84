"""Teams, their tokens (create, check, revoke) and the daily limit of uploads."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from leaderboard.errors import RequestError
from leaderboard.store.db import BrowserSession, Database, Quota, Team, Token, audit, now
from lulcbench.errors import LulcbenchError
from lulcbench.submission.card import mixes_scripts

SCOPES = ("submit", "admin")
MOST_ISSUED = 5  # tokens that are valid at one time, for each team that issues its own
MOST_DAYS = 365  # for which such a token is valid
_TOKEN = re.compile(r"lb_([0-9a-f]{12})_([0-9a-f]{64})")
_FILLER = re.compile("[\u115f\u1160\u3164\uffa0]")  # letters that are shown as blanks
# Cyrillic, Greek and digits that look like Latin letters, after case folding.
_LOOKALIKE = str.maketrans(
    "\u0430\u0432\u0441\u0435\u0456\u043a\u043c\u043d\u043e\u0440\u0455\u0442\u0443\u0445\u03c5\u03b1\u03bf\u03b901",
    "abceikmhopstyxuaoiol",
)
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


def create_token(db: Database, team_name: str, scope: str = "submit", days: int = 0) -> str:
    """Create a token for a team (and the team, if new). It is shown once and cannot be read back.

    Args:
        db: the database.
        team_name: name of the team.
        scope: one of ``SCOPES``.
        days: days after which it expires; 0 for a token that does not.

    Raises:
        LulcbenchError: the scope or the team name is not allowed, or the name resembles that of another team.
    """
    if scope not in SCOPES:
        raise LulcbenchError(f"There is no scope {scope!r}.", f"Choose one of {', '.join(SCOPES)}.")
    check_team(team_name)
    token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    with db.write() as session:
        check_resemblance(session, team_name)
        team = ensure_team(session, team_name)
        session.add(_token(token_id, secret, team.id, scope, days))
        audit(session, "operator", "token.create", token_id, team=team_name, scope=scope)
    return f"lb_{token_id}_{secret}"


def issues_tokens(session: Session, who: Identity) -> bool:
    """Whether the caller was identified by another service, and not by a token.

    A token does not issue others: those that somebody who found it made with it would outlive it.
    """
    token = session.get(Token, who.token_id)
    return token is not None and ":" in token.digest


def issue_own(db: Database, who: Identity, days: int) -> str:
    """Create a token of scope ``submit`` for the caller's team. It is shown once and cannot be read back.

    Args:
        db: the database.
        who: the caller, whom another service has identified.
        days: after which it expires, from 1 to ``MOST_DAYS``.

    Raises:
        RequestError: 403, the caller signed in with a token; 422, the number of days; 409, there are ``MOST_ISSUED``.
    """
    if not 1 <= days <= MOST_DAYS:
        raise RequestError(422, f"A token is valid for 1 to {MOST_DAYS} days.", "Choose a number of days.")
    token_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    with db.write() as session:
        if not issues_tokens(session, who):
            raise RequestError(403, "A token does not issue others.", "Ask the operator of the board for one.")
        tokens = session.scalars(select(Token).where(Token.team_id == who.team_id)).all()
        if sum(_valid(token) and ":" not in token.digest for token in tokens) >= MOST_ISSUED:
            raise RequestError(409, f"The team has {MOST_ISSUED} valid tokens already.", "Revoke one of them first.")
        session.add(_token(token_id, secret, who.team_id, "submit", days))
        audit(session, who.actor, "token.create", token_id, team=who.team, scope="submit")
    return f"lb_{token_id}_{secret}"


def _token(token_id: str, secret: str, team_id: int, scope: str, days: int) -> Token:
    expires = now() + timedelta(days=days) if days else None
    digest = _digest(secret)
    return Token(id=token_id, team_id=team_id, scope=scope, digest=digest, created_at=now(), expires_at=expires)


def external_token(db: Database, team_name: str, identity: str) -> str:
    """Id of a token for a user whom another service has identified; created with the team at the first sign-in.

    No client can present such a token: its digest is the identity, and not that of a secret.

    Args:
        db: the database.
        team_name: name of the team if the user is new; a team keeps its name when the user's changes.
        identity: provider and digest of the identifier of the user there, which must never change or be reused.

    Raises:
        RequestError: 403, the team is banned; 409, there is a team of that or a similar name, or it is not allowed.
    """
    with db.write() as session:
        tokens = session.scalars(select(Token).where(Token.digest == identity)).all()
        team = tokens[0].team if tokens else _new_team(session, team_name)
        if team.banned_at is not None:
            raise RequestError(403, "This team is banned.", "Ask the operator of the board.")
        for token in tokens:
            if _valid(token):
                return token.id
        token_id = secrets.token_hex(6)
        session.add(Token(id=token_id, team_id=team.id, scope="submit", digest=identity, created_at=now()))
        audit(session, identity, "token.create", token_id, team=team.name, scope="submit")
        return token_id


def _new_team(session: Session, name: str) -> Team:
    try:
        check_team(name)
        check_resemblance(session, name)
        if session.scalars(select(Team.id).where(Team.name == name)).first() is not None:
            raise LulcbenchError(f"There is a team {name!r} already.", "")
    except LulcbenchError as error:
        raise RequestError(409, error.what, "Ask the operator for a token with another name.") from error
    return ensure_team(session, name)


def check_team(name: str) -> None:
    """Check a team name.

    Raises:
        LulcbenchError: it is empty, too long, or has other characters than those allowed.
    """
    if not _TEAM.fullmatch(name) or name != " ".join(name.split()) or mixes_scripts(name) or _FILLER.search(name):
        raise LulcbenchError(
            f"{name!r} is not a team name.",
            "Use 1 to 64 letters, digits, spaces and . , & ( ) + - _, and in a word letters of one script.",
        )


def ban(db: Database, team_name: str, banned: bool = True) -> None:
    """Ban a team, or end its ban: its tokens are not accepted, and what it has in the queue is refused.

    Raises:
        LulcbenchError: there is no such team.
    """
    with db.write() as session:
        team = session.scalars(select(Team).where(Team.name == team_name)).one_or_none()
        if team is None:
            raise LulcbenchError(f"There is no team {team_name!r}.", "See 'python -m leaderboard token list'.")
        team.banned_at = now() if banned else None
        audit(session, "operator", "team.ban" if banned else "team.unban", team_name[:64])


def may_publish(session: Session, team_id: int) -> bool:
    """Whether results of a team may be published: it is not banned, and not all of its tokens were revoked.

    An expired token ends the access of programs, not the standing of what they have sent.
    """
    team = session.get(Team, team_id)
    if team is None or team.banned_at is not None:
        return False
    kept = select(Token.id).where(Token.team_id == team_id, Token.revoked_at.is_(None)).limit(1)
    return session.scalars(kept).first() is not None


def begin_session(db: Database, token_id: str, lifetime: timedelta) -> str:
    """Sign a browser in; the number of its session, of which only the digest is stored. Old sessions are deleted."""
    number = secrets.token_hex(32)
    with db.write() as session:
        session.execute(delete(BrowserSession).where(BrowserSession.created_at < now() - lifetime))
        session.add(BrowserSession(digest=_digest(number), token_id=token_id, created_at=now()))
    return number


def end_session(db: Database, number: str) -> None:
    """Sign a browser out; copies of its cookie become worthless."""
    with db.write() as session:
        session.execute(delete(BrowserSession).where(BrowserSession.digest == _digest(number)))


def identify_session(session: Session, number: str, lifetime: timedelta) -> Identity | None:
    """The identity of a signed-in browser; None if its session has ended or its token is no longer valid."""
    known = session.get(BrowserSession, _digest(number))
    if known is None or known.created_at < now() - lifetime:
        return None
    token = session.get(Token, known.token_id)
    if token is None or not _valid(token):
        return None
    return Identity(token.id, token.team_id, token.team.name, token.scope)


def note_use(db: Database, token_id: str) -> None:
    """Record that a token was used, at most once an hour."""
    with db.read() as session:
        token = session.get(Token, token_id)
        if token is None or (token.used_at is not None and now() - token.used_at < timedelta(hours=1)):
            return
    with db.write() as session:
        session.execute(update(Token).where(Token.id == token_id).values(used_at=now()))


def _valid(token: Token) -> bool:
    expired = token.expires_at is not None and token.expires_at <= now()
    return token.revoked_at is None and not expired and token.team.banned_at is None


def check_resemblance(session: Session, name: str, besides: str = "") -> None:
    """Refuse a name that readers would take for that of another team.

    Raises:
        LulcbenchError: it differs from another name in case, marks or compatibility characters only.
    """
    key = _skeleton(name)
    for other in session.scalars(select(Team.name)):
        if other not in (name, besides) and _skeleton(other) == key:
            raise LulcbenchError(f"{name!r} resembles the team {other!r}.", "Choose a name that cannot be mistaken.")


def _skeleton(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(c for c in plain if c.isalnum()).translate(_LOOKALIKE)


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


def revoke_own(db: Database, who: Identity, token_id: str) -> None:
    """Revoke a token of the caller's team.

    Raises:
        RequestError: 404, the team has no such token.
    """
    with db.write() as session:
        token = session.get(Token, token_id) if re.fullmatch("[0-9a-f]{12}", token_id) else None
        if token is None or token.team_id != who.team_id:
            raise RequestError(404, "There is no such token.", "See the list of your team's tokens.")
        if token.revoked_at is None:
            token.revoked_at = now()
            audit(session, who.actor, "token.revoke", token_id, team=who.team)


def identify(session: Session, presented: str) -> Identity:
    """The identity of a token.

    Raises:
        RequestError: 401, it is malformed, unknown, revoked or expired, or its team is banned; the message is the same.
    """
    match = _TOKEN.fullmatch(presented)
    token = session.get(Token, match[1]) if match else None
    expected = token.digest if token else _digest("")
    if not hmac.compare_digest(expected, _digest(match[2] if match else "-")) or token is None or not _valid(token):
        raise RequestError(
            401,
            "The token is not valid.",
            "Ask the operator for a new one, and send it as 'Authorization: Bearer TOKEN'.",
            {"WWW-Authenticate": "Bearer"},
        )
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
