"""Sessions of signed-in browsers, and protection against cross-site request forgery.

Starlette's ``SessionMiddleware`` keeps a session in a cookie that it signs (itsdangerous); the secret is in the
service's private folder. The session holds the number of a session in the database, which ends when the browser
signs out, and a random token that every form must repeat: another site can neither read nor set it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from leaderboard.errors import RequestError
from leaderboard.settings import Settings

COOKIE = "lulcbench_session"
LIFETIME_S = 12 * 3600
LIFETIME = timedelta(seconds=LIFETIME_S)
_NUMBER, _FORM_TOKEN = "session", "form_token"


def middleware_options(settings: Settings) -> dict[str, Any]:
    """Arguments of ``SessionMiddleware``: a cookie that neither scripts nor other sites can use."""
    return {
        "secret_key": _load_secret(settings.data / "secret.key").hex(),
        "session_cookie": COOKIE,
        "max_age": LIFETIME_S,
        "same_site": "strict",
        "https_only": settings.public_url.startswith("https:"),
    }


def begin(request: Request, number: str) -> None:
    """Sign a browser in with a new session; forms of the previous session become invalid."""
    request.session.clear()
    request.session.update({_NUMBER: number, _FORM_TOKEN: secrets.token_hex(32)})


def end(request: Request) -> None:
    """Sign a browser out."""
    request.session.clear()


def number(request: Request) -> str:
    """Number of this browser's session (``accounts.begin_session``); empty if it is not signed in."""
    return str(request.session.get(_NUMBER, ""))


def form_token(request: Request) -> str:
    """The token that forms of this session must repeat; created with the first form."""
    return str(request.session.setdefault(_FORM_TOKEN, secrets.token_hex(32)))


def check_form(request: Request, presented: str) -> None:
    """Refuse a form that does not come from this site and this session.

    Raises:
        RequestError: 403, the form comes from another address than the public one, or its token is missing or out of
            date.
    """
    site = urlsplit(request.app.state.settings.public_url)
    public = f"{site.scheme}://{site.netloc}"
    if request.headers.get("origin") not in (None, public):
        raise RequestError(403, "This form was sent from another address than this site's.", f"Open {public} instead.")
    elsewhere = request.headers.get("sec-fetch-site") == "cross-site"
    expected = str(request.session.get(_FORM_TOKEN, ""))
    if elsewhere or not expected or not hmac.compare_digest(presented.encode(), expected.encode()):
        raise RequestError(403, "This form was not sent from this site, or is too old.", "Load the page and try again.")


def _load_secret(path: Path) -> bytes:
    """The secret, created at the first start; processes that start at the same time get the same one."""
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
