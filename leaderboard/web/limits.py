"""Limits on what costs much: comparisons and pages of submissions, which anybody may ask for, and large forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.to_thread

from leaderboard.errors import RequestError
from leaderboard.settings import Settings
from leaderboard.store import uploads

MAX_WAITING = 8
MAX_FORMS = 8  # that arrive at once; each may hold max_form_bytes of temporary disk


class Turns:
    """Runs functions in a thread of its own, one at a time, with a bounded number waiting.

    Other pages therefore wait for at most one of them.

    Args:
        what: what the functions make, in the plural, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._limiter = anyio.CapacityLimiter(1)
        self._waiting = 0

    async def run[T](self, function: Callable[[], T]) -> T:
        """The result of ``function``.

        Raises:
            RequestError: 503, too many are waiting.
        """
        if self._waiting >= MAX_WAITING:
            raise RequestError(
                503, f"Too many {self._what} are being computed.", "Try again in a few seconds.", {"Retry-After": "5"}
            )
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)
        finally:
            self._waiting -= 1


class Forms:
    """The forms that are arriving: at most one per team, and no more than the disk has room for."""

    def __init__(self) -> None:
        self._arriving: dict[int, int] = {}

    @contextmanager
    def arriving(self, settings: Settings, team_id: int, size: int) -> Iterator[None]:
        """Reserve a place and disk space for a form of ``size`` bytes while it arrives.

        Raises:
            RequestError: 429, another form of the team is arriving; 503, too many forms are arriving; 507, no space.
        """
        if team_id in self._arriving:
            raise RequestError(
                429, "Another form of your team is arriving.", "Wait until it is complete.", {"Retry-After": "60"}
            )
        if len(self._arriving) >= MAX_FORMS:
            raise RequestError(
                503, "Too many forms are arriving at once.", "Try again in a minute.", {"Retry-After": "60"}
            )
        # Each needs its temporary file and the file that is kept.
        uploads.check_space(settings, 2 * (size + sum(self._arriving.values())))
        self._arriving[team_id] = size
        try:
            yield
        finally:
            del self._arriving[team_id]
