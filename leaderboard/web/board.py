"""In-memory cache of the table and its pages, renewed only when the database has changed."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import select

from leaderboard.errors import RequestError
from leaderboard.ranking.table import Row, Snapshot, make_row, with_labels_seen
from leaderboard.settings import Settings
from leaderboard.store import standing
from leaderboard.store.db import Database, Result, Revision, Submission
from leaderboard.web.render import Page

log = logging.getLogger(__name__)
MAX_CACHED_PAGES = 512
MAX_CACHED_BYTES = 64 * 2**20
HOT_PAGES = 16
MAX_KEY = 512  # longer query strings do not come from our links; their pages are not cached


@dataclass(frozen=True, slots=True)
class _Kept:
    """A page, and the function that renders it from a newer snapshot."""

    page: Page
    make: Callable[[Snapshot], Page]


@dataclass(frozen=True, slots=True)
class _State:
    """A snapshot and the pages rendered from it, replaced together; the most recently requested page is last."""

    snapshot: Snapshot
    pages: OrderedDict[str, _Kept]


class Board:
    """The current snapshot and the pages rendered from it.

    When the database has changed, one thread reads the board again and renders the most recently requested pages;
    until it is done, readers get the old pages. So readers do not wait, and the same page is not rendered several
    times.
    Pages are rendered one at a time, since threads would only compete for the interpreter.
    """

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._cache_s = settings.cache_s
        self._renewing = threading.Lock()
        self._rendering = threading.Lock()
        self._state: _State | None = None
        self._checked = 0.0

    def peek(self, key: str) -> Page | None:
        """A cached page, or None if it must be rendered. Never waits, so that an event loop may call it."""
        state = self._state
        if self._cache_s == 0 or state is None:
            return None
        if not self._is_fresh() and not self._renewing.locked():
            threading.Thread(target=self._renew, name="renew-board", daemon=True).start()
        try:
            state.pages.move_to_end(key)
            return state.pages[key].page
        except KeyError:  # not rendered yet, or just dropped by another thread
            return None

    def page(self, key: str, make: Callable[[Snapshot], Page]) -> Page:
        """The page of a key, rendered if it is not cached."""
        state = self._current()
        with self._rendering:
            kept = state.pages.get(key) if self._cache_s else None
            if kept is None:
                kept = _Kept(make(state.snapshot), make)
                if len(key) <= MAX_KEY:
                    state.pages[key] = kept
                    total = sum(one.page.size for one in state.pages.values())
                    while len(state.pages) > MAX_CACHED_PAGES or total > MAX_CACHED_BYTES:
                        total -= state.pages.popitem(last=False)[1].page.size
            return kept.page

    def current(self) -> Snapshot:
        """The snapshot, read again if it is old and the database has changed."""
        return self._current().snapshot

    def _current(self) -> _State:
        state = self._state
        return state if state is not None and self._is_fresh() else self._renew()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._checked < self._cache_s

    def _renew(self) -> _State:
        with self._renewing:
            state = self._state
            if state is not None and self._is_fresh():
                return state  # another thread has renewed it meanwhile
            with self._db.read() as session:
                revision = session.scalars(select(Revision.value)).one()
                if state is None or state.snapshot.revision != revision:
                    query = select(Submission).join(Result)
                    snapshot = Snapshot(revision, _rows(session.scalars(query).unique()))
                    wanted = list(state.pages.items())[-HOT_PAGES:] if state and self._cache_s else []
                    pages: OrderedDict[str, _Kept] = OrderedDict()
                    for key, kept in wanted:
                        try:
                            pages[key] = _Kept(kept.make(snapshot), kept.make)
                        except RequestError:
                            pass  # a submission was withdrawn or cannot be read; the next reader gets the error
                        except Exception:  # one page must not keep the others from being updated
                            log.exception("%s cannot be rendered again", key)
                    state = self._state = _State(snapshot, pages)
            self._checked = time.monotonic()
            return state


def _rows(submissions: Iterable[Submission]) -> tuple[Row, ...]:
    """The rows of all scored submissions except those with a malformed summary, which are logged."""
    known = {submission.id: submission for submission in submissions}
    rows = []
    for submission in known.values():
        if submission.status != "scored":
            continue
        try:
            rows.append(make_row(submission, standing.successor(submission, known.get)))
        except (KeyError, TypeError, ValueError, AttributeError):
            log.exception("submission %s is left out of the table", submission.id)
    return with_labels_seen(rows)
