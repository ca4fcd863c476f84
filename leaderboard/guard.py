"""What stands between the network and the application: limits on headers and bodies, and safe response headers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from leaderboard.settings import Settings

HEADER_TIMEOUT_S = 10.0
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
    """uvicorn's HTTP/1.1, with a time limit for a request's headers, which uvicorn itself does not have."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock with the connection."""
        super().connection_made(transport)
        self._clock: asyncio.TimerHandle | None = None
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a request is complete; start it when the next begins."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing left to watch."""
        if self._clock:
            self._clock.cancel()
        super().connection_lost(exc)

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


class BodyTooLarge(Exception):
    """More bytes came than this path takes."""


class BodyTooSlow(Exception):
    """The body stalled, or came more slowly than ``body_rate``."""


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
        started = False

        async def safe_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *SAFE_HEADERS]
            await send(message)

        try:
            await self.app(scope, self._bounded(receive, self._limit(scope)), safe_send)
        except BodyTooLarge:
            if not started:
                await _answer(safe_send, 413, "The request body is too large.", "See the limits at /about.")
        except BodyTooSlow:
            if not started:
                await _answer(safe_send, 408, "The request body came too slowly.", "Resume the upload.")

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "PUT" and scope["path"].startswith("/api/v1/uploads/"):
            return self.settings.chunk_bytes
        if scope["method"] == "POST" and scope["path"] == "/submit":
            return self.settings.max_form_bytes + SMALL_BODY
        return SMALL_BODY

    def _bounded(self, receive: Receive, limit: int) -> Receive:
        clock = asyncio.get_running_loop().time
        begun, total, ended = clock(), 0, False

        async def bounded() -> Message:
            nonlocal total, ended
            if ended:  # the framework listens for the client to leave; that may take as long as it takes
                return await receive()
            try:
                async with asyncio.timeout(self.settings.body_idle_s):
                    message = await receive()
            except TimeoutError as error:
                raise BodyTooSlow from error
            if message["type"] == "http.request":
                total += len(message.get("body", b""))
                ended = not message.get("more_body", False)
                if total > limit:
                    raise BodyTooLarge
                if not ended and clock() - begun > self.settings.body_idle_s + total / self.settings.body_rate:
                    raise BodyTooSlow
            return message

        return bounded


async def _answer(send: Send, status: int, what: str, remedy: str) -> None:
    body = json.dumps({"what": what, "remedy": remedy}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
