"""Protection of the application: limits on request headers and bodies, and security headers in responses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from typing import Any
from urllib.parse import quote, urlsplit

from prometheus_client import Counter
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from leaderboard.settings import Settings
from leaderboard.web.render import CONTENT_POLICY

log = logging.getLogger(__name__)
HEADER_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 120.0  # for a client to receive the buffered data, about 64 KB unless a page is larger
SMALL_BODY = 256 * 1024  # a model card and a few fields

UNHOSTED = ("/healthz", "/metrics")  # requested by programs on the same machine

SAFE_HEADERS = [
    (b"content-security-policy", f"{CONTENT_POLICY}; frame-ancestors 'none'".encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with two time limits that uvicorn lacks: for request headers and slow readers."""

    def connection_made(self, transport: Any) -> None:
        """Start the header timeout with the connection."""
        super().connection_made(transport)
        self._clock: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the header timeout when a request is complete; start it when the next begins."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeouts."""
        for timer in (self._clock, self._reader):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Abort the connection if the client does not read in time. Closing it would wait for the client too."""
        super().pause_writing()
        self._reader = self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the write timeout: the client has received the buffered data."""
        super().resume_writing()
        if self._reader:
            self._reader.cancel()

    def _watch(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self._clock is None:
            self._clock = self.loop.call_later(HEADER_TIMEOUT_S, self._give_up)
        elif not waiting and self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self) -> None:
        self._clock = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class BodyRefused(Exception):
    """A request body that is not read completely; becomes the response, even if the application handles the error."""

    def __init__(self, status: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.remedy = remedy


class Guard:
    """ASGI middleware: limits request bodies, adds security headers, counts and logs responses.

    Behind a proxy with TLS (``public_url`` begins with https:), it also sends HSTS, and redirects requests for another
    host to the public one.

    Args:
        app: the application.
        settings: limits and the public address.
        requests: counter of responses, by method and status.
    """

    def __init__(self, app: ASGIApp, settings: Settings, requests: Counter) -> None:
        self.app = app
        self.settings = settings
        self.requests = requests
        self._host = urlsplit(settings.public_url).netloc if settings.public_url.startswith("https:") else ""
        hsts = (b"strict-transport-security", b"max-age=31536000")
        self._headers = [*SAFE_HEADERS, hsts] if self._host else SAFE_HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.monotonic()
        elsewhere = self._elsewhere(scope)
        if elsewhere:
            location = [(b"location", elsewhere.encode("latin-1", "replace")), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 308, "headers": [*location, *self._headers]})
            await send({"type": "http.response.body", "body": b""})
            return
        head = scope["method"] == "HEAD"
        if head:  # as GET; the server sends the headers only
            scope = {**scope, "method": "GET"}
        form = scope["method"] == "POST" and scope["path"] == "/submit"
        seconds = self.settings.form_s if form else math.inf
        body = _Body(receive, self._limit(scope), self.settings, seconds)
        started = False

        async def safe_send(message: Message) -> None:
            nonlocal started
            if body.refused and not started:
                return  # the framework's own error for a body that it could not read; ours follows below
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *self._headers]
                self._note(scope, message["status"], time.monotonic() - begun)
            elif head:
                message = {**message, "body": b""}
            await send(message)

        with contextlib.suppress(BodyRefused):
            await self.app(scope, body.receive, safe_send)
        if body.refused and not started:
            self._note(scope, body.refused.status, time.monotonic() - begun)
            await _answer(send, body.refused)

    def _elsewhere(self, scope: Scope) -> str:
        """Address at the public host for a request that names another one; empty if there is nothing to redirect."""
        if not self._host or scope["method"] not in ("GET", "HEAD") or scope["path"] in UNHOSTED:
            return ""
        if dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower() == self._host.lower():
            return ""
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        return f"https://{self._host}{quote(scope['path'])}{query}"

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a response; log refused requests, and all if ``access_log`` is set. Queries are not logged."""
        method = scope["method"] if scope["method"] in ("GET", "POST", "PUT") else "other"
        self.requests.labels(method, str(status)).inc()
        refused = status in (401, 403, 408, 413, 429)
        if refused or self.settings.access_log:
            client = (scope.get("client") or ("-",))[0]
            path = quote(scope["path"])[:200]
            log.log(
                logging.WARNING if refused else logging.INFO,
                "%s %s %s %d %.0f ms",
                client,
                scope["method"],
                path,
                status,
                1000 * seconds,
            )

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "PUT" and scope["path"].startswith("/api/v1/uploads/"):
            return self.settings.chunk_bytes
        if scope["method"] == "POST" and scope["path"] == "/submit":
            return self.settings.max_form_bytes + SMALL_BODY
        return SMALL_BODY


class _Body:
    """The body of one request, read under the limits of the guard."""

    def __init__(self, receive: Receive, limit: int, settings: Settings, seconds: float) -> None:
        self.refused: BodyRefused | None = None
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._settings = settings
        self._clock = asyncio.get_running_loop().time
        self._begun = self._clock()
        self._total = 0
        self._ended = False

    async def receive(self) -> Message:
        """The next message; raises ``BodyRefused`` if it does not arrive in time or the body is too large."""
        if self._ended:  # the framework waits for the client to disconnect, without a time limit
            return await self._receive()
        try:
            async with asyncio.timeout(self._settings.body_idle_s):
                message = await self._receive()
        except TimeoutError:
            raise self._refuse(408, "The request body arrived too slowly.", "Resume the upload.") from None
        if message["type"] == "http.request":
            self._total += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._total > self._limit:
                raise self._refuse(413, f"The body has more than {self._limit:,} bytes.", "See the limits at /about.")
            allowed = min(self._seconds, self._settings.body_idle_s + self._total / self._settings.body_rate)
            if not self._ended and self._clock() - self._begun > allowed:
                raise self._refuse(408, "The request body arrived too slowly.", "Resume the upload.")
        return message

    def _refuse(self, status: int, what: str, remedy: str) -> BodyRefused:
        self.refused = BodyRefused(status, what, remedy)
        return self.refused


async def _answer(send: Send, refused: BodyRefused) -> None:
    body = json.dumps({"what": refused.what, "remedy": refused.remedy}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *SAFE_HEADERS]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
