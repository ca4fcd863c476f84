"""The supervisor: keeps one web process and the scoring workers alive.

It only starts, restarts and stops processes, and holds the listening socket, so that connections made while the web
process restarts wait for the next one. The processes get their settings on standard input, so that ``ps`` shows no
password, and end when the supervisor ends for any reason (``die_with_parent``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from leaderboard.settings import Settings

log = logging.getLogger(__name__)
POLL_S = 0.1
RESTART_S = 0.5
MAX_RESTART_S = 30.0
STEADY_S = 10.0  # a process that lived longer is restarted without a longer pause
STOP_S = 15.0
BAD_SETTINGS = 2  # exit code of a LulcbenchError


class Child:
    """A process that is restarted whenever it ends.

    Args:
        arguments: those after ``python -m leaderboard``.
        settings: passed on standard input.
        descriptors: file descriptors that the process inherits.
    """

    def __init__(self, arguments: tuple[str, ...], settings: Settings, descriptors: tuple[int, ...] = ()) -> None:
        self._arguments = arguments
        self._settings = settings
        self._descriptors = descriptors
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        self._started = 0.0
        self._pause = RESTART_S
        self._resume = 0.0

    def keep(self) -> bool:
        """Start the process if it is not running; False if its first start failed because of its settings."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return True
            if code == BAD_SETTINGS and self._starts == 1:
                return False
            steady = now - self._started > STEADY_S
            self._pause = RESTART_S if steady else min(2 * self._pause, MAX_RESTART_S)
            self._resume = now + self._pause
            log.warning("%s ended with code %s; restarted in %g s", self._arguments[0], code, self._pause)
            self._process = None
        if now >= self._resume:
            self._start()
        return True

    def _start(self) -> None:
        parent = ("--parent", str(os.getpid()))
        command = [sys.executable, "-m", "leaderboard", *self._arguments, *parent]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, text=True, pass_fds=self._descriptors
        )
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:  # type: ignore[union-attr]
            pipe.write(self._settings.model_dump_json())
        self._starts += 1
        self._started = time.monotonic()

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Wait until the process has ended; kill it after ``STOP_S``."""
        if self._process is None:
            return
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def supervise(settings: Settings, listener: socket.socket, workers: int) -> int:
    """Run the service until SIGTERM or SIGINT.

    Args:
        settings: see ``Settings``.
        listener: listening socket, inherited by every web process.
        workers: scoring workers to run beside the web process; 0 if they run elsewhere.

    Returns:
        The exit code: ``BAD_SETTINGS`` if a process could not start at all, which it explains itself.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    children = [Child(("web", "--fd", str(listener.fileno())), settings, (listener.fileno(),))]
    children += [Child(("worker",), settings) for _ in range(workers)]
    try:
        while True:
            if not all(child.keep() for child in children):
                return BAD_SETTINGS
            if stop.wait(POLL_S):
                return 0
    finally:
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()
