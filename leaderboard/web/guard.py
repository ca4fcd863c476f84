"""What stands between the network and the application: limits on headers and bodies, and safe response headers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from leaderboard.settings import Settings

HEADER_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 120.0  # for a reader to take what waits for it, some 64 KB unless a page is larger
SMALL_BODY = 256 * 1024  # a model card and a few fields

SAFE_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        b"base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with time limits for a request's headers and for its reader, which uvicorn does not have."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock with the connection."""
        super().connection_made(transport)
        self._clock: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a request is complete; start it when the next begins."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing left to watch."""
        for timer in (self._clock, self._reader):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The reader is slower than we write. Closing would wait for it too, so that a connection is cut off."""
        super().pause_writing()
        self._reader = self.loop.call_later(WRITE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken what waited."""
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
    """A request body that is not read to its end; becomes the response, whatever the application makes of it."""

    def __init__(self, status: int, what: str, remedy: str) -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.remedy = remedy


class Guard:
    """ASGI middleware: bounds every request body in size and time, and adds the safe headers to every response."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, self._limit(scope), self.settings)
        started = False

        async def safe_send(message: Message) -> None:
            nonlocal started
            if body.refused and not started:
                return  # the framework's own words for a body that it could not read; ours follow below
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *SAFE_HEADERS]
            await send(message)

        with contextlib.suppress(BodyRefused):
            await self.app(scope, body.receive, safe_send)
        if body.refused and not started:
            await _answer(send, body.refused)

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "PUT" and scope["path"].startswith("/api/v1/uploads/"):
            return self.settings.chunk_bytes
        if scope["method"] == "POST" and scope["path"] == "/submit":
            return self.settings.max_form_bytes + SMALL_BODY
        return SMALL_BODY


class _Body:
    """A request's body on its way through the guard."""

    def __init__(self, receive: Receive, limit: int, settings: Settings) -> None:
        self.refused: BodyRefused | None = None
        self._receive = receive
        self._limit = limit
        self._settings = settings
        self._clock = asyncio.get_running_loop().time
        self._begun = self._clock()
        self._total = 0
        self._ended = False

    async def receive(self) -> Message:
        """The next piece, if it comes in time and the whole is not too large."""
        if self._ended:  # the framework listens for the client to leave; that may take as long as it takes
            return await self._receive()
        try:
            async with asyncio.timeout(self._settings.body_idle_s):
                message = await self._receive()
        except TimeoutError:
            raise self._refuse(408, "The request body came too slowly.", "Resume the upload.") from None
        if message["type"] == "http.request":
            self._total += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._total > self._limit:
                raise self._refuse(413, f"The body has more than {self._limit:,} bytes.", "See the limits at /about.")
            allowed = self._settings.body_idle_s + self._total / self._settings.body_rate
            if not self._ended and self._clock() - self._begun > allowed:
                raise self._refuse(408, "The request body came too slowly.", "Resume the upload.")
        return message

    def _refuse(self, status: int, what: str, remedy: str) -> BodyRefused:
        self.refused = BodyRefused(status, what, remedy)
        return self.refused


async def _answer(send: Send, refused: BodyRefused) -> None:
    body = json.dumps({"what": refused.what, "remedy": refused.remedy}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *SAFE_HEADERS]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
