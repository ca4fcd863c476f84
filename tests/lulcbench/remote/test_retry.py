"""The policy of retries: which errors, how often, how far apart."""

from __future__ import annotations

import errno
import logging
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
import time_machine
from huggingface_hub.errors import OfflineModeIsEnabled

from lulcbench.errors import LulcbenchError
from lulcbench.remote.retry import ATTEMPTS, FIRST_WAIT, LONGEST_WAIT, retry_after, retrying, transient


def answer(status: int, **headers: str) -> httpx2.HTTPStatusError:
    request = httpx2.Request("GET", "https://example.org")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.HTTPStatusError(f"HTTP {status}", request=request, response=httpx2.Response(status, headers=named))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        TimeoutError("silence"),
        OSError(errno.EIO, "input/output error"),
        httpx2.ReadError("cut"),
        httpx2.ConnectTimeout("slow"),
        answer(408),
        answer(429),
        answer(500),
        answer(503, Retry_After="60"),
        RuntimeError("of an unknown library"),
    ],
    ids=lambda error: type(error).__name__ if isinstance(error, Exception) else None,
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    waits: list[float] = []
    attempts = []

    def fail() -> None:
        attempts.append(1)
        raise error

    with pytest.raises(type(error)):
        retrying("a file", sleep=waits.append)(fail)
    assert len(attempts) == ATTEMPTS
    assert len(waits) == ATTEMPTS - 1


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("no such file"),
        PermissionError("refused"),
        OSError(errno.ENOSPC, "no space left"),
        OSError(errno.EROFS, "read-only"),
        LulcbenchError("No.", "Do."),
        OfflineModeIsEnabled("HF_HUB_OFFLINE"),
        TypeError("a bug"),
        KeyError("a bug"),
        answer(400),
        answer(401),
        answer(404),
        answer(416),
        answer(501),
        answer(429, Retry_After="3600"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__ if isinstance(error, Exception) else None,
)
def test_what_will_not_pass_is_raised_at_once(error: BaseException) -> None:
    attempts = []

    def fail() -> None:
        attempts.append(1)
        raise error

    with pytest.raises(type(error)) as raised:
        retrying("a file", sleep=lambda seconds: pytest.fail("it waits"))(fail)
    assert raised.value is error
    assert len(attempts) == 1
    assert not transient(error)


def test_waits_double_with_jitter_and_have_a_limit() -> None:
    waits: list[float] = []

    def fail() -> None:
        raise ConnectionError

    for _ in range(20):
        with pytest.raises(ConnectionError):
            retrying("a file", sleep=waits.append)(fail)
    for i, pause in enumerate(waits):
        shortest = FIRST_WAIT * 2 ** (i % (ATTEMPTS - 1))
        assert shortest <= pause <= min(shortest + FIRST_WAIT, LONGEST_WAIT)
    assert len(set(waits)) > len(waits) // 2  # many clients do not come back at the same moment


def test_a_server_that_says_how_long_is_believed() -> None:
    waits: list[float] = []

    def fail() -> None:
        raise answer(503, Retry_After="7")

    with pytest.raises(httpx2.HTTPStatusError):
        retrying("a file", sleep=waits.append)(fail)
    assert waits == [7.0] * (ATTEMPTS - 1)


def test_retry_after_in_all_its_forms() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    with time_machine.travel(now, tick=False):
        later = format_datetime(now + timedelta(seconds=30), usegmt=True)
        earlier = format_datetime(now - timedelta(seconds=30), usegmt=True)
        assert retry_after(answer(503, Retry_After=later)) == pytest.approx(30, abs=1)
        assert retry_after(answer(503, Retry_After=earlier)) == 0
        assert retry_after(answer(503, Retry_After="12")) == 12
        for nonsense in ("soon", "-3", "1e9", "٣", "", "Mon, 99 Foo"):
            assert retry_after(httpx2_error_with(nonsense)) is None
        assert retry_after(ConnectionError()) is None


def httpx2_error_with(value: str) -> Exception:
    error = RuntimeError("503")
    error.response = type("Response", (), {"status_code": 503, "headers": {"Retry-After": value}})  # type: ignore[attr-defined]
    return error


def test_an_event_ends_waits() -> None:
    stop, attempts = threading.Event(), []

    def fail() -> None:
        attempts.append(1)
        stop.set()
        raise answer(503, Retry_After="60")

    with pytest.raises(httpx2.HTTPStatusError):
        retrying("a file", stop=stop)(fail)
    assert len(attempts) == 1


def test_retries_are_logged_and_nothing_is_printed(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ConnectionError("reset by peer")

    with caplog.at_level(logging.WARNING, "lulcbench"), pytest.raises(ConnectionError):
        retrying("release.json", sleep=lambda seconds: None)(fail)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == ATTEMPTS - 1
    assert lines[0].startswith("release.json: ConnectionError: reset by peer; attempt 2 of 6 follows in ")
    assert {record.name for record in caplog.records} == {"lulcbench.remote.retry"}
    assert capsys.readouterr() == ("", "")
