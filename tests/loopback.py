"""Servers on loopback that several tests use."""

from __future__ import annotations

import functools
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Ranges(SimpleHTTPRequestHandler):
    """Python's file server with range requests, which web servers support."""

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content, status = path.read_bytes(), 200
        size, start, end = len(content), 0, len(content)
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            status = 206
            start = int(match[1]) if match[1] else max(0, size - int(match[2]))
            end = min(size, int(match[2]) + 1) if match[1] and match[2] else size
        self.send_response(status)
        self.send_header("Content-Length", str(end - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        self.wfile.write(content[start:end])
        return None


@contextmanager
def serve(folder: Path, handler: type[SimpleHTTPRequestHandler] = Ranges) -> Iterator[str]:
    """Serve a folder; gives its URL."""
    with serving(functools.partial(handler, directory=str(folder.parent))) as address:
        yield f"{address}/{folder.name}"


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer requests; gives the address of the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def free_port() -> int:
    """A port on loopback that no process listens on, for servers that cannot take port 0.

    Below the ports that the system assigns (Linux: from 32768), and with another first choice in each process, so that
    no other process takes it before the server listens.
    """
    first, last = 20_000, 32_768
    for port in range(first + os.getpid() % (last - first), last):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
