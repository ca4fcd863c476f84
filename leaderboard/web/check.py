"""The check of the ledger for the page of operators, which may take minutes, in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from leaderboard.settings import Settings
from leaderboard.store import records
from leaderboard.store.db import Database, Revision, now
from lulcbench.errors import LulcbenchError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the ledger found, and when it began."""

    faults: tuple[LulcbenchError, ...]
    at: datetime
    version: Hashable


class LedgerCheck:
    """The last check of the ledger. It is repeated when files or database have changed and somebody asks."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self._settings = settings
        self._running = threading.Lock()
        self._last: Checked | None = None

    def look(self) -> tuple[Checked | None, bool]:
        """The last check, None before the first; and whether a newer one is running. Does not wait for it."""
        version = self._version()
        last = self._last
        if last is not None and last.version == version:
            return last, False
        if self._running.acquire(blocking=False):
            threading.Thread(target=self._check, args=(version,), name="check-ledger", daemon=True).start()
        return last, True

    def _check(self, version: Hashable) -> None:
        try:
            at = now()
            self._last = Checked(records.verify(self._db, self._settings), at, version)
        except Exception:  # the next reader of the page starts it again
            log.exception("the ledger cannot be checked")
        finally:
            self._running.release()

    def _version(self) -> Hashable:
        with self._db.read() as session:
            revision = session.scalars(select(Revision.value)).one()
        files = sorted(self._settings.ledger.rglob("*"))
        stats = [(str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path in files if (stat := path.lstat())]
        return revision, tuple(stats)
