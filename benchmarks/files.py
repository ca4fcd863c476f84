"""A file server on loopback with range requests: it may answer late, like an object store, and counts what it sends."""

from __future__ import annotations

import functools
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Files(SimpleHTTPRequestHandler):
    """The files of a folder."""

    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, *args: Any) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        """Send a file or a range of it."""
        time.sleep(self.server.latency)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        byte_range = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        start, end = 0, size
        if byte_range:
            start = int(byte_range[1]) if byte_range[1] else max(0, size - int(byte_range[2]))
            end = min(size, int(byte_range[2]) + 1) if byte_range[1] and byte_range[2] else size
        with path.open("rb") as file:
            file.seek(start)
            part = file.read(end - start)
        self.send_response(206 if byte_range else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        if byte_range:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        self.wfile.write(part)
        with self.server.lock:
            self.server.sent[path] += len(part)


class FileServer(ThreadingHTTPServer):
    """A server of a folder that accepts many connections at once.

    Args:
        folder: to serve.
        latency: seconds before each answer.
    """

    request_queue_size = 256

    def __init__(self, folder: Path, latency: float = 0) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
        self.latency = latency
        self.lock = threading.Lock()
        self.sent: Counter[Path] = Counter()  # bytes by file

    @property
    def address(self) -> str:
        """The URL of the folder."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing of clients that close their connections."""


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """A running server in a thread of this process."""
    with FileServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
