"""Signing in with Hugging Face (OAuth 2.0 authorization code with PKCE, RFC 7636); off unless a client id is set.

The session's cookie is not sent with a request that comes from another site (``SameSite=Strict``), so the address to
which Hugging Face sends the browser back is a page that leads on to the one that needs the session.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Any
from urllib.parse import urlencode

import httpx2
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from leaderboard.errors import RequestError, not_found
from leaderboard.settings import Settings
from leaderboard.store import accounts
from leaderboard.store.db import Database
from leaderboard.web import sessions
from leaderboard.web.pages import private, see
from leaderboard.web.render import html
from lulcbench._parsing import parse_json
from lulcbench.errors import LulcbenchError

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 2**10
_STARTED = "oauth"  # key in the session: what the answer must fit
_USER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,40}[A-Za-z0-9])?")
_VALUE = re.compile(r"[!-~]{1,2048}")

router = APIRouter(include_in_schema=False, prefix="/login/huggingface")


@router.get("")
def begin(request: Request) -> Response:
    """Send the browser to Hugging Face."""
    settings = _settings(request)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    request.session[_STARTED] = {"state": state, "verifier": verifier}
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": settings.huggingface_client_id,
        "redirect_uri": _back(settings),
        "response_type": "code",
        "scope": "openid profile",
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return see(f"{settings.huggingface_url}/oauth/authorize?{urlencode(query)}")


@router.get("/callback")
def callback(request: Request, code: str = "", state: str = "") -> Response:
    """Where Hugging Face sends the browser back; leads on within this site, so that the cookie is sent."""
    settings = _settings(request)
    if not _VALUE.fullmatch(code) or not _VALUE.fullmatch(state):
        raise RequestError(403, "Hugging Face did not sign you in.", "Try again at /login.")
    address = f"/login/huggingface/finish?{urlencode({'code': code, 'state': state})}"
    return private(html("continue.html", settings, address=address))


@router.get("/finish")
async def finish(request: Request, code: str = "", state: str = "") -> Response:
    """Check the answer, and sign the browser in as the team of the user."""
    settings = _settings(request)
    started: dict[str, str] = request.session.pop(_STARTED, {})
    if not started or not hmac.compare_digest(started["state"].encode(), state.encode()):
        raise RequestError(403, "This sign-in was not begun in this browser, or is used up.", "Try again at /login.")
    user, subject = await run_in_threadpool(_user, settings, code, started["verifier"])
    db: Database = request.app.state.db
    identity = "huggingface:" + hashlib.sha256(subject.encode()).hexdigest()[:48]
    token_id = await run_in_threadpool(accounts.external_token, db, f"{user} (Hugging Face)", identity)
    sessions.begin(request, await run_in_threadpool(accounts.begin_session, db, token_id, sessions.LIFETIME))
    return see("/submit")


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    if not settings.huggingface_client_id:
        raise not_found("This board does not offer it.")
    return settings


def _back(settings: Settings) -> str:
    return f"{settings.public_url.rstrip('/')}/login/huggingface/callback"


def _user(settings: Settings, code: str, verifier: str) -> tuple[str, str]:
    """The user that belongs to a code: the name, which users can change, and the identifier, which they cannot.

    Raises:
        RequestError: 502, Hugging Face cannot be reached, or does not confirm the code.
    """
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": _back(settings),
        "client_id": settings.huggingface_client_id,
        "code_verifier": verifier,
    }
    try:
        with httpx2.Client(timeout=TIMEOUT_S, base_url=settings.huggingface_url) as client:
            secret = (settings.huggingface_client_id, settings.huggingface_client_secret)
            token = _answer(client.post("/oauth/token", data=form, auth=secret))["access_token"]
            info = _answer(client.get("/oauth/userinfo", headers={"Authorization": f"Bearer {token}"}))
        user, subject = str(info["preferred_username"]), str(info["sub"])
    except (httpx2.HTTPError, LulcbenchError, KeyError) as error:
        raise RequestError(502, "Hugging Face did not confirm the sign-in.", "Try again, or use a token.") from error
    if not _USER.fullmatch(user) or not subject:
        raise RequestError(502, "Hugging Face gave a user name that cannot be a team.", "Ask the operator for a token.")
    return user, subject


def _answer(response: httpx2.Response) -> dict[str, Any]:
    response.raise_for_status()
    return parse_json(response.content, "The answer of Hugging Face", max_bytes=MAX_ANSWER_BYTES)
