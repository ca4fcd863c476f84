"""Client of a leaderboard: resumable upload, waiting for the scores, tokens.

The service documents its interface at ``/docs``: POST ``/api/v1/uploads``, PUT ``/api/v1/uploads/{id}?offset=N`` until
all bytes have arrived, POST ``…/complete``, GET ``/api/v1/submissions/{id}``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import suppress
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

TOKEN_VARIABLE = "LULCBENCH_TOKEN"  # noqa: S105 (the name of the variable, not a token)
MAX_TEXT = 2000  # characters of an error of the server
MAX_CHUNK_BYTES = 64 * 2**20  # of one request, even if the server asks for more
MAX_RESPONSE_BYTES = 16 * 2**20  # per response; scores of 46 classes at four levels have about 100 kB
log = logging.getLogger(__name__)
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class LeaderboardError(LulcbenchError):
    """A leaderboard responded with an error, or not like a leaderboard. ``response`` has been read."""

    def __init__(self, response: httpx2.Response, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.response = response


@dataclass(frozen=True, slots=True)
class Result:
    """Page and scores of a scored submission."""

    submission_id: str
    url: str
    scores: Scores | None


def find_token(url: str) -> str:
    """Find the token for a leaderboard in ``LULCBENCH_TOKEN``, or else in ``tokens.toml``.

    The file maps addresses to tokens (``"https://board.example" = "…"``). It must belong to the user, and other users
    must not be able to read it, since a token is a password.

    Raises:
        LulcbenchError: there is no token for this address, or other users can read the file.
    """
    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        return _header_safe(token, TOKEN_VARIABLE)
    path = token_file()
    remedy = f"Set {TOKEN_VARIABLE}, or put the line '\"{_base(url)}\" = \"TOKEN\"' into {path} and 'chmod 600' it."
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            if state.st_uid != os.getuid() or stat.S_IMODE(state.st_mode) & 0o077:
                raise LulcbenchError(f"Other users can read {path}.", f"Run 'chmod 600 {path}'.")
            tokens = parse_toml(file.read(MAX_TEXT_BYTES + 1), str(path), remedy)
    except FileNotFoundError as error:
        raise LulcbenchError(f"There is no token for {_base(url)}.", remedy) from error
    entry = tokens.get(_base(url))
    if not isinstance(entry, str):
        raise LulcbenchError(f"{path} has no token for {_base(url)}.", remedy)
    return _header_safe(entry.strip(), str(path))


def token_file() -> Path:
    """``$XDG_CONFIG_HOME/lulcbench/tokens.toml``, by default below ``~/.config``."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "lulcbench" / "tokens.toml"


class Client:
    """Client of a leaderboard; a context manager.

    Args:
        url: address of the leaderboard; plain http is refused except to this machine, to protect the token.
        token: see ``find_token``.
        transport: transport of requests, for tests.
        sleep: function that waits, for tests.

    Raises:
        LulcbenchError: the address is not valid, or not encrypted.
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
            raise LulcbenchError(f"{url} is not encrypted; others could read the token.", "Use https.")
        self.url = _base(url)
        self._sleep = sleep
        # Redirects are not followed, so that the token is not sent to other servers.
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
        """Upload predictions, resuming an interrupted upload of the same file and card, and queue them for scoring.

        The state of the upload is stored in ``<file>.upload.json`` until it is complete. The leaderboard stores the
        card at the start of an upload, so that an edited card starts a new one.

        Args:
            path: the predictions file.
            card: the model card.
            advance: called with (bytes sent, total bytes).

        Returns:
            Id of the submission.

        Raises:
            NetworkError: the leaderboard cannot be reached after several attempts.
            LulcbenchError: the leaderboard refuses the upload.
        """
        path = Path(path)
        if not path.is_file():
            raise LulcbenchError(f"No file {path}.", "Give the path of a predictions file (.zip).")
        size, sha256 = path.stat().st_size, hash_file(path)
        note = path.with_name(path.name + ".upload.json")
        identity = {"url": self.url, "sha256": sha256, "card": _digest(card)}
        state = self._resume(note, identity) or self._begin(note, path.name, size, identity, card)
        upload = f"/api/v1/uploads/{self._id(state, 'upload_id')}"
        offset, chunk = self._number(state, "offset", 0, size), self._number(state, "chunk_size", 1)
        with path.open("rb") as file:
            while offset < size:
                offset = self._send_chunk(upload, file, offset, chunk, size)
                advance(offset, size)
        submission = self._id(self._send("POST", f"{upload}/complete"), "submission_id")
        with suppress(OSError):
            note.unlink(missing_ok=True)
        return submission

    def wait(self, submission_id: str, timeout: float = 3600) -> Result:
        """Wait until a submission is scored.

        Raises:
            UnsupportedFormatError: the scores have a format of a newer version.
            LulcbenchError: the submission was refused (with the reason), or is not scored after ``timeout`` seconds.
        """
        waited, pause = 0.0, 1.0
        while True:
            state = self._send("GET", f"/api/v1/submissions/{submission_id}")
            status, url = self._text(state, "status"), self._text(state, "url")
            if status == "scored" and state.get("scores") is None:
                raise LulcbenchError(*_error(state, "The scores cannot be read."))
            if status == "scored":
                return Result(submission_id, url, _scores(state, url))
            if status in ("refused", "withdrawn"):
                what, remedy = _error(state, f"It was {status}.")
                raise LulcbenchError(f"The leaderboard refused the submission: {what}", remedy)
            if waited >= timeout:
                raise LulcbenchError(
                    f"The submission is not scored after {timeout:.0f} s ({_error(state, status)[0]}).", f"See {url}."
                )
            self._sleep(pause)
            waited += pause
            pause = min(pause * 1.5, 10)

    def page(self, submission_id: str) -> str:
        """Address of the page of a submission."""
        return self._text(self._send("GET", f"/api/v1/submissions/{submission_id}"), "url")

    def _id(self, state: dict[str, Any], key: str) -> str:
        """An id in a response, which becomes part of an address."""
        value = state.get(key)
        if not isinstance(value, str) or not _ID.fullmatch(value):
            raise self._not_a_leaderboard(key, value)
        return value

    def _text(self, state: dict[str, Any], key: str) -> str:
        """A text in a response."""
        value = state.get(key)
        if not isinstance(value, str):
            raise self._not_a_leaderboard(key, value)
        return value[:MAX_TEXT]

    def _number(self, state: dict[str, Any], key: str, low: int, high: int | None = None) -> int:
        """A whole number in a response, between two bounds."""
        value = state.get(key)
        if type(value) is not int or value < low or (high is not None and value > high):
            raise self._not_a_leaderboard(key, value)
        return value

    def _not_a_leaderboard(self, key: str, value: Any) -> LulcbenchError:
        what = f"The response of {self.url} states {key} {str(value)[:80]!r}, which is not possible."
        return LulcbenchError(what, "Check the address (--to); if it is right, tell the operator of the leaderboard.")

    def _begin(self, note: Path, name: str, size: int, identity: dict[str, str], card: ModelCard) -> dict[str, Any]:
        body = {"filename": name, "size": size, "sha256": identity["sha256"], "card": card.model_dump(mode="json")}
        state = self._send("POST", "/api/v1/uploads", body)
        try:
            write_atomic(note, json.dumps(identity | {"upload_id": self._id(state, "upload_id")}).encode())
        except OSError as error:  # such as a folder that cannot be written
            log.warning("%s is not written: %s; an interrupted upload will begin again", note, error)
        return state

    def _resume(self, note: Path, identity: dict[str, str]) -> dict[str, Any] | None:
        try:
            state = parse_json(read_limited(note, MAX_TEXT_BYTES))
            upload = state.pop("upload_id")
            if state != identity:
                return None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s is ignored, because it cannot be read: %s; starting a new upload", note, error)
            return None
        try:
            return self._send("GET", f"/api/v1/uploads/{upload}")
        except LeaderboardError as error:
            if error.response.status_code == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request with retries; returns the response."""
        try:
            return retrying(self.url, sleep=self._sleep)(self._request, method, path, json=body)
        except httpx2.TransportError as error:
            raise NetworkError(
                f"Cannot reach {self.url}: {describe(error)}.", "Check the address, or try again later."
            ) from error

    def _send_chunk(self, upload: str, file: BinaryIO, offset: int, chunk: int, size: int) -> int:
        """Send the chunk at ``offset``; returns the total number of bytes that have arrived, more than ``offset``."""

        def attempt() -> int:
            nonlocal offset
            file.seek(offset)
            reason = "nothing arrived"
            try:
                content = file.read(min(chunk, MAX_CHUNK_BYTES))
                answer = self._request("PUT", upload, params={"offset": offset}, content=content)
                arrived = self._number(answer, "offset", 0, size)
            except (httpx2.TransportError, LeaderboardError) as error:
                conflict = isinstance(error, LeaderboardError) and error.response.status_code == HTTPStatus.CONFLICT
                if not (conflict or transient(error)):
                    raise
                reason = describe(error)
                arrived = self._number(
                    self._send("GET", upload), "offset", 0, size
                )  # part of the chunk, or more than expected
            if arrived > offset:
                return arrived
            offset = arrived
            raise ConnectionError(reason)

        try:
            return retrying(f"upload to {self.url}", sleep=self._sleep)(attempt)
        except ConnectionError as error:
            raise NetworkError(
                f"The upload to {self.url} stopped at byte {offset:,} of {size:,}: {error}.",
                "Run the same command again; it resumes the upload.",
            ) from error

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request and read at most ``MAX_RESPONSE_BYTES`` of the response."""
        with self._http.stream(method, path, **options) as response:
            content = bytearray()
            for data in response.iter_bytes():
                content += data
                if len(content) > MAX_RESPONSE_BYTES:
                    raise LulcbenchError(
                        f"The response of {response.request.url} has more than {MAX_RESPONSE_BYTES:,} bytes.",
                        "Check the address (--to).",
                    )
        try:
            parsed: dict[str, Any] = _harmless(parse_json(bytes(content), max_bytes=MAX_RESPONSE_BYTES))
        except LulcbenchError:
            parsed = {}
        if response.is_success and parsed:
            return parsed
        if isinstance(parsed.get("what"), str):
            raise LeaderboardError(response, parsed["what"][:MAX_TEXT], str(parsed.get("remedy", ""))[:MAX_TEXT])
        raise LeaderboardError(
            response,
            f"The response of {response.request.url} ({response.status_code}) is not that of a leaderboard.",
            "Check the address (--to).",
        )


def _error(state: dict[str, Any], otherwise: str) -> tuple[str, str]:
    """What is wrong with a submission and what to do, in the words of the leaderboard if it has some."""
    error = state.get("error")
    if not isinstance(error, dict):
        return otherwise, ""
    return str(error.get("what", otherwise))[:MAX_TEXT], str(error.get("remedy", ""))[:MAX_TEXT]


def _scores(state: dict[str, Any], url: str) -> Scores:
    try:
        return Scores.read(
            state["scores"] if isinstance(state["scores"], dict) else {}, "The response of the leaderboard"
        )
    except LulcbenchError as error:
        raise type(error)(error.what, f"See {url}. {error.remedy}") from error


def _harmless(value: Any) -> Any:
    """A response without characters that a terminal would obey."""
    if isinstance(value, str):
        return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
    if isinstance(value, dict):
        return {_harmless(key): _harmless(content) for key, content in value.items()}
    return [_harmless(content) for content in value] if isinstance(value, list) else value


def _header_safe(token: str, where: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise LulcbenchError(f"{where} does not contain a token.", "A token has only letters, digits and punctuation.")
    return token


def _digest(card: ModelCard) -> str:
    return hashlib.sha256(json.dumps(card.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _base(url: str) -> str:
    return url.rstrip("/")
