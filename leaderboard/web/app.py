"""The web application: API, pages, errors."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect

from leaderboard.errors import RequestError
from leaderboard.settings import Settings
from leaderboard.store import records
from leaderboard.store.db import Database
from leaderboard.web import api, forms, oauth, operation, pages, sessions
from leaderboard.web.board import Board
from leaderboard.web.check import LedgerCheck
from leaderboard.web.entries import Entries
from leaderboard.web.guard import Guard
from leaderboard.web.limits import Forms, Turns

log = logging.getLogger(__name__)
WEB = Path(__file__).parent

DESCRIPTION = """\
Submissions to this leaderboard. LUISA labels are public, so no result here is a hidden-test result: every
submission discloses its training data and has a trust tier.

Errors are `{"what": …, "remedy": …}`. `lulcbench submit` is a client of this API.
"""


def create_app(settings: Settings) -> FastAPI:
    """Create the application and update its database.

    Args:
        settings: see ``Settings``.
    """
    settings.prepare()
    db = Database(settings.url)
    records.prepare(db, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        db.close()

    app = FastAPI(
        title=settings.title,
        version="1",
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # the interactive pages load scripts from other sites; /docs shows the same without them
        redoc_url=None,
        redirect_slashes=False,  # such a redirect would name the Host header of the request
    )
    app.state.settings = settings
    app.state.db = db
    app.state.board = Board(db, settings)
    app.state.forms = Forms()
    app.state.comparisons = Turns("comparisons")
    app.state.entries = Entries(settings)
    app.state.check = LedgerCheck(db, settings)
    app.include_router(api.router)
    app.include_router(pages.router)
    app.include_router(forms.router)
    app.include_router(oauth.router)
    app.include_router(operation.router)
    app.mount("/static", StaticFiles(directory=WEB / "static"), name="static")
    app.add_middleware(SessionMiddleware, **sessions.middleware_options(settings))
    app.state.numbers = operation.Numbers(db, settings)
    app.add_middleware(Guard, settings=settings, requests=app.state.numbers.requests)  # the outermost
    app.add_exception_handler(Exception, _unexpected)
    app.add_exception_handler(ClientDisconnect, _client_left)
    for error_type in (RequestError, RequestValidationError, HTTPException, OperationalError, OSError):
        app.add_exception_handler(error_type, _explain)
    return app


async def _explain(request: Request, error: Exception) -> Response:
    """An expected error as JSON or as a page."""
    request_error = _as_request_error(error)
    if request_error is None:
        raise error
    if request.url.path.startswith("/api/"):
        content = {"what": request_error.what, "remedy": request_error.remedy}
        return JSONResponse(content, status_code=request_error.status, headers=request_error.headers)
    return pages.error_page(request, request_error)


def _as_request_error(error: Exception) -> RequestError | None:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("query", "body", "path"))
        return RequestError(422, f"{where or 'The request'}: {first['msg']}.", "See /docs for what is expected.")
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return RequestError(404, "There is no such page.", "The board is at /.")
        return RequestError(error.status_code, str(error.detail), "See /docs.", dict(error.headers or {}))
    if isinstance(error, OperationalError):
        log.warning("database: %s", error.orig)
        return RequestError(503, "The database is temporarily unavailable.", "Try again.", {"Retry-After": "2"})
    return api.disk_error(error) if isinstance(error, OSError) else None


async def _client_left(_request: Request, _error: Exception) -> Response:
    """The client left before its request was complete, so this response is not read."""
    return Response(status_code=400)


async def _unexpected(request: Request, error: Exception) -> Response:
    """A bug: the server logs the traceback, and the client gets no details."""
    request_error = RequestError(
        500, "Something went wrong on our side.", "Try again; if the error persists, tell the operator."
    )
    if request.url.path.startswith("/api/"):
        return JSONResponse({"what": request_error.what, "remedy": request_error.remedy}, status_code=500)
    return pages.error_page(request, request_error)
