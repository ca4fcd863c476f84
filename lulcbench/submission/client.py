"""Sending a submission to a leaderboard: resumable upload, waiting for the scores, tokens.

The interface is documented by the service itself at ``/docs``: POST ``/api/v1/uploads``, PUT
``/api/v1/uploads/{id}?offset=N`` until all bytes are there, POST ``…/complete``, GET ``/api/v1/submissions/{id}``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import httpx2

from lulcbench._files import hash_file, write_atomic
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, parse_toml, read_limited
from lulcbench.errors import LulcbenchError, NetworkError
from lulcbench.evaluation.scores import Scores
from lulcbench.remote.retry import retrying, transient
from lulcbench.remote.stores import describe
from lulcbench.submission.card import ModelCard

TOKEN_VARIABLE = "LULCBENCH_TOKEN"  # noqa: S105 (the variable's name, not a token)
MAX_ANSWER_BYTES = 16 * 2**20  # of one answer; scores of 46 classes at four levels have some 100 kB
log = logging.getLogger(__name__)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class LeaderboardError(LulcbenchError):
    """A leaderboard answered with an error, or not as a leaderboard does. ``response`` is its answer, already read."""

    def __init__(self, response: httpx2.Response, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.response = response


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
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LulcbenchError(f"{url!r} is not a web address.", "Give one such as https://board.example.")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise LulcbenchError(f"{url} is not encrypted; a token would be readable on the way.", "Use https.")
        self.url = _base(url)
        self._sleep = sleep
        # Redirects are not followed, so the token never goes elsewhere.
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx2.Timeout(60, connect=15),
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
            NetworkError: the leaderboard cannot be reached after several attempts.
            LulcbenchError: the leaderboard refuses.
        """
        path = Path(path)
        size, sha256 = path.stat().st_size, hash_file(path)
        note = path.with_name(path.name + ".upload.json")
        begun = {"url": self.url, "sha256": sha256, "card": _digest(card)}
        state = self._resume(note, begun) or self._begin(note, path.name, size, begun, card)
        upload = f"/api/v1/uploads/{state['upload_id']}"
        offset, chunk = int(state["offset"]), max(1, int(state["chunk_size"]))
        with path.open("rb") as file:
            while offset < size:
                offset = self._send_chunk(upload, file, offset, chunk, size)
                advance(offset, size)
        submission: str = self._send("POST", f"{upload}/complete")["submission_id"]
        note.unlink(missing_ok=True)
        return submission

    def wait(self, submission_id: str, timeout: float = 3600) -> Result:
        """Wait until a submission is scored.

        Raises:
            UnsupportedFormatError: the scores are of a newer scorer.
            LulcbenchError: it was refused (says why), or is not scored after ``timeout`` seconds.
        """
        waited, pause = 0.0, 1.0
        while True:
            state = self._send("GET", f"/api/v1/submissions/{submission_id}")
            if state["status"] == "scored" and state.get("scores") is None:
                error = state.get("error") or {}
                raise LulcbenchError(str(error.get("what", "The scores cannot be read.")), str(error.get("remedy", "")))
            if state["status"] == "scored":
                return Result(submission_id, state["url"], _scores(state))
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
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s is ignored, since it cannot be read: %s; a new upload begins", note, error)
            return None
        try:
            return self._send("GET", f"/api/v1/uploads/{upload}")
        except LeaderboardError as error:
            if error.response.status_code == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request, retried by the common policy."""
        try:
            return retrying(self.url, sleep=self._sleep)(self._ask, method, path, json=body)
        except httpx2.TransportError as error:
            raise NetworkError(
                f"Cannot reach {self.url}: {describe(error)}.", "Check the address, or try again later."
            ) from error

    def _send_chunk(self, upload: str, file: BinaryIO, offset: int, chunk: int, size: int) -> int:
        """Send the bytes from ``offset`` on; returns how many have arrived in all, which is more than ``offset``."""

        def attempt() -> int:
            nonlocal offset
            file.seek(offset)
            problem = "nothing arrived"
            try:
                arrived = int(self._ask("PUT", upload, params={"offset": offset}, content=file.read(chunk))["offset"])
            except (httpx2.TransportError, LeaderboardError) as error:
                conflict = isinstance(error, LeaderboardError) and error.response.status_code == HTTPStatus.CONFLICT
                if not (conflict or transient(error)):
                    raise
                problem = describe(error)
                arrived = int(self._send("GET", upload)["offset"])  # part of the chunk, or more than was known
            if arrived > offset:
                return arrived
            offset = arrived
            raise ConnectionError(problem)

        try:
            return retrying(f"upload to {self.url}", sleep=self._sleep)(attempt)
        except ConnectionError as error:
            raise NetworkError(
                f"The upload to {self.url} stopped at byte {offset:,} of {size:,}: {error}.",
                "Run the same command again; it continues from there.",
            ) from error

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send one request, and read no more of its answer than any leaderboard sends."""
        with self._http.stream(method, path, **request) as answer:
            content = bytearray()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise LulcbenchError(
                        f"{answer.request.url} answers with more than {MAX_ANSWER_BYTES:,} bytes.",
                        "Check the address (--to).",
                    )
        try:
            told: dict[str, Any] = parse_json(bytes(content), max_bytes=MAX_ANSWER_BYTES)
        except LulcbenchError:
            told = {}
        if answer.is_success and told:
            return told
        if isinstance(told.get("what"), str):
            raise LeaderboardError(answer, _printable(told["what"]), _printable(str(told.get("remedy", ""))))
        raise LeaderboardError(
            answer,
            f"{answer.request.url} answers {answer.status_code}, not as a leaderboard does.",
            "Check the address (--to).",
        )


def _scores(state: dict[str, Any]) -> Scores:
    try:
        return Scores.read(state["scores"] if isinstance(state["scores"], dict) else {}, "The leaderboard's answer")
    except LulcbenchError as error:
        raise type(error)(error.what, f"See {state['url']}. {error.remedy}") from error


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:2000])


def _header_safe(token: str, where: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise LulcbenchError(
            f"{where} does not hold a token.", "A token is one word of letters, digits and punctuation."
        )
    return token


def _digest(card: ModelCard) -> str:
    return hashlib.sha256(json.dumps(card.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _base(url: str) -> str:
    return url.rstrip("/")
