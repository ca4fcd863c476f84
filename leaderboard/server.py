"""The web process: a listening socket, and the server of the application."""

from __future__ import annotations

import logging
import resource
import socket
import sys
import tempfile
import threading

import uvicorn
from fastapi import FastAPI

from leaderboard.settings import Settings
from leaderboard.store import ledger, records
from leaderboard.web.app import create_app
from leaderboard.web.guard import PatientProtocol
from lulcbench.errors import LulcbenchError

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 2000
# The event loop releases the GIL at every read and write; while another thread renders, it would wait for Python's
# default switch interval (5 ms) each time to get it back.
SWITCH_INTERVAL_S = 2e-4


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Args:
        host: behind a reverse proxy with TLS, a loopback address.
        port: 0 takes a free one; ``getsockname`` of the result gives it.

    Raises:
        LulcbenchError: the address belongs to another machine, or the port is taken.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=MAX_CONNECTIONS)
    except OSError as error:
        raise LulcbenchError(
            f"Cannot listen at {host}, port {port}: {error.strerror or error}.", "Choose another --port or --host."
        ) from error


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve the web pages until interrupted; an empty database is filled from the ledger first.

    Args:
        settings: see ``Settings``.
        listener: listening socket; see ``listen``.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (min(most, 4 * MAX_CONNECTIONS), most)
    )  # one per connection, and some more
    settings.prepare()
    tempfile.tempdir = str(settings.partial)  # forms arrive on the disk whose space is checked, not in /tmp
    threading.Thread(target=_report_damage, args=(settings,), name="read-ledger", daemon=True).start()
    app = create_app(settings)
    records.fill(app.state.db, settings)
    host, port = listener.getsockname()[:2]
    make_server(app, host, port).run([listener])


def make_server(app: FastAPI, host: str, port: int) -> uvicorn.Server:
    """The web server of the application, with limits on connections and headers."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PatientProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        log_level="warning",
    )
    return uvicorn.Server(config)


def _report_damage(settings: Settings) -> None:
    """Log the files of the ledger that cannot be read; runs in the background."""
    for fault in ledger.load(settings.ledger).faults:
        log.error("%s", fault.what)
