"""Pages that are made from one file of the ledger, which is read and checked again only when it has changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from leaderboard.settings import Settings
from leaderboard.store.db import Result
from leaderboard.web.limits import Turns
from leaderboard.web.render import Page

MAX_BYTES = 64 * 2**20


class Entries:
    """Pages of submissions, at most ``MAX_BYTES`` of them; the least recently used are dropped.

    Reading an entry and computing its intervals takes about a tenth of a second. Therefore one page is made at a time,
    and a page is kept until its file or what it depends on besides changes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pages: OrderedDict[tuple[str, str], tuple[Hashable, Page]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._turns = Turns("pages of submissions")

    async def page(self, kind: str, result: Result, state: Hashable, make: Callable[[], Page]) -> Page:
        """The page of a result, made when it is its turn unless it is kept.

        Args:
            kind: which of the pages of the result.
            result: a result.
            state: what the page depends on besides the file of the ledger.
            make: makes the page; errors are raised, and not kept.

        Raises:
            RequestError: 503, too many others are waiting; or those of ``make``.
        """
        name, version = (kind, result.submission_id), self._version(result, state)
        page = self._find(name, version)
        return page if page is not None else await self._turns.run(lambda: self._made(name, version, make))

    def _version(self, result: Result, state: Hashable) -> Hashable:
        """Digest, identity and time of the file, and the state; None if there is no such file."""
        try:
            stat = (self._settings.ledger / result.ledger_path).stat()
        except OSError:
            return None
        return result.ledger_digest, stat.st_ino, stat.st_size, stat.st_mtime_ns, state

    def _find(self, name: tuple[str, str], version: Hashable) -> Page | None:
        with self._lock:
            kept = self._pages.get(name)
            if kept is None or version is None or kept[0] != version:
                return None
            self._pages.move_to_end(name)
            return kept[1]

    def _made(self, name: tuple[str, str], version: Hashable, make: Callable[[], Page]) -> Page:
        page = self._find(name, version)  # another reader may have had it made meanwhile
        if page is not None:
            return page
        page = make()
        with self._lock:
            if name in self._pages:
                self._bytes -= self._pages.pop(name)[1].size
            if version is not None:
                self._pages[name] = version, page
                self._bytes += page.size
            while self._bytes > MAX_BYTES:
                self._bytes -= self._pages.popitem(last=False)[1][1].size
        return page
