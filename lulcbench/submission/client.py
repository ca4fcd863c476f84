"""Sending a submission to a leaderboard: resumable upload, waiting for the scores, tokens.

The interface is documented by the service itself at ``/docs``: POST ``/api/v1/uploads``, PUT
``/api/v1/uploads/{id}?offset=N`` until all bytes are there, POST ``…/complete``, GET ``/api/v1/submissions/{id}``.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import httpx

from lulcbench._files import hash_file, write_atomic
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, parse_toml, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scores import Scores
from lulcbench.submission.card import ModelCard

TOKEN_VARIABLE = "LULCBENCH_TOKEN"  # noqa: S105 (the variable's name, not a token)
MAX_ANSWER_BYTES = 16 * 2**20  # of one answer; scores of 46 classes at four levels have some 100 kB
_TRIES = 6  # of one request, 1 s, 2 s, 4 s, … apart
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Answer(NamedTuple):
    url: str
    status_code: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a submission: its page, and its scores unless it was not waited for."""

    submission_id: str
    url: str
    scores: Scores | None


def find_token(url: str) -> str:
    """The token for a leaderboard: from ``LULCBENCH_TOKEN``, or else from ``tokens.toml``.

    The file maps addresses to tokens (``"https://board.example" = "…"``). It must belong to the user and be readable
    by nobody else, since a token is a password.

    Raises:
        LulcbenchError: there is no token for this address, or the file is open to others.
    """
    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        return _header_safe(token, TOKEN_VARIABLE)
    path = token_file()
    remedy = f"Set {TOKEN_VARIABLE}, or put the line '\"{_base(url)}\" = \"TOKEN\"' into {path} and 'chmod 600' it."
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if state.st_uid != os.getuid() or stat.S_IMODE(state.st_mode) & 0o077:
                raise LulcbenchError(f"{path} is open to other users.", f"Run 'chmod 600 {path}'.")
            tokens = parse_toml(file.read(MAX_TEXT_BYTES + 1), str(path), remedy)
    except FileNotFoundError as error:
        raise LulcbenchError(f"No token for {_base(url)}.", remedy) from error
    found = tokens.get(_base(url))
    if not isinstance(found, str):
        raise LulcbenchError(f"{path} has no token for {_base(url)}.", remedy)
    return _header_safe(found.strip(), str(path))


def token_file() -> Path:
    """``$XDG_CONFIG_HOME/lulcbench/tokens.toml``, by default below ``~/.config``."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "lulcbench" / "tokens.toml"


class Client:
    """A leaderboard, spoken to with a token. A context manager.

    Args:
        url: address of the leaderboard; plain http is refused except to this machine, as it would show the token.
        token: see ``find_token``.
        transport: how requests are sent; tests put the service itself here.
        sleep: how to wait.
    """

    def __init__(
        self,
        url: str,
        token: str,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LulcbenchError(f"{url!r} is no web address.", "Give one such as https://board.example.")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise LulcbenchError(f"{url} is not encrypted; a token would be readable on the way.", "Use https.")
        self.url = _base(url)
        self._sleep = sleep
        # Redirects are not followed, so the token never goes elsewhere.
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(60, connect=15),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def upload(
        self,
        path: str | os.PathLike[str],
        card: ModelCard,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> str:
        """Upload predictions, continuing an interrupted upload of the same file and card, and queue them for scoring.

        Where it stands is kept in ``<file>.upload.json`` beside the file until all has arrived. The leaderboard keeps
        the card that an upload began with, so that an edited card begins a new one.

        Args:
            path: the predictions file.
            card: the model card.
            advance: called with (bytes sent, bytes in all).

        Returns:
            The submission's id.

        Raises:
            LulcbenchError: the leaderboard refuses, or cannot be reached after several tries.
        """
        path = Path(path)
        size, sha256 = path.stat().st_size, hash_file(path)
        note = path.with_name(path.name + ".upload.json")
        begun = {"url": self.url, "sha256": sha256, "card": _digest(card)}
        state = self._resume(note, begun) or self._begin(note, path.name, size, begun, card)
        upload = f"/api/v1/uploads/{state['upload_id']}"
        offset, chunk = int(state["offset"]), max(1, int(state["chunk_size"]))
        stalled = 0
        with path.open("rb") as file:
            while offset < size:
                file.seek(offset)
                before = offset
                try:
                    answer = self._ask("PUT", upload, params={"offset": offset}, content=file.read(chunk))
                    if answer.status_code != 409 and answer.status_code < 500:
                        offset = int(_content(answer)["offset"])
                except httpx.TransportError:
                    pass  # what arrived of the chunk is asked for below
                if offset <= before:
                    stalled += 1
                    if stalled == _TRIES:
                        raise LulcbenchError(
                            f"The upload to {self.url} stopped at byte {offset:,} of {size:,}.",
                            "Run the same command again; it continues from there.",
                        )
                    self._sleep(2 ** (stalled - 1))
                    offset = int(self._send("GET", upload)["offset"])
                stalled = 0 if offset > before else stalled
                advance(offset, size)
        submission: str = self._send("POST", f"{upload}/complete")["submission_id"]
        note.unlink(missing_ok=True)
        return submission

    def wait(self, submission_id: str, timeout: float = 3600) -> Result:
        """Wait until a submission is scored.

        Raises:
            LulcbenchError: it was refused (says why), or is not scored after ``timeout`` seconds.
        """
        waited, pause = 0.0, 1.0
        while True:
            state = self._send("GET", f"/api/v1/submissions/{submission_id}")
            if state["status"] == "scored" and state.get("scores") is None:
                error = state.get("error") or {}
                raise LulcbenchError(str(error.get("what", "The scores cannot be read.")), str(error.get("remedy", "")))
            if state["status"] == "scored":
                return Result(submission_id, state["url"], Scores.model_validate(state["scores"]))
            if state["status"] in ("refused", "withdrawn"):
                error = state.get("error") or {}
                what = error.get("what", f"It was {state['status']}.")
                raise LulcbenchError(f"The leaderboard refused the submission: {what}", error.get("remedy", ""))
            if waited >= timeout:
                why = (state.get("error") or {}).get("what", state["status"])
                raise LulcbenchError(f"Not scored after {timeout:.0f} s ({why}).", f"See {state['url']}.")
            self._sleep(pause)
            waited += pause
            pause = min(pause * 1.5, 10)

    def page(self, submission_id: str) -> str:
        """Address of a submission's page."""
        url: str = self._send("GET", f"/api/v1/submissions/{submission_id}")["url"]
        return url

    def _begin(self, note: Path, name: str, size: int, begun: dict[str, str], card: ModelCard) -> dict[str, Any]:
        body = {"filename": name, "size": size, "sha256": begun["sha256"], "card": card.model_dump(mode="json")}
        state = self._send("POST", "/api/v1/uploads", body)
        write_atomic(note, json.dumps(begun | {"upload_id": state["upload_id"]}).encode())
        return state

    def _resume(self, note: Path, begun: dict[str, str]) -> dict[str, Any] | None:
        try:
            kept = parse_json(read_limited(note, MAX_TEXT_BYTES))
            upload = kept.pop("upload_id")
            if kept != begun:
                return None
        except (OSError, ValueError, KeyError):
            return None
        answer = self._try("GET", f"/api/v1/uploads/{upload}")
        return None if answer.status_code == 404 else _content(answer)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return _content(self._try(method, path, body))

    def _try(self, method: str, path: str, body: dict[str, Any] | None = None) -> _Answer:
        """Send a request; again after a pause while the service is away or busy."""
        for attempt in range(_TRIES):
            try:
                answer = self._ask(method, path, json=body)
                problem = f"it answers {answer.status_code}"
                if answer.status_code not in (502, 503, 504):
                    return answer
            except httpx.TransportError as error:
                problem = str(error) or type(error).__name__
            if attempt < _TRIES - 1:
                self._sleep(2**attempt)
        raise LulcbenchError(f"Cannot reach {self.url}: {problem}.", "Check the address, or try again later.")

    def _ask(self, method: str, path: str, **request: Any) -> _Answer:
        """Send one request, and read no more of its answer than any leaderboard sends."""
        with self._http.stream(method, path, **request) as answer:
            url, content = str(answer.request.url), bytearray()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise LulcbenchError(
                        f"{url} answers with more than {MAX_ANSWER_BYTES:,} bytes.", "Check the address (--to)."
                    )
            return _Answer(url, answer.status_code, bytes(content))


def _content(answer: _Answer) -> dict[str, Any]:
    try:
        content = parse_json(answer.content, max_bytes=MAX_ANSWER_BYTES)
    except LulcbenchError:
        content = None
    if 200 <= answer.status_code < 300 and content is not None:
        return content
    if content is not None and isinstance(content.get("what"), str):
        raise LulcbenchError(_printable(content["what"]), _printable(str(content.get("remedy", ""))))
    raise LulcbenchError(
        f"{answer.url} answers {answer.status_code}, not as a leaderboard does.", "Check the address (--to)."
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:2000])


def _header_safe(token: str, where: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise LulcbenchError(f"{where} holds no token.", "A token is one word of letters, digits and punctuation.")
    return token


def _digest(card: ModelCard) -> str:
    return hashlib.sha256(json.dumps(card.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _base(url: str) -> str:
    return url.rstrip("/")
