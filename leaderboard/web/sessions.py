"""Signed-in browsers and forged requests: one signed cookie, and a token in every form that is tied to it.

The cookie holds a random value and the id of the token that was used to sign in, with an HMAC; the secret lies in the
service's private folder. A form carries the HMAC of the cookie, which another site can neither read nor make.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from leaderboard.problems import Problem
from leaderboard.settings import Settings

COOKIE = "lulcbench_session"
LIFETIME_S = 12 * 3600


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """What the cookie says.

    Attributes:
        nonce: random; a new one at every signing in or out.
        token_id: of the token that signed in, or empty.
        expires: Unix time.
    """

    nonce: str
    token_id: str
    expires: int

    @property
    def payload(self) -> str:
        """What is signed."""
        return f"{self.nonce}.{self.token_id}.{self.expires}"


class Sessions:
    """Issues and checks the cookie and the form tokens.

    Args:
        settings: for the folder of the secret and the site's own address.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret = _load_secret(settings.data / "secret.key")
        self._origin = "{0.scheme}://{0.netloc}".format(urlsplit(settings.public_url))
        self._secure = settings.public_url.startswith("https:")

    def read(self, request: Request) -> BrowserSession:
        """The session of a request; a new anonymous one if its cookie is missing, forged or expired."""
        payload, _, signature = request.cookies.get(COOKIE, "").rpartition(".")
        parts = payload.split(".")
        if len(parts) == 3 and hmac.compare_digest(signature.encode(), self._sign("cookie", payload).encode()):
            session = BrowserSession(parts[0], parts[1], int(parts[2]))
            if session.expires > time.time():
                return session
        return self.new()

    def new(self, token_id: str = "") -> BrowserSession:
        """A new session, signed in if a token's id is given."""
        return BrowserSession(secrets.token_hex(16), token_id, int(time.time()) + LIFETIME_S)

    def write(self, response: Response, session: BrowserSession) -> None:
        """Set the cookie: not for scripts, not for other sites."""
        value = f"{session.payload}.{self._sign('cookie', session.payload)}"
        response.set_cookie(
            COOKIE, value, max_age=LIFETIME_S, httponly=True, samesite="strict", secure=self._secure, path="/"
        )

    def form_token(self, session: BrowserSession) -> str:
        """What a form of this session carries."""
        return self._sign("form", session.payload)

    def check_form(self, request: Request, session: BrowserSession, presented: str) -> None:
        """Refuse a form that this site did not make for this browser.

        Raises:
            Problem: 403.
        """
        origin = request.headers.get("origin")
        elsewhere = origin not in (None, self._origin) or request.headers.get("sec-fetch-site") == "cross-site"
        if elsewhere or not hmac.compare_digest(presented.encode(), self.form_token(session).encode()):
            raise Problem(403, "This form was not sent from this site, or is too old.", "Load the page and try again.")

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def _load_secret(path: Path) -> bytes:
    """The secret, made at the first start; several processes that start at once agree on one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_bytes()
