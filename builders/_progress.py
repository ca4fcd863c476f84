"""Progress of long stages: a function of steps done and steps in all, which the command line draws as a bar."""

from __future__ import annotations

import threading
from collections.abc import Callable

Report = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Report nothing."""


def counter(report: Report, total: int) -> Callable[[], None]:
    """A function to call after each of ``total`` steps, from any thread."""
    done, lock = 0, threading.Lock()

    def advance() -> None:
        nonlocal done
        with lock:
            done += 1
            report(done, total)

    return advance
