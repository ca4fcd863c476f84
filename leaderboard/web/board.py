"""The table in memory and the pages made of it, renewed only when the database says that something changed."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import select

from leaderboard.problems import Problem
from leaderboard.ranking.table import Row, Snapshot, make_row
from leaderboard.settings import Settings
from leaderboard.store.db import Database, Result, Revision, Submission
from leaderboard.web.render import Page

log = logging.getLogger(__name__)
MAX_CACHED_PAGES = 512
HOT_PAGES = 16
MAX_KEY = 512  # longer query strings are made up; their pages are not kept


@dataclass(frozen=True, slots=True)
class _Kept:
    """A page, and how to make it anew of a newer snapshot."""

    page: Page
    make: Callable[[Snapshot], Page]


@dataclass(frozen=True, slots=True)
class _State:
    """A snapshot and the pages made of it, replaced together; the page asked for last is the last one."""

    snapshot: Snapshot
    pages: OrderedDict[str, _Kept]


class Board:
    """The current snapshot and the pages made of it.

    When the database has changed, one thread reads the board again and renders the pages that are most in demand;
    until it is done, readers get the pages as they were. So nobody waits, and a crowd does not render one page each.
    Rendering takes turns, since it would only share one interpreter.
    """

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._cache_s = settings.cache_s
        self._renewing = threading.Lock()
        self._rendering = threading.Lock()
        self._state: _State | None = None
        self._checked = 0.0

    def peek(self, key: str) -> Page | None:
        """A page that is ready; never waits, so an event loop may call it. None if the page must be made."""
        state = self._state
        if self._cache_s == 0 or state is None:
            return None
        if not self._is_fresh() and not self._renewing.locked():
            threading.Thread(target=self._renew, name="renew-board", daemon=True).start()
        try:
            state.pages.move_to_end(key)
            return state.pages[key].page
        except KeyError:  # never made, or dropped by another thread just now
            return None

    def page(self, key: str, make: Callable[[Snapshot], Page]) -> Page:
        """The page of that key, made if need be."""
        state = self._current()
        with self._rendering:
            kept = state.pages.get(key) if self._cache_s else None
            if kept is None:
                kept = _Kept(make(state.snapshot), make)
                if len(key) <= MAX_KEY:
                    state.pages[key] = kept
                    while len(state.pages) > MAX_CACHED_PAGES:
                        state.pages.popitem(last=False)
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
                return state  # somebody else did it meanwhile
            with self._db.read() as session:
                revision = session.scalars(select(Revision.value)).one()
                if state is None or state.snapshot.revision != revision:
                    query = select(Submission).join(Result).where(Submission.status == "scored")
                    snapshot = Snapshot(revision, _rows(session.scalars(query).unique()))
                    wanted = list(state.pages.items())[-HOT_PAGES:] if state and self._cache_s else []
                    pages: OrderedDict[str, _Kept] = OrderedDict()
                    for key, kept in wanted:
                        try:
                            pages[key] = _Kept(kept.make(snapshot), kept.make)
                        except Problem:
                            pass  # what it shows was withdrawn, or cannot be read; its next reader is told
                        except Exception:  # one page must not keep the others as they were before a withdrawal
                            log.exception("%s cannot be made anew", key)
                    state = self._state = _State(snapshot, pages)
            self._checked = time.monotonic()
            return state


def _rows(submissions: Iterable[Submission]) -> tuple[Row, ...]:
    """The rows of all submissions but those whose figures have another form, which are logged."""
    rows = []
    for found in submissions:
        try:
            rows.append(make_row(found))
        except (KeyError, TypeError, ValueError, AttributeError):
            log.exception("submission %s is left out of the table", found.id)
    return tuple(rows)
