"""The real web server on a real socket: slow and broken clients, and a kill in the middle of an upload."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi import FastAPI, Response

from leaderboard.server import listen, make_server
from leaderboard.settings import Settings
from leaderboard.store.accounts import create_token
from leaderboard.store.db import Database
from leaderboard.web import guard
from leaderboard.web.app import create_app
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import CARD, Service, start_web, wait_until


@pytest.fixture
def site(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Address and token of a board on loopback, with short patience."""
    monkeypatch.setattr(guard, "HEADER_TIMEOUT_S", 0.4)
    app = create_app(settings.model_copy(update={"body_idle_s": 0.5, "body_rate": 10_000}))
    token = create_token(app.state.db, "Ours")
    server = make_server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the server to start")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", token
    server.should_exit = True
    thread.join()


def test_a_port_that_is_taken_is_said_before_anything_starts() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(LulcbenchError, match=r"Cannot listen at 127\.0\.0\.1"):
        listen("127.0.0.1", listener.getsockname()[1])


def talk(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=60)
    return connection


def test_headers_that_drip_are_cut_off(site: tuple[str, str]) -> None:
    url, _ = site

    def drip(connection: socket.socket) -> None:
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 2000:  # takes a minute
            connection.send(bytes([byte]))
            time.sleep(0.03)

    with talk(url) as connection, pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
        drip(connection)
    with talk(url) as silent:
        assert silent.recv(10) == b""


def test_bodies_that_drip_are_cut_off_and_what_came_is_kept(site: tuple[str, str]) -> None:
    url, token = site
    headers = {"Authorization": f"Bearer {token}"}
    body = {"filename": "x.zip", "size": 5000, "sha256": "0" * 64, "card": CARD}
    upload = httpx2.post(f"{url}/api/v1/uploads", json=body, headers=headers).json()["upload_id"]

    def send(pieces: int, pause: float) -> bytes:
        at = httpx2.get(f"{url}/api/v1/uploads/{upload}", headers=headers).json()["offset"]
        with talk(url) as connection:
            head = f"PUT /api/v1/uploads/{upload}?offset={at} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            connection.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode())
            for _ in range(pieces):
                try:
                    connection.sendall(b"x" * 10)
                except OSError:
                    break
                time.sleep(pause)
            return connection.recv(4000)

    assert b" 408 " in send(1, 0)  # falls silent
    assert b" 408 " in send(30, 0.05)  # keeps talking, too slowly
    assert httpx2.get(f"{url}/api/v1/uploads/{upload}", headers=headers).json()["offset"] > 10


def test_readers_that_stop_reading_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "WRITE_TIMEOUT_S", 0.3)
    app = FastAPI()
    app.add_api_route("/", lambda: Response(bytes(32 * 2**20)))
    server = make_server(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the server to start")
        port = server.servers[0].sockets[0].getsockname()[1]
        with talk(f"http://127.0.0.1:{port}") as stopped:
            stopped.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            stopped.recv(1000)
            wait_until(lambda: not server.server_state.connections, "the connection to be cut off")
        monkeypatch.undo()
        assert len(httpx2.get(f"http://127.0.0.1:{port}").content) == 32 * 2**20
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["TLS", "HTTP version", "long header", "negative length", "two lengths", "NUL"],
)
def test_broken_requests_do_not_break_the_server(site: tuple[str, str], raw: bytes) -> None:
    url, _ = site
    with talk(url) as connection:
        connection.sendall(raw)
        answer = connection.recv(4000)
    assert answer == b"" or int(answer.split()[1]) >= 400
    assert httpx2.get(url).status_code == 200


@pytest.mark.slow
def test_an_upload_survives_the_death_of_the_web(settings: Settings, tmp_path: Path) -> None:
    """kill -9 in the middle of a request; after a restart, the upload continues from the state on disk."""
    settings = settings.model_copy(update={"chunk_bytes": 2**20})
    config = tmp_path / "settings.toml"
    config.write_text(f"chunk_bytes = {2**20}\n")
    options = ("--config", str(config), "--data", str(settings.data), "--ledger", str(settings.ledger))
    content = os.urandom(600_000)
    body = {"filename": "x.zip", "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "card": CARD}
    process, url = start_web(tmp_path / "web.log", *options)
    try:
        db = Database(settings.url)
        token = create_token(db, "Ours")
        db.close()
        headers = {"Authorization": f"Bearer {token}"}
        upload = httpx2.post(f"{url}/api/v1/uploads", json=body, headers=headers).json()["upload_id"]
        with talk(url) as connection:
            head = f"PUT /api/v1/uploads/{upload}?offset=0 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
            connection.sendall(f"{head}Authorization: Bearer {token}\r\n\r\n".encode() + content[:300_000])
            time.sleep(0.2)
            process.send_signal(signal.SIGKILL)
            process.wait()
        process, url = start_web(tmp_path / "web.log", *options)
        path = f"{url}/api/v1/uploads/{upload}"
        at = httpx2.get(path, headers=headers).json()["offset"]
        assert 0 <= at <= 300_000
        sent = httpx2.put(f"{path}?offset={at}", content=content[at:], headers=headers)
        assert sent.json() == {"offset": len(content)}
        done = httpx2.post(f"{path}/complete", headers=headers)
        assert done.status_code == 202
        (kept,) = settings.predictions.iterdir()
        assert kept.read_bytes() == content
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_server_with_an_empty_database_shows_the_results_of_its_ledger(
    service: Service, fill: Callable[..., list[str]], tmp_path: Path
) -> None:
    fill({"name": "Committed"}, {"name": "As well"})
    process, url = start_web(
        tmp_path / "log", "--data", str(tmp_path / "fresh"), "--ledger", str(service.settings.ledger)
    )
    try:
        page = httpx2.get(url, timeout=60).text
    finally:
        process.terminate()
        process.wait()
    assert "Committed" in page
    assert "As well" in page
    assert "imulated" in page
