"""The public pages; they need neither JavaScript nor an account."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session

from leaderboard.errors import RequestError, not_found
from leaderboard.ranking.paired import paired_tests
from leaderboard.ranking.table import PAGE_ROWS, Choice, Row, Snapshot, sort_value
from leaderboard.settings import Settings
from leaderboard.store import accounts, chain, ledger, standing, uploads
from leaderboard.store.accounts import Identity
from leaderboard.store.db import Database, Submission
from leaderboard.web import sessions
from leaderboard.web.board import Board
from leaderboard.web.limits import Turns
from leaderboard.web.render import Page, html
from lulcbench.errors import UnsupportedFormatError
from lulcbench.evaluation.metrics import METRICS, RANKING
from lulcbench.evaluation.scores import LevelScores, Scores

log = logging.getLogger(__name__)
MAX_COMPARED = 6
LISTED_FILES = 500
FEED_ROWS = 50
_PICTURE = re.compile(r"(best|median|worst)-(image|label|prediction)\.png")

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index(request: Request) -> Response:
    """The table. Most readers get a cached page."""
    board: Board = request.app.state.board
    choice = read_choice(request)
    key = f"/?{choice.key}"
    page = board.peek(key)
    if page is None:
        page = await run_in_threadpool(board.page, key, lambda snapshot: Page.of(table_html(snapshot, choice)))
    return page.response(request)


@router.get("/submissions/{submission_id}")
def submission(submission_id: str, request: Request) -> Response:
    """The page of a submission; before it is scored, visible only to its signed-in team."""
    settings: Settings = request.app.state.settings
    db: Database = request.app.state.db
    with db.read() as session:
        who = signed_in(request, session)
        submission = standing.visible(session, submission_id, who)
    if submission.status != "scored":
        result = submission.result
        event = result and ledger.withdrawal(settings.ledger, result.release_key, submission.id)
        return private(html("pending.html", submission=submission, event=event, own=_own(submission, who)))
    page = Page.of(submission_html(settings, submission))
    return page.response(request)


@router.get("/submissions/{submission_id}/ledger.json")
def download(submission_id: str, request: Request) -> Response:
    """The ledger file of a submission, byte for byte."""
    submission = _scored(request, submission_id)
    settings: Settings = request.app.state.settings
    path = submission.result.ledger_path  # type: ignore[union-attr]
    read_record(settings, path)
    return FileResponse(settings.ledger / path, filename=f"{submission.id}.json")


@router.get("/media/{submission_id}/{name}")
def picture(submission_id: str, name: str, request: Request) -> Response:
    """An image of a sample tile."""
    settings: Settings = request.app.state.settings
    if not _PICTURE.fullmatch(name):
        raise not_found("There is no such image.")
    path = settings.media / _scored(request, submission_id).id / name
    if not path.is_file():
        raise not_found("There is no such image.")
    return FileResponse(path, media_type="image/png", headers={"Cache-Control": "max-age=86400"})


@router.get("/compare")
async def compare(request: Request, id: Annotated[list[str], Query()] = [], level: int = 4) -> Response:  # noqa: B006
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

    def make(snapshot: Snapshot) -> Page:
        rows = sorted((row for row in snapshot.rows if row.team == name), key=lambda row: row.submitted, reverse=True)
        if not rows:
            raise not_found("There is no result of such a team.")
        return Page.of(html("team.html", name=name, rows=rows, metric=METRICS[RANKING]))

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


def feed_xml(settings: Settings, snapshot: Snapshot) -> str:
    """The feed, newest first."""
    newest = sorted(snapshot.rows, key=lambda row: row.submitted, reverse=True)[:FEED_ROWS]
    base = settings.public_url.rstrip("/")
    return html("feed.xml", rows=newest, base=base, metric=METRICS[RANKING])


@router.get("/ledger")
def show_ledger(request: Request) -> Response:
    """The files of the ledger, newest first, with the head of the chain."""
    settings: Settings = request.app.state.settings
    sealed = chain.load(settings.ledger)
    files = list(zip(sealed.digests.items(), sealed.heads, strict=True))[::-1]
    return Page.of(html("ledger.html", files=files[:LISTED_FILES], total=len(files), head=sealed.head)).response(
        request
    )


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
    choice = read_choice(request).model_copy(update={"page": 1})
    key = f"/history?{choice.key}"
    return board.page(key, lambda snapshot: Page.of(history_html(snapshot, choice))).response(request)


@router.get("/about")
def about(request: Request) -> Response:
    """How to read the board."""
    settings: Settings = request.app.state.settings
    return Page.of(html("about.html", settings=settings, largest=uploads.largest_file(settings))).response(request)


@router.get("/docs")
def interface(request: Request) -> Response:
    """Documentation of the API, rendered from its OpenAPI description."""
    return Page.of(html("api.html", schema=request.app.openapi())).response(request)


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
            422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.", "Correct it, or clear all."
        ) from error


def table_html(
    snapshot: Snapshot,
    choice: Choice,
    root: str = "/",
    static: bool = False,
    downloads: Mapping[str, str] = MappingProxyType({}),
    levels: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """The page of a table.

    Args:
        snapshot: the board.
        choice: filters and order.
        root: prefix of links.
        static: leave out links that need the service (filters, other pages of the table).
        downloads: label → file, additional links of a static page.
        levels: level → file, the other levels of a static page.
    """
    asked, choice = choice, snapshot.resolve(choice)
    rows = snapshot.select(choice)
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    page = min(choice.page, pages)
    shown = rows if static else rows[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
    wanted = [metric for metric in METRICS.values() if "board" in metric.tables or metric.name == choice.sort]
    shown_metrics = [metric for metric in wanted if any(row.estimate(choice.level, metric.name) for row in rows)]
    return html(
        "table.html",
        snapshot=snapshot,
        asked=asked,
        choice=choice,
        hidden=snapshot.hidden(choice),
        rows=shown,
        ranks=ranks(rows, choice),
        levels=levels if static else {level: _link(choice, level=level, page="") for level in (1, 2, 3, 4)},
        sizes=[
            (row.model, row.parameters, estimate.value)
            for row in rows
            if row.parameters and not row.saw_labels and (estimate := row.estimate(choice.level, choice.metric))
        ],
        copies=snapshot.copies(choice),
        total=len(rows),
        page=page,
        pages=pages,
        shown_metrics=shown_metrics or [METRICS[RANKING]],
        options=snapshot.options(choice),
        best=snapshot.best_by_sensors(choice),
        link=lambda **changes: _link(choice, **({"years": asked.years, "scorer": asked.scorer} | changes)),
        root=root,
        static=static,
        downloads=downloads,
    )


def ranks(rows: Sequence[Row], choice: Choice) -> dict[str, int]:
    """Submission id → rank, for the rows that are ranked; rows with the same value in the sorted column share one."""
    result: dict[str, int] = {}
    before: tuple[Any, int] | None = None
    for position, row in enumerate((row for row in rows if not row.saw_labels), start=1):
        value = sort_value(row, choice)
        rank = before[1] if before is not None and value is not None and value == before[0] else position
        before = (value, rank)
        result[row.id] = rank
    return result


def submission_html(settings: Settings, submission: Submission) -> str:
    """The page of a scored submission."""
    newer = f"/submissions/{submission.superseded_by}" if submission.superseded_by else ""
    permalink = f"{settings.public_url.rstrip('/')}/submissions/{submission.id}"
    return submission_page(settings, submission, permalink, newer)


def submission_page(
    settings: Settings, submission: Submission, permalink: str, newer: str, root: str = "/", static: bool = False
) -> str:
    """The page of a scored submission, for the service or for an exported folder.

    Args:
        settings: for the ledger and the images.
        submission: a scored submission.
        permalink: address of this page.
        newer: page of the submission that supersedes it; empty if there is none.
        root: prefix of other links.
        static: leave out links that need the service.
    """
    if submission.result is None:
        raise not_found()
    entry = read_record(settings, submission.result.ledger_path)
    media = settings.media / submission.id
    scores = read_scores(entry)
    levels = scores.levels.values()
    given = [metric for metric in METRICS.values() if any(metric.name in level.metrics for level in levels)]
    return html(
        "submission.html",
        submission=submission,
        entry=entry,
        scores=scores,
        given=given,
        links=[(name, entry.card[name]) for name in ("code", "paper", "weights") if entry.card.get(name)],
        citation=citation(entry, submission, permalink),
        samples=entry.samples if media.is_dir() else [],
        permalink=permalink,
        newer=newer,
        root=root,
        static=static,
    )


def citation(entry: ledger.Entry, submission: Submission, permalink: str) -> str:
    """The entry as BibTeX; characters that BibTeX would interpret are left out."""
    authors = " and ".join(str(author) for author in entry.card["authors"])
    fields = {
        "title": f"{entry.card['name']}: result on {entry.release}, {entry.task}, {entry.split} split",
        "author": authors,
        "year": f"{submission.created_at:%Y}",
        "howpublished": f"lulcbench leaderboard, {permalink}",
        "note": f"predictions SHA-256 {entry.sha256}, ledger digest {entry.digest}",
    }
    lines = [f"  {key} = {{{re.sub(r'[{}\\\\%$#&~^]', '', value)}}}," for key, value in fields.items()]
    return "\n".join([f"@misc{{lulcbench-{submission.id},", *lines, "}"])


def compare_html(settings: Settings, snapshot: Snapshot, ids: list[str], level: int) -> str:
    """The page of a comparison; raises the errors of ``compared``."""
    rows, entries = compared(settings, snapshot, ids, level)
    scores = [read_scores(entry) for entry in entries]
    parts = [file_scores.levels.get(level) for file_scores in scores]
    tests = paired_tests(entries, level)
    return html(
        "compare.html",
        rows=rows,
        level=level,
        blocks=scores[0].blocks,
        classes=_classes(parts),
        tests=tests,
        query=urlencode({"id": [row.id for row in rows], "level": level}, doseq=True),
    )


def check_ids(ids: list[str], level: int) -> list[str]:
    """The submissions to compare: the first, against which the others are tested, and the others sorted by id.

    The same comparison therefore has one key, in whichever order it is requested.

    Raises:
        RequestError: 422, too few, too many, or no such level.
    """
    wanted = list(dict.fromkeys(ids))
    if not 2 <= len(wanted) <= MAX_COMPARED:
        raise RequestError(422, f"{len(wanted)} submissions are chosen.", f"Select 2 to {MAX_COMPARED} in the table.")
    if not 1 <= level <= 4:
        raise RequestError(422, f"LUISA has no level {level}.", "Choose 1, 2, 3 or 4.")
    return [wanted[0], *sorted(wanted[1:])]


def compared(
    settings: Settings, snapshot: Snapshot, ids: list[str], level: int
) -> tuple[list[Row], list[ledger.Entry]]:
    """The rows and ledger entries of the submissions to compare.

    Raises:
        RequestError: 422, the submissions cannot be compared; 404, one is not on the board; 503, a record is damaged.
    """
    wanted = check_ids(ids, level)
    by_id = {row.id: row for row in snapshot.rows}
    if not all(submission_id in by_id for submission_id in wanted):
        raise not_found("One of the submissions is not on the board.")
    rows = [by_id[submission_id] for submission_id in wanted]
    if len({(row.release_key, row.task, row.years, row.split, row.scorer_version) for row in rows}) > 1:
        raise RequestError(
            422,
            "The submissions differ in release, task, years, split or scorer version.",
            "Choose submissions from one table.",
        )
    return rows, [read_record(settings, f"{row.release_key}/{row.id}.json") for row in rows]


def read_record(settings: Settings, path: str) -> ledger.Entry:
    """The ledger entry at a path stored in the database.

    Raises:
        RequestError: 503, it is missing or damaged; the error is logged for the operator.
    """
    try:
        return ledger.read(settings.ledger / path)
    except ledger.DamagedFile as error:
        report_once(error.what)
        raise RequestError(
            503,
            f"The record of submission {PurePosixPath(path).stem} cannot be read.",
            "The operator has to restore it from a backup; other pages are not affected.",
        ) from error


def read_scores(entry: ledger.Entry) -> Scores:
    """The scores of a ledger entry.

    Raises:
        RequestError: 503, they have an unknown format.
    """
    try:
        return Scores.read(entry.scores, entry.path)
    except UnsupportedFormatError as error:
        report_once(error.what)
        raise RequestError(
            503,
            f"The scores of submission {entry.submission} have a newer format.",
            "The operator has to upgrade the service; other pages are not affected.",
        ) from error


@lru_cache(maxsize=1024)
def report_once(what: str) -> None:
    """Log once an error that every request for a page would log again."""
    log.error("%s", what)


def history_html(snapshot: Snapshot, choice: Choice, root: str = "/", static: bool = False) -> str:
    """The history page: all scores of a table in order of time, and those that were the best when submitted.

    Models that saw labels of the scored split are left out.
    """
    asked, metric = choice, METRICS[choice.metric]
    ranked = {"sort": metric.name, "superseded": True, "saw_labels": False, "page": 1}
    choice = snapshot.resolve(choice.model_copy(update=ranked))
    rows = sorted(snapshot.select(choice), key=lambda row: row.submitted)
    scored = [(row, estimate.value) for row in rows if (estimate := row.estimate(choice.level, metric.name))]
    best: list[tuple[Row, float]] = []
    for row, value in scored:
        if not best or metric.better(value, best[-1][1]):
            best.append((row, value))
    return html(
        "history.html",
        snapshot=snapshot,
        asked=asked,
        choice=choice,
        options=snapshot.options(choice),
        metric=metric,
        best=best,
        points=[(row.submitted, value, row.model) for row, value in scored],
        leaders=[(row.submitted, value, row.model) for row, value in best],
        root=root,
        static=static,
    )


def error_page(request: Request, error: RequestError) -> Response:
    """An error as a page."""
    text = html("error.html", error=error)
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


def _scored(request: Request, submission_id: str) -> Submission:
    db: Database = request.app.state.db
    with db.read() as session:
        submission = session.get(Submission, submission_id) if standing.SUBMISSION_ID.fullmatch(submission_id) else None
        if submission is None or submission.status != "scored" or submission.result is None:
            raise not_found()
        return submission


def _classes(parts: list[LevelScores | None]) -> list[dict[str, Any]]:
    """Code, name, support and IoU in each of the compared submissions, for each class that occurs in them."""
    classes = next((part.classes for part in parts if part), ())
    ious = [{scored.code: scored.iou for scored in part.classes} if part else {} for part in parts]
    rows: list[dict[str, Any]] = [
        {
            "code": scored.code,
            "name": scored.name,
            "support": scored.support,
            "ious": [iou.get(scored.code) for iou in ious],
        }
        for scored in classes
    ]
    return [row for row in rows if row["support"] or any(row["ious"])]


def _link(choice: Choice, **changes: Any) -> str:
    fields = choice.model_dump(mode="json", exclude_defaults=True) | changes
    fields = {key: value for key, value in fields.items() if value not in (None, "", False)}
    return "?" + urlencode(fields) if fields else "?"
