"""The JSON API, version 1."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select
from starlette.requests import ClientDisconnect

from leaderboard.errors import RequestError, not_found
from leaderboard.ranking import paired
from leaderboard.ranking.choice import Choice
from leaderboard.ranking.table import Snapshot, to_csv
from leaderboard.settings import Settings
from leaderboard.store import accounts, standing, uploads
from leaderboard.store.accounts import Identity
from leaderboard.store.db import Audit, Database, Submission
from leaderboard.web.board import Board
from leaderboard.web.bodies import (
    Accepted,
    AuditLine,
    ErrorBody,
    ErrorText,
    Offset,
    SubmissionState,
    SupersedeRequest,
    TierRequest,
    UploadRequest,
    UploadState,
)
from leaderboard.web.cards import check_card
from leaderboard.web.entries import Entries
from leaderboard.web.pages import compared_page
from leaderboard.web.render import Page
from leaderboard.web.views import check_ids, compared, read_record

PIECE_BYTES = 2**20


bearer = HTTPBearer(auto_error=False, description="A token from 'python -m leaderboard token create TEAM'.")


def get_settings(request: Request) -> Settings:
    """The service's settings."""
    settings: Settings = request.app.state.settings
    return settings


def get_db(request: Request) -> Database:
    """The service's database."""
    db: Database = request.app.state.db
    return db


def get_board(request: Request) -> Board:
    """The cached board."""
    board: Board = request.app.state.board
    return board


Setting = Annotated[Settings, Depends(get_settings)]
Db = Annotated[Database, Depends(get_db)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def maybe_identity(db: Db, credentials: Bearer) -> Identity | None:
    """The identity of the client, or None without a token; an invalid token is an error."""
    if credentials is None:
        return None
    with db.read() as session:
        who = accounts.identify(session, credentials.credentials)
    accounts.note_use(db, who.token_id)
    return who


def identity(who: Annotated[Identity | None, Depends(maybe_identity)]) -> Identity:
    """The identity of the client; a token is required."""
    if who is None:
        raise RequestError(
            401, "A token is needed.", "Send 'Authorization: Bearer TOKEN'.", {"WWW-Authenticate": "Bearer"}
        )
    return who


Who = Annotated[Identity, Depends(identity)]


def administrator(who: Who) -> Identity:
    """The identity of the client; the scope ``admin`` is required."""
    if not who.admin:
        raise RequestError(403, "This needs a token of scope admin.", "Ask the operator of the board.")
    return who


Admin = Annotated[Identity, Depends(administrator)]
UploadId = Annotated[str, PathParameter(description="Id of an upload of your team.")]
SubmissionId = Annotated[str, PathParameter(description="Id of a submission, 20 hexadecimal digits.")]
Format = Annotated[Literal["json", "csv"], Query(description="Form of the answer.")]
MaybeWho = Annotated[Identity | None, Depends(maybe_identity)]
router = APIRouter(
    prefix="/api/v1",
    responses={status: {"model": ErrorBody} for status in (401, 403, 404, 408, 409, 413, 422, 429, 503, 507)},
)


@router.post("/uploads", status_code=201, tags=["submit"])
def begin_upload(body: UploadRequest, who: Who, db: Db, settings: Setting) -> UploadState:
    """Begin an upload. Counts against the team's daily limit."""
    card = check_card(body.card, settings)
    upload = uploads.begin(db, settings, who, body.filename, body.size, body.sha256, card)
    return UploadState(upload_id=upload.id, chunk_size=settings.chunk_bytes, offset=0, size=upload.size)


@router.put("/uploads/{upload_id}", tags=["submit"])
async def continue_upload(
    upload_id: UploadId,
    offset: Annotated[int, Query(ge=0, description="Bytes that have arrived.")],
    request: Request,
    who: Who,
    db: Db,
    settings: Setting,
) -> Offset:
    """Append the raw request body at ``offset``, which must be the offset of the upload (the 409 error gives it)."""
    upload = await run_in_threadpool(_find, db, who, upload_id)
    with uploads.writing(settings, upload, offset) as descriptor, contextlib.suppress(ClientDisconnect):
        piece = bytearray()
        at = offset
        try:
            async for data in request.stream():
                at += len(data)
                if at > upload.size:
                    raise RequestError(413, f"More than the {upload.size:,} bytes announced.", "Begin a new upload.")
                piece += data
                if len(piece) >= PIECE_BYTES:
                    await run_in_threadpool(uploads.write_piece, settings, descriptor, bytes(piece))
                    piece.clear()
        finally:
            # Also when the connection is lost, so that bytes that have arrived need not be sent again.
            await asyncio.shield(run_in_threadpool(uploads.write_piece, settings, descriptor, bytes(piece)))
    return Offset(offset=at)


@router.get("/uploads/{upload_id}", tags=["submit"])
def show_upload(upload_id: UploadId, who: Who, db: Db, settings: Setting) -> UploadState:
    """The state of an upload, to resume it."""
    upload = _find(db, who, upload_id)
    return UploadState(
        upload_id=upload.id,
        chunk_size=settings.chunk_bytes,
        offset=uploads.offset(settings, upload),
        size=upload.size,
        submission_id=upload.submission_id if upload.completed_at else None,
    )


@router.post("/uploads/{upload_id}/complete", status_code=202, tags=["submit"])
def complete_upload(upload_id: UploadId, who: Who, db: Db, settings: Setting) -> Accepted:
    """Check the SHA-256 and queue the submission. Repeating the request gives the same response."""
    submission_id = uploads.complete(db, settings, who, _find(db, who, upload_id))
    return Accepted(submission_id=submission_id, url=page_url(settings, submission_id))


@router.get("/submissions/{submission_id}", tags=["read"], response_model=SubmissionState)
async def show_submission(
    submission_id: SubmissionId, request: Request, who: MaybeWho, db: Db, settings: Setting
) -> Response:
    """A submission. Only its own team sees it before it is scored, or if it was refused."""
    entries: Entries = request.app.state.entries

    def find() -> tuple[Submission, str | None]:
        with db.read() as session:
            submission = standing.visible(session, submission_id, who)
            return submission, standing.successor_of(session, submission)

    def make() -> Page:
        state = _state(db, settings, submission)
        if state.error:  # it is not kept, since it may be repaired elsewhere than in the file
            raise _NotKept(state)
        return Page.of(state.model_dump_json(), compress=False)

    submission, newer = await run_in_threadpool(find)
    if submission.status != "scored" or submission.result is None:
        state = await run_in_threadpool(_state, db, settings, submission)
        return Response(state.model_dump_json(), media_type="application/json")
    try:
        page = await entries.page("state", submission.result, (submission.tier, newer), make)
    except _NotKept as error:
        return Response(error.state.model_dump_json(), media_type="application/json")
    return Response(page.plain, media_type="application/json")


@router.post("/submissions/{submission_id}/withdraw", tags=["submit"])
def withdraw(submission_id: SubmissionId, who: Who, db: Db, settings: Setting) -> SubmissionState:
    """Take a submission off the board, or out of the queue. The ledger keeps the result and the withdrawal."""
    return _state(db, settings, standing.withdraw(db, settings, who, submission_id))


@router.post("/submissions/{submission_id}/undo", tags=["submit"])
def undo(submission_id: SubmissionId, who: Who, db: Db, settings: Setting) -> SubmissionState:
    """Undo a withdrawal of the last day, at most three times for a submission."""
    return _state(db, settings, standing.undo(db, settings, who, submission_id))


@router.post("/submissions/{submission_id}/supersede", tags=["submit"])
def supersede(
    submission_id: SubmissionId, body: SupersedeRequest, who: Who, db: Db, settings: Setting
) -> SubmissionState:
    """Mark a submission as replaced by a newer one of the same team, release, task, years and split."""
    return _state(db, settings, standing.supersede(db, settings, who, submission_id, body.by))


@router.post("/submissions/{submission_id}/tier", tags=["operate"])
def change_tier(
    submission_id: SubmissionId, body: TierRequest, who: Admin, db: Db, settings: Setting
) -> SubmissionState:
    """Set the trust tier of a result, for example after its weights gave the same scores."""
    submission = standing.set_tier(db, settings, who.actor, submission_id, body.tier, body.evidence)
    return _state(db, settings, submission)


@router.get("/audit", tags=["operate"])
def show_audit(
    who: Admin, db: Db, last: Annotated[int, Query(ge=1, le=1000, description="Number of lines.")] = 100
) -> list[AuditLine]:
    """The audit log (actor, action, subject), newest first."""
    with db.read() as session:
        lines = session.scalars(select(Audit).order_by(Audit.id.desc()).limit(last)).all()
    return [AuditLine.model_validate(line) for line in lines]


@router.get("/leaderboard", tags=["read"])
def show_leaderboard(request: Request, choice: Annotated[Choice, Query()], format: Format = "json") -> Response:
    """The complete table, filtered and sorted like the page."""
    board = get_board(request)
    choice = board.current().without_idle_filters(choice.model_copy(update={"page": 1}))

    def make(snapshot: Snapshot) -> Page:
        rows = snapshot.select(choice)
        text = to_csv(rows, choice.level) if format == "csv" else json.dumps(snapshot.to_json(choice, rows))
        return Page.of(text, compress=False)

    page = board.page(f"/api/leaderboard?{format}&{choice.key}", make)
    return _download(page, format, f"leaderboard-{board.current().resolve(choice).stem}.csv")


@router.get("/compare", tags=["read"])
async def show_comparison(
    request: Request,
    settings: Setting,
    id: Annotated[list[str], Query(description="Submissions; the others are tested against the first.")],
    level: Annotated[int, Query(ge=1, le=4, description="Level of the legend.")] = 4,
    format: Format = "json",
) -> Response:
    """Paired tests over spatial blocks: difference from the first, 95 % interval, p-value of a permutation test."""
    ids = check_ids(id, level)

    def make(snapshot: Snapshot) -> Page:
        _, entries = compared(settings, snapshot, ids, level)
        tests = paired.paired_tests(entries, level)
        text = (
            paired.to_csv(entries, level, tests)
            if format == "csv"
            else json.dumps(paired.to_json(entries, level, tests))
        )
        return Page.of(text, compress=False)

    key = f"/api/compare?{urlencode({'id': ids, 'level': level, 'format': format}, doseq=True)}"
    page = await compared_page(request, key, make)
    return _download(page, format, "comparison.csv")


class _NotKept(Exception):
    """Carries a state with an error."""

    def __init__(self, state: SubmissionState) -> None:
        super().__init__(state.submission_id)
        self.state = state


def page_url(settings: Settings, submission_id: str) -> str:
    """Permalink of a submission."""
    return f"{settings.public_url.rstrip('/')}/submissions/{submission_id}"


def disk_error(error: OSError) -> RequestError | None:
    """The error for a full disk; None for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RequestError(507, "The server has no space left.", "Resume the upload later; what arrived is kept.")
    return None


def _download(page: Page, format: str, name: str) -> Response:
    if format == "csv":
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(page.plain, media_type="text/csv; charset=utf-8", headers=headers)
    return Response(page.plain, media_type="application/json")


def _find(db: Database, who: Identity, upload_id: str) -> Any:
    with db.read() as session:
        return uploads.find(session, who, upload_id)


def _state(db: Database, settings: Settings, submission: Submission) -> SubmissionState:
    with db.read() as session:
        superseded_by = standing.successor_of(session, submission)
    scores = None
    error = ErrorText(what=submission.what, remedy=submission.remedy or "") if submission.what else None
    if submission.status == "scored":
        if submission.result is None:
            raise not_found()
        try:
            scores = read_record(settings, submission.result.ledger_path).scores
        except RequestError as unreadable:
            error = ErrorText(what=unreadable.what, remedy=unreadable.remedy)
    return SubmissionState.model_validate(
        {
            "submission_id": submission.id,
            "status": submission.status,
            "tier": submission.tier,
            "error": error,
            "scores": scores,
            "superseded_by": superseded_by,
            "url": page_url(settings, submission.id),
        }
    )
