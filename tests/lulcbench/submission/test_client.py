"""Tokens, and the client against a small leaderboard of its own that can fail in every way."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.cli import score as commands
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scores import Scores
from lulcbench.submission.card import CARD_EXAMPLE, ModelCard
from lulcbench.submission.client import MAX_RESPONSE_BYTES, Client, find_token, token_file

CARD = tomllib.loads(CARD_EXAMPLE)
URL = "https://board.example"


def test_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LULCBENCH_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(LulcbenchError, match="There is no token for"):
        find_token(URL)
    file = token_file()
    file.parent.mkdir()
    file.write_text(f'"{URL}" = "secret"\n')
    file.chmod(0o644)
    with pytest.raises(LulcbenchError, match="Other users can read"):
        find_token(URL)
    file.chmod(0o600)
    assert find_token(URL + "/") == "secret"
    with pytest.raises(LulcbenchError, match=r"no token for https://other\.example"):
        find_token("https://other.example")
    file.write_text("secret")
    with pytest.raises(LulcbenchError, match="not TOML"):
        find_token(URL)
    monkeypatch.setenv("LULCBENCH_TOKEN", " from-the-environment ")
    assert find_token(URL) == "from-the-environment"
    monkeypatch.setenv("LULCBENCH_TOKEN", "two\r\nlines")
    with pytest.raises(LulcbenchError, match="does not contain a token"):
        find_token(URL)


def test_tokens_do_not_travel_in_the_open() -> None:
    for url, message in (
        ("http://board.example", "not encrypted"),
        ("ftp://board.example", "not a web address"),
        ("board.example", "not a web address"),
    ):
        with pytest.raises(LulcbenchError, match=message):
            Client(url, "secret")


class Board:
    """The service's side of the contract, in memory. ``trouble(request)`` may answer, or raise, in its place."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.data = bytearray()
        self.begun: dict[str, Any] | None = None
        self.polls = 0
        self.log: list[str] = []
        self.slept: list[float] = []
        self.trouble: Callable[[httpx2.Request], httpx2.Response | None] = lambda request: None
        self.status = "scored"

    def client(self, token: str = "secret") -> Client:  # noqa: S107
        return Client(URL, token, transport=httpx2.MockTransport(self.answer), sleep=self.slept.append)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/api/v1")
        self.log.append(f"{request.method} {path}")
        assert request.headers["Authorization"] == "Bearer secret"
        if (answer := self.trouble(request)) is not None:
            return answer
        state = {"upload_id": "u1", "chunk_size": 1000, "offset": len(self.data)}
        match request.method, path:
            case "POST", "/uploads":
                self.begun = json.loads(request.content)
                return httpx2.Response(201, json=state)
            case "GET", "/uploads/u1":
                return httpx2.Response(200, json=state)
            case "PUT", "/uploads/u1":
                if int(request.url.params["offset"]) != len(self.data):
                    return httpx2.Response(409, json={"what": "wrong offset", "remedy": ""})
                self.data += request.content
                return httpx2.Response(200, json={"offset": len(self.data)})
            case "POST", "/uploads/u1/complete":
                assert self.begun is not None
                assert hashlib.sha256(self.data).hexdigest() == self.begun["sha256"]
                return httpx2.Response(202, json={"submission_id": "s1", "url": f"{URL}/submissions/s1"})
            case "GET", "/submissions/s1":
                self.polls += 1
                status = self.status if self.polls > 2 else "queued"
                content = {"status": status, "url": f"{URL}/submissions/s1", "error": None, "scores": None}
                if status == "scored":
                    content["scores"] = self.scores.model_dump(mode="json")
                if status == "refused":
                    content["error"] = {"what": "No good.", "remedy": "Do better."}
                return httpx2.Response(200, json=content)
        return httpx2.Response(404, json={"what": "nothing here", "remedy": ""})


def test_upload_and_wait(submission: tuple[Path, Scores]) -> None:
    path, scores = submission
    board = Board(scores)
    seen: list[tuple[int, int]] = []
    with board.client() as client:
        identity = client.upload(path, ModelCard.model_validate(CARD), lambda done, total: seen.append((done, total)))
        result = client.wait(identity)
    assert bytes(board.data) == path.read_bytes()
    assert board.begun is not None
    assert (board.begun["filename"], board.begun["size"]) == ("p.zip", path.stat().st_size)
    assert board.begun["card"]["name"] == CARD["name"]
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)
    assert result.scores == scores
    assert result.url == f"{URL}/submissions/s1"
    assert not path.with_name("p.zip.upload.json").exists()


def test_an_interrupted_upload_continues(submission: tuple[Path, Scores]) -> None:
    path, scores = submission
    board = Board(scores)
    cut = path.stat().st_size // 2

    def cable_cut(request: httpx2.Request) -> httpx2.Response | None:
        if request.method in ("PUT", "GET") and len(board.data) >= cut:
            raise httpx2.ConnectError("cable cut")
        return None

    board.trouble = cable_cut
    card = ModelCard.model_validate(CARD)
    with board.client() as client, pytest.raises(LulcbenchError, match=r"Cannot reach .*cable cut"):
        client.upload(path, card)
    assert path.with_name("p.zip.upload.json").exists()
    board.trouble = lambda request: None
    board.log.clear()
    with board.client() as client:
        assert client.upload(path, card) == "s1"
    assert "POST /uploads" not in board.log  # nothing is begun, or counted, twice
    assert bytes(board.data) == path.read_bytes()


def test_an_edited_card_begins_a_new_upload(submission: tuple[Path, Scores]) -> None:
    """The ledger keeps the card for ever, so that a correction must not be lost between two tries."""
    path, scores = submission
    board = Board(scores)

    def interrupt(request: httpx2.Request) -> httpx2.Response | None:
        if request.method == "PUT":
            raise KeyboardInterrupt
        return None

    board.trouble = interrupt
    with board.client() as client, pytest.raises(KeyboardInterrupt):
        client.upload(path, ModelCard.model_validate(CARD))
    board.trouble = lambda request: None
    with board.client() as client:
        client.upload(path, ModelCard.model_validate(CARD | {"saw_scored_labels": True}))
    assert board.begun is not None
    assert board.begun["card"]["saw_scored_labels"] is True
    assert board.log.count("POST /uploads") == 2


def test_other_files_than_predictions_are_not_sent(
    submission: tuple[Path, Scores], card_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(submission[1])
    monkeypatch.setenv("LULCBENCH_TOKEN", "secret")
    monkeypatch.setattr(commands, "Client", lambda to, token: board.client(token))
    (tmp_path / "notes.zip").write_text("a text")
    command = ["--card", str(card_file), "--to", URL, "--no-wait"]
    result = CliRunner().invoke(app, ["submit", str(tmp_path / "notes.zip"), *command])
    assert isinstance(result.exception, LulcbenchError)
    assert board.log == []
    result = CliRunner().invoke(app, ["submit", str(submission[0]), *command])
    assert result.exit_code == 0, result.output
    assert "pixels are not checked" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("POST", {"upload_id": "../../admin"}),
        ("POST", {"upload_id": 7}),
        ("POST", {"chunk_size": 0}),
        ("POST", {"offset": -100}),
        ("POST", {"offset": "abc"}),
        ("POST", {"offset": 10**12}),
        ("PUT", {"offset": 10**12}),
        ("PUT", {"offset": None}),
        ("POST complete", {"submission_id": "../../admin"}),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else value,
)
def test_what_a_server_cannot_mean_is_refused(
    submission: tuple[Path, Scores], method: str, changes: dict[str, Any]
) -> None:
    path, scores = submission
    board = Board(scores)

    def lie(request: httpx2.Request) -> httpx2.Response | None:
        complete = " complete" if request.url.path.endswith("complete") else ""
        if f"{request.method}{complete}" != method:
            return None
        honest = {"upload_id": "u1", "chunk_size": 1000, "offset": 0, "submission_id": "s1"}
        return httpx2.Response(200, json=honest | changes)

    board.trouble = lie
    (key,) = changes
    with board.client() as client, pytest.raises(LulcbenchError, match=f"states {key} .*which is not possible"):
        client.upload(path, ModelCard.model_validate(CARD))
    path.with_name("p.zip.upload.json").unlink(missing_ok=True)


def test_a_server_cannot_ask_for_more_memory_than_a_chunk(
    submission: tuple[Path, Scores], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, scores = submission
    board = Board(scores)
    sizes: list[int] = []

    def greedy(request: httpx2.Request) -> httpx2.Response | None:
        if request.method == "PUT":
            sizes.append(len(request.content))
        if request.url.path.endswith("/uploads"):
            board.begun = json.loads(request.content)
            return httpx2.Response(201, json={"upload_id": "u1", "chunk_size": 10**12, "offset": 0})
        return None

    board.trouble = greedy
    monkeypatch.setattr("lulcbench.submission.client.MAX_CHUNK_BYTES", 500)
    with board.client() as client:
        client.upload(path, ModelCard.model_validate(CARD))
    assert max(sizes) == 500


def test_a_terminal_obeys_nothing_that_a_server_states(submission: tuple[Path, Scores]) -> None:
    board = Board(submission[1])
    state = {
        "status": "refused",
        "url": "http://x/\x1b[31m",
        "error": {"what": "\x1b[2Jowned", "remedy": "\x1b]0;x\x07"},
    }
    board.trouble = lambda request: httpx2.Response(200, json=state)
    with board.client() as client:
        with pytest.raises(LulcbenchError) as refused:
            client.wait("s1")
        assert refused.value.what.endswith("?[2Jowned")
        assert refused.value.remedy == "?]0;x?"
        assert client.page("s1") == "http://x/?[31m"


def test_half_a_chunk_and_a_busy_server(submission: tuple[Path, Scores]) -> None:
    """Part of a chunk arrives before the line breaks; then the service answers 503 for a while."""
    path, scores = submission
    board = Board(scores)
    troubles = iter(["half", "half", 503, 503])

    def trouble(request: httpx2.Request) -> httpx2.Response | None:
        if request.method != "PUT" or (what := next(troubles, None)) is None:
            return None
        if what == "half":
            board.data += request.content[:100]
            raise httpx2.ReadError("line broke")
        return httpx2.Response(503, json={"what": "busy", "remedy": ""})

    board.trouble = trouble
    with board.client() as client:
        client.upload(path, ModelCard.model_validate(CARD))
    assert bytes(board.data) == path.read_bytes()
    assert board.slept  # it waits between tries


def test_an_upload_that_never_moves_ends(submission: tuple[Path, Scores]) -> None:
    path, scores = submission
    board = Board(scores)
    board.trouble = lambda request: httpx2.Response(503, json={}) if request.method == "PUT" else None
    with board.client() as client, pytest.raises(LulcbenchError, match=r"stopped at byte 0 of .*\n.*resumes"):
        client.upload(path, ModelCard.model_validate(CARD))
    path.with_name("p.zip.upload.json").unlink()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx2.Response(401, json={"what": "A token is needed.", "remedy": "Send one."}), "A token is needed"),
        (httpx2.Response(429, json={"what": "Limit \x1b[2J reached.", "remedy": ""}), r"Limit \?\[2J reached"),
        (httpx2.Response(200, text="<html>login</html>"), "not that of a leaderboard"),
        (httpx2.Response(302, headers={"Location": "https://evil.example"}), r"\(302\) is not"),
        (httpx2.Response(500, text="oops"), r"\(500\) is not"),
        (httpx2.Response(200, text="[" * 100_000), "not that of a leaderboard"),
        (httpx2.Response(200, content=bytes(MAX_RESPONSE_BYTES + 1)), "more than 16,777,216 bytes"),
    ],
    ids=["401", "429", "html", "redirect", "500", "nested", "endless"],
)
def test_refusals_are_messages(submission: tuple[Path, Scores], answer: httpx2.Response, message: str) -> None:
    board = Board(submission[1])
    board.trouble = lambda request: answer
    with board.client() as client, pytest.raises(LulcbenchError, match=message):
        client.upload(submission[0], ModelCard.model_validate(CARD))


def test_a_refused_submission_says_why(submission: tuple[Path, Scores]) -> None:
    board = Board(submission[1])
    board.status = "refused"
    with board.client() as client, pytest.raises(LulcbenchError, match=r"No good\.\n.*Do better"):
        client.wait("s1")
    board.status = "scoring"
    with board.client() as client, pytest.raises(LulcbenchError, match="not scored after 30 s"):
        client.wait("s1", timeout=30)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"status": ["scored"], "url": URL},
        {"status": "scored", "scores": {}},
        {"status": "queued", "url": 5},
        {"status": "scored", "url": URL, "error": "none"},
        {"status": "refused", "url": URL, "error": ["no"]},
        {"status": "queued", "url": URL, "error": "later"},
    ],
)
def test_states_that_no_leaderboard_gives_are_messages(submission: tuple[Path, Scores], state: dict[str, Any]) -> None:
    board = Board(submission[1])
    board.trouble = lambda request: httpx2.Response(200, json=state | {"id": "s1"})
    with board.client() as client:
        with pytest.raises(LulcbenchError):
            client.wait("s1", timeout=2)
        if state.get("url") != URL:
            with pytest.raises(LulcbenchError, match="states url"):
                client.page("s1")


def test_predictions_in_a_folder_that_cannot_be_written_are_sent(
    submission: tuple[Path, Scores], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lulcbench.submission.client.write_atomic", refuse)
    with Board(submission[1]).client() as client:
        assert client.upload(submission[0], ModelCard.model_validate(CARD)) == "s1"
        with pytest.raises(LulcbenchError, match="No file"):
            client.upload(submission[0].with_name("none.zip"), ModelCard.model_validate(CARD))
    assert "an interrupted upload will begin again" in caplog.text
