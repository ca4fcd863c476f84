"""What an operator's other programs ask for: health, numbers for Prometheus, robots.txt, security.txt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from leaderboard.errors import not_found
from leaderboard.settings import Settings
from leaderboard.store.db import Database, Revision, Submission, now

if TYPE_CHECKING:
    from prometheus_client import Metric

STATES = ("queued", "scoring", "scored", "refused", "withdrawn")
SECURITY_DAYS = 180  # RFC 9116: less than a year

router = APIRouter(include_in_schema=False)


class Numbers(Collector):
    """Numbers of the service: requests by method and status, and the state of queue and disks when asked.

    Args:
        db: the database.
        settings: for the folders.
    """

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._settings = settings
        self.registry = CollectorRegistry()
        self.requests = Counter("board_requests", "Requests answered.", ["method", "status"], registry=self.registry)
        self.registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the database and the disks."""
        states = GaugeMetricFamily("board_submissions", "Submissions by state.", labels=["state"])
        with self._db.read() as session:
            by_state = select(Submission.status, func.count()).group_by(Submission.status)
            counts = dict.fromkeys(STATES, 0)
            for state, count in session.execute(by_state):
                counts[state] = count
            waiting = select(func.min(Submission.created_at)).where(Submission.status.in_(("queued", "scoring")))
            oldest = session.scalars(waiting).one()
        for state in STATES:
            states.add_metric([state], counts[state])
        yield states
        age = (now() - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("board_oldest_waiting_seconds", "Age of the oldest submission in the queue.", age)
        free = GaugeMetricFamily("board_disk_free_bytes", "Free space.", labels=["folder"])
        for name, folder in (("data", self._settings.data), ("ledger", self._settings.ledger)):
            free.add_metric([name], shutil.disk_usage(folder).free)
        yield free


@router.get("/healthz")
def health(request: Request) -> Response:
    """200 if database and disks can be used, otherwise 503 with the reason."""
    settings: Settings = request.app.state.settings
    db: Database = request.app.state.db
    faults = []
    try:
        with db.read() as session:
            session.scalars(select(Revision.value)).one()
    except SQLAlchemyError:
        faults.append("the database does not answer")
    try:
        room = min(shutil.disk_usage(folder).free for folder in (settings.data, settings.ledger))
        if room < settings.disk_reserve_bytes // 2:
            faults.append("the disk is full except for half of the reserve: scoring has paused")
    except OSError:
        faults.append("the folders cannot be read")
    headers = {"Cache-Control": "no-store"}
    return JSONResponse({"ok": not faults, "faults": faults}, 503 if faults else 200, headers)


@router.get("/metrics")
def numbers(request: Request) -> Response:
    """Numbers in the text format of Prometheus; a proxy should not publish them."""
    collector: Numbers = request.app.state.numbers
    return Response(generate_latest(collector.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/robots.txt")
def robots() -> Response:
    """Search engines may read the pages, but not every filter and comparison of them."""
    return PlainTextResponse("User-agent: *\nDisallow: /*?\nDisallow: /api/\nDisallow: /compare\nDisallow: /login\n")


@router.get("/.well-known/security.txt")
def security(request: Request) -> Response:
    """Whom to tell of a vulnerability (RFC 9116); 404 unless ``contact`` is set."""
    settings: Settings = request.app.state.settings
    if not settings.contact:
        raise not_found("The operator has not named a contact.")
    expires = (datetime.now(UTC) + timedelta(days=SECURITY_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    lines = [f"Contact: {settings.contact}", f"Expires: {expires:%Y-%m-%dT%H:%M:%SZ}", "Preferred-Languages: en"]
    if settings.public_url.startswith("https:"):
        lines.append(f"Canonical: {settings.public_url.rstrip('/')}/.well-known/security.txt")
    return PlainTextResponse("\n".join(lines) + "\n")
