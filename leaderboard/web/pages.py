"""Addresses of the public pages, which need neither JavaScript nor an account; ``views`` has what they show."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from leaderboard.errors import RequestError, not_found
from leaderboard.ranking.choice import Choice
from leaderboard.ranking.table import Snapshot
from leaderboard.settings import Settings
from leaderboard.store import accounts, chain, standing, uploads
from leaderboard.store.accounts import Identity
from leaderboard.store.db import Database, Result, Submission
from leaderboard.web import sessions
from leaderboard.web.board import Board
from leaderboard.web.entries import Entries
from leaderboard.web.limits import Turns
from leaderboard.web.render import Page, html
from leaderboard.web.views import (
    check_ids,
    compare_html,
    confusion_csv,
    feed_xml,
    history_html,
    parts_html,
    read_record,
    read_scores,
    submission_html,
    table_html,
)
from lulcbench.evaluation.metrics import METRICS, RANKING

LISTED_FILES = 500
MAX_PART = 100  # characters
_PICTURE = re.compile(r"(best|median|worst)-(image|label|prediction|errors)\.png")

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index(request: Request) -> Response:
    """The table. Most readers get a cached page."""
    board: Board = request.app.state.board
    settings: Settings = request.app.state.settings
    choice = read_choice(request)
    key = f"/?{choice.key}"
    page = board.peek(key)
    if page is None:
        page = await run_in_threadpool(
            board.page, key, lambda snapshot: Page.of(table_html(settings, snapshot, choice))
        )
    return page.response(request)


@router.get("/submissions/{submission_id}")
async def submission(submission_id: str, request: Request) -> Response:
    """The page of a submission; before it is scored, visible only to its signed-in team."""
    settings: Settings = request.app.state.settings
    db: Database = request.app.state.db
    entries: Entries = request.app.state.entries

    def find() -> tuple[Submission, str | None, Identity | None]:
        with db.read() as session:
            who = signed_in(request, session)
            submission = standing.visible(session, submission_id, who)
            return submission, standing.successor_of(session, submission), who

    submission, newer, who = await run_in_threadpool(find)
    if submission.status != "scored" or submission.result is None:
        return private(html("pending.html", settings, submission=submission, own=_own(submission, who)))
    state = (submission.tier, newer, (settings.media / submission.id).is_dir())
    page = await entries.page(
        "page", submission.result, state, lambda: Page.of(submission_html(settings, submission, newer))
    )
    return page.response(request)


@router.get("/submissions/{submission_id}/ledger.json")
async def download(submission_id: str, request: Request) -> Response:
    """The ledger file of a submission, byte for byte."""
    result = await run_in_threadpool(_scored, request, submission_id)
    settings: Settings = request.app.state.settings
    entries: Entries = request.app.state.entries

    def check() -> Page:
        read_record(settings, result.ledger_path)
        return Page.of("", compress=False)

    await entries.page("ledger", result, None, check)
    return FileResponse(settings.ledger / result.ledger_path, filename=f"{result.submission_id}.json")


@router.get("/submissions/{submission_id}/confusion-{level}.csv")
async def confusion(submission_id: str, level: int, request: Request) -> Response:
    """The confusion matrix of a submission at a level."""
    if not 1 <= level <= 4:
        raise not_found("There is no such level.")
    result = await run_in_threadpool(_scored, request, submission_id)
    settings: Settings = request.app.state.settings
    entries: Entries = request.app.state.entries

    def make() -> Page:
        scores = read_scores(read_record(settings, result.ledger_path))
        found = scores.levels.get(level)
        return Page.of("" if found is None else confusion_csv(found), compress=False)

    page = await entries.page(f"confusion {level}", result, None, make)
    if not page.plain:
        raise not_found("There is no such level.")
    name = f"{result.submission_id}-confusion-{level}.csv"
    return Response(
        page.plain,
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get("/media/{submission_id}/{name}")
def picture(submission_id: str, name: str, request: Request) -> Response:
    """An image of a sample tile."""
    settings: Settings = request.app.state.settings
    if not _PICTURE.fullmatch(name):
        raise not_found("There is no such image.")
    path = settings.media / _scored(request, submission_id).submission_id / name
    if not path.is_file():
        raise not_found("There is no such image.")
    return FileResponse(path, media_type="image/png", headers={"Cache-Control": "max-age=86400"})


@router.get("/compare")
async def compare(request: Request, id: Annotated[list[str], Query(default_factory=list)], level: int = 4) -> Response:
    """Two or more submissions side by side."""
    settings: Settings = request.app.state.settings
    ids = check_ids(id, level)
    key = f"/compare?{urlencode({'id': ids, 'level': level}, doseq=True)}"
    page = await compared_page(request, key, lambda snapshot: Page.of(compare_html(settings, snapshot, ids, level)))
    return page.response(request)


async def compared_page(request: Request, key: str, make: Callable[[Snapshot], Page]) -> Page:
    """A cached page of a comparison, or one made when it is its turn.

    Raises:
        RequestError: 503, too many others are waiting.
    """
    board: Board = request.app.state.board
    turns: Turns = request.app.state.comparisons
    page = board.peek(key)
    return page if page is not None else await turns.run(lambda: board.page(key, make))


@router.get("/teams")
def team(request: Request, name: Annotated[str, Query(max_length=64)] = "") -> Response:
    """All results of a team."""
    board: Board = request.app.state.board
    settings: Settings = request.app.state.settings

    def make(snapshot: Snapshot) -> Page:
        rows = sorted((row for row in snapshot.rows if row.team == name), key=lambda row: row.submitted, reverse=True)
        if not rows:
            raise not_found("There is no result of such a team.")
        return Page.of(html("team.html", settings, name=name, rows=rows, metric=METRICS[RANKING]))

    return board.page(f"/teams?{urlencode({'name': name})}", make).response(request)


@router.get("/feed.atom")
def feed(request: Request) -> Response:
    """The newest results as an Atom feed (RFC 4287)."""
    board: Board = request.app.state.board
    settings: Settings = request.app.state.settings
    page = board.page("/feed.atom", lambda snapshot: Page.of(feed_xml(settings, snapshot)))
    response = page.response(request)
    response.headers["Content-Type"] = "application/atom+xml; charset=utf-8"
    return response


@router.get("/ledger")
def show_ledger(request: Request) -> Response:
    """The files of the ledger, newest first, with the head of the chain."""
    settings: Settings = request.app.state.settings
    sealed = chain.load(settings.ledger)
    files = list(zip(sealed.digests.items(), sealed.heads, strict=True))[::-1]
    text = html("ledger.html", settings, files=files[:LISTED_FILES], total=len(files), head=sealed.head)
    return Page.of(text).response(request)


@router.get("/ledger/chain.log")
def download_chain(request: Request) -> Response:
    """The chain of the ledger, byte for byte."""
    path = request.app.state.settings.ledger / chain.NAME
    if not path.is_file():
        raise not_found("The ledger is empty.")
    return FileResponse(path, media_type="text/plain")


@router.get("/history")
def history(request: Request) -> Response:
    """History of the best score of a table."""
    board: Board = request.app.state.board
    settings: Settings = request.app.state.settings
    choice = read_choice(request).model_copy(update={"page": 1})
    key = f"/history?{choice.key}"
    return board.page(key, lambda snapshot: Page.of(history_html(settings, snapshot, choice))).response(request)


@router.get("/parts")
def by_part(request: Request) -> Response:
    """The table by class, region and label edge."""
    board: Board = request.app.state.board
    settings: Settings = request.app.state.settings
    part = request.query_params.get("part", "")[:MAX_PART]
    choice = read_choice(request)
    key = f"/parts?{choice.key}&part={part}"
    return board.page(key, lambda snapshot: Page.of(parts_html(settings, snapshot, choice, part))).response(request)


@router.get("/policy")
def policy(request: Request) -> Response:
    """Terms, moderation, privacy."""
    return Page.of(html("policy.html", request.app.state.settings)).response(request)


@router.get("/about")
def about(request: Request) -> Response:
    """How to read the board."""
    settings: Settings = request.app.state.settings
    return Page.of(html("about.html", settings, largest=uploads.largest_file(settings))).response(request)


@router.get("/docs")
def interface(request: Request) -> Response:
    """Documentation of the API, rendered from its OpenAPI description."""
    settings: Settings = request.app.state.settings
    address = settings.public_url.rstrip("/")
    return Page.of(html("api.html", settings, schema=request.app.openapi(), address=address)).response(request)


def read_choice(request: Request) -> Choice:
    """Read the choice from the query string.

    Raises:
        RequestError: 422, with the invalid field.
    """
    try:
        return Choice.model_validate(dict(request.query_params))
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(
            422,
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}.",
            "Correct the address, or begin with the whole board.",
        ) from error


def error_page(request: Request, error: RequestError) -> Response:
    """An error as a page."""
    text = html("error.html", request.app.state.settings, error=error)
    return HTMLResponse(text, status_code=error.status, headers=error.headers | {"Cache-Control": "no-store"})


def private(text: str, status: int = 200) -> HTMLResponse:
    """A page for one reader, which must not be cached."""
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


def see(url: str) -> RedirectResponse:
    """Redirect after a form, always to an address of this service."""
    return RedirectResponse(url, status_code=303)


def signed_in(request: Request, session: Session) -> Identity | None:
    """The identity of a signed-in browser; None if it is not signed in, or its token has been revoked since."""
    number = sessions.number(request)
    return accounts.identify_session(session, number, sessions.LIFETIME) if number else None


def _own(submission: Submission, who: Identity | None) -> bool:
    return who is not None and (who.admin or who.team_id == submission.team_id)


def _scored(request: Request, submission_id: str) -> Result:
    """The result of a submission that is on the board."""
    db: Database = request.app.state.db
    with db.read() as session:
        submission = session.get(Submission, submission_id) if standing.SUBMISSION_ID.fullmatch(submission_id) else None
        if submission is None or submission.status != "scored" or submission.result is None:
            raise not_found()
        return submission.result
