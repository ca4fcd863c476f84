"""The pages that need an account: signing in, submitting through the form, the list of a team's submissions."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from sqlalchemy import select
from starlette.datastructures import FormData, UploadFile

from leaderboard.errors import RequestError
from leaderboard.settings import Settings
from leaderboard.store import accounts, standing, uploads
from leaderboard.store.accounts import Identity
from leaderboard.store.db import Audit, Database, Submission, Team, Token, now
from leaderboard.web import sessions
from leaderboard.web.cards import check_card
from leaderboard.web.check import LedgerCheck
from leaderboard.web.limits import Forms
from leaderboard.web.pages import private, see, signed_in
from leaderboard.web.render import html
from lulcbench._parsing import parse_toml
from lulcbench.errors import LulcbenchError
from lulcbench.submission.card import CARD_EXAMPLE, MAX_CARD_BYTES

LISTED = 200

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login_page(request: Request) -> Response:
    """The form for the token."""
    return _login(request)


@router.post("/login")
async def login(request: Request) -> Response:
    """Check the token; the cookie holds the number of a session only."""
    form = await _small_form(request)
    try:
        who = await run_in_threadpool(_identify, request.app.state.db, _text(form, "token").strip())
    except RequestError as error:
        return _login(request, error)
    db: Database = request.app.state.db
    await run_in_threadpool(accounts.note_use, db, who.token_id)
    sessions.begin(request, await run_in_threadpool(accounts.begin_session, db, who.token_id, sessions.LIFETIME))
    return see("/submit")


@router.post("/logout")
async def logout(request: Request) -> Response:
    """Sign out."""
    await _small_form(request)
    await run_in_threadpool(accounts.end_session, request.app.state.db, sessions.number(request))
    sessions.end(request)
    return see("/")


@router.get("/submit")
def submit_page(request: Request) -> Response:
    """The form for predictions and card."""
    db: Database = request.app.state.db
    with db.read() as session:
        who = signed_in(request, session)
    return _submit(request, who) if who else see("/login")


@router.post("/submit")
async def submit(request: Request, form_token: str = "") -> Response:
    """Receive predictions and card.

    Sender and origin are checked before the first byte of the file is read, which is why the token of the form is in
    the address.
    """
    settings: Settings = request.app.state.settings
    db: Database = request.app.state.db
    sessions.check_form(request, form_token)
    who = await run_in_threadpool(_who, request)
    forms: Forms = request.app.state.forms
    try:
        size = await run_in_threadpool(_check_form, db, settings, who, request.headers.get("content-length", ""))
        with forms.arriving(settings, who.team_id, size):
            async with request.form(max_files=2, max_fields=4) as form:
                card = _text(form, "card")
                try:
                    submission_id = await run_in_threadpool(_accept, db, settings, who, form)
                except RequestError as error:
                    return _submit(request, who, error, card[:MAX_CARD_BYTES])
    except RequestError as error:
        return _submit(request, who, error)
    return see(f"/submissions/{submission_id}")


@router.get("/mine")
def mine(request: Request) -> Response:
    """All submissions of a team, in any state, and its tokens."""
    return _mine(request)


@router.post("/tokens")
async def issue(request: Request) -> Response:
    """Issue a token to a team that signed in without one; the answer is the only page that shows it."""
    form = await _small_form(request)
    who = await run_in_threadpool(_who, request)
    text = _text(form, "days")
    days = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    try:
        token = await run_in_threadpool(accounts.issue_own, request.app.state.db, who, days)
    except RequestError as error:
        return await run_in_threadpool(_mine, request, "", error)
    return await run_in_threadpool(_mine, request, token)


def _mine(request: Request, issued: str = "", error: RequestError | None = None) -> Response:
    db: Database = request.app.state.db
    with db.read() as session:
        who = signed_in(request, session)
        if who is None:
            return see("/login")
        query = select(Submission).where(Submission.team_id == who.team_id).order_by(Submission.created_at.desc())
        submissions = session.scalars(query.limit(LISTED)).unique().all()
        tokens = session.scalars(select(Token).where(Token.team_id == who.team_id).order_by(Token.created_at)).all()
        issues = accounts.issues_tokens(session, who)
        undoable = {submission.id for submission in submissions if standing.undoable(submission)}
        superseded = {one.id for one in submissions if standing.successor_of(session, one)}
        successors = {
            old.id: [new for new in submissions if standing.supersedable(session, old, new)] for old in submissions
        }
    return _with_session(
        request,
        "mine.html",
        status=error.status if error else 200,
        error=error,
        who=who,
        submissions=submissions,
        undoable=undoable,
        superseded=superseded,
        successors=successors,
        tokens=tokens,
        now=now(),
        issued=issued,
        most_days=accounts.MOST_DAYS if issues else 0,
        address=request.app.state.settings.public_url,
    )


@router.post("/submissions/{submission_id}/undo")
async def undo(submission_id: str, request: Request) -> Response:
    """Undo a withdrawal."""
    await _small_form(request)
    who = await run_in_threadpool(_who, request)
    await run_in_threadpool(standing.undo, request.app.state.db, request.app.state.settings, who, submission_id)
    return see("/mine")


@router.post("/submissions/{submission_id}/supersede")
async def supersede(submission_id: str, request: Request) -> Response:
    """Mark a submission as replaced by a newer one."""
    form = await _small_form(request)
    who = await run_in_threadpool(_who, request)
    db, settings = request.app.state.db, request.app.state.settings
    await run_in_threadpool(standing.supersede, db, settings, who, submission_id, _text(form, "by"))
    return see("/mine")


@router.post("/tokens/{token_id}/revoke")
async def revoke(token_id: str, request: Request) -> Response:
    """Revoke a token of the team; one used to sign in ends its sessions."""
    await _small_form(request)
    who = await run_in_threadpool(_who, request)
    await run_in_threadpool(accounts.revoke_own, request.app.state.db, who, token_id)
    return see("/mine")


@router.get("/admin")
def admin(request: Request) -> Response:
    """For tokens of scope admin: damaged files of the ledger, the queue, banned teams."""
    db: Database = request.app.state.db
    with db.read() as session:
        who = signed_in(request, session)
        if who is None:
            return see("/login")
        if not who.admin:
            raise RequestError(403, "This needs a token of scope admin.", "Ask the operator of the board.")
        waiting = select(Submission).where(Submission.status.in_(("queued", "scoring"))).order_by(Submission.created_at)
        queue = session.scalars(waiting.limit(LISTED)).unique().all()
        banned = session.scalars(select(Team).where(Team.banned_at.is_not(None)).order_by(Team.name)).all()
        log = session.scalars(select(Audit).order_by(Audit.id.desc()).limit(50)).all()
    check: LedgerCheck = request.app.state.check
    settings: Settings = request.app.state.settings
    checked, running = check.look()
    values = {"checked": checked, "running": running, "queue": queue, "banned": banned, "log": log}
    return private(html("admin.html", settings, **values))


@router.post("/submissions/{submission_id}/withdraw")
async def withdraw(submission_id: str, request: Request) -> Response:
    """Withdraw a submission from the list of its team."""
    await _small_form(request)
    who = await run_in_threadpool(_who, request)
    await run_in_threadpool(standing.withdraw, request.app.state.db, request.app.state.settings, who, submission_id)
    return see("/mine")


def _check_form(db: Database, settings: Settings, who: Identity, length: str) -> int:
    """Refuse a form that cannot succeed before its file is read into a temporary file; its size in bytes."""
    if not (length.isascii() and length.isdigit()):
        raise RequestError(411, "The form does not state its length.", "Use a browser, or lulcbench submit.")
    if int(length) > settings.max_form_bytes:
        raise RequestError(
            413, f"The form takes files up to {settings.max_form_bytes:,} bytes.", "Use lulcbench submit."
        )
    with db.read() as session:
        accounts.check_limit(session, who, settings.daily_submissions)
    return int(length)


def _accept(db: Database, settings: Settings, who: Identity, form: FormData) -> str:
    """Process the file of a form like an upload through the API."""
    predictions, text = form.get("predictions"), _text(form, "card")
    card_file = form.get("card_file")
    if isinstance(card_file, UploadFile) and card_file.size:
        text = card_file.file.read(MAX_CARD_BYTES + 1).decode(errors="replace")
    if not isinstance(predictions, UploadFile) or not predictions.size:
        raise RequestError(422, "No predictions file was chosen.", "Choose the .zip that PredictionWriter wrote.")
    card = check_card(_toml(text), settings)
    name = PurePosixPath((predictions.filename or "").replace("\\", "/")).name[:200] or "predictions.zip"
    sha256 = hashlib.file_digest(predictions.file, "sha256").hexdigest()  # type: ignore[arg-type]
    upload = uploads.begin(db, settings, who, name, predictions.size, sha256, card)
    predictions.file.seek(0)
    try:
        with uploads.writing(settings, upload, 0) as descriptor:
            _copy(settings, predictions.file, descriptor)
    except OSError:
        uploads.forget(db, settings, who.actor, upload)  # a form cannot continue
        raise
    return uploads.complete(db, settings, who, upload)


def _copy(settings: Settings, file: BinaryIO, descriptor: int) -> None:
    while piece := file.read(2**20):
        uploads.write_piece(settings, descriptor, piece)


def _toml(text: str) -> dict[str, Any]:
    try:
        return parse_toml(text, "The model card", "Start from the example below the form.", MAX_CARD_BYTES)
    except LulcbenchError as error:
        raise RequestError(422, error.what, error.remedy) from error


async def _small_form(request: Request) -> FormData:
    """A form without files, once its token is checked."""
    form = await request.form(max_files=0, max_fields=4)
    sessions.check_form(request, _text(form, "form_token"))
    return form


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def _identify(db: Database, token: str) -> Identity:
    with db.read() as session:
        return accounts.identify(session, token)


def _who(request: Request) -> Identity:
    with request.app.state.db.read() as session:
        who = signed_in(request, session)
    if who is None:
        raise RequestError(401, "You are not signed in, or your token was revoked.", "Sign in again at /login.")
    return who


def _login(request: Request, error: RequestError | None = None) -> Response:
    external = bool(request.app.state.settings.huggingface_client_id)
    return _with_session(request, "login.html", status=error.status if error else 200, error=error, external=external)


def _submit(request: Request, who: Identity, error: RequestError | None = None, card: str = "") -> Response:
    settings: Settings = request.app.state.settings
    return _with_session(
        request,
        "submit.html",
        status=error.status if error else 200,
        error=error,
        who=who,
        card=card,
        example=CARD_EXAMPLE,
        largest=min(uploads.largest_file(settings), settings.max_form_bytes),
    )


def _with_session(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page with a form that contains the form token of its session."""
    settings: Settings = request.app.state.settings
    return private(html(template, settings, form_token=sessions.form_token(request), **values), status)
