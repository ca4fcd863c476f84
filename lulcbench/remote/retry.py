"""The retry policy of all requests: which errors are retried, how often, and after which waits.

Up to ``ATTEMPTS`` attempts, with exponential backoff and jitter, or waits that the server requests (``Retry-After``).
Permanent errors are raised at once: a missing file, a refusal (HTTP 4xx), a full disk. Every wait is logged.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import tenacity

from lulcbench.errors import LulcbenchError

ATTEMPTS = 6
FIRST_WAIT = 0.5  # seconds; doubled after every attempt, with up to as much of jitter
LONGEST_WAIT = 60.0  # seconds; longer waits that a server requests are errors

# Faults of this machine, which neither waiting nor another server resolves.
LOCAL_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
# Errors for responses and for misuse of libraries. All others may be broken connections, for which network libraries
# (httpx, aiohttp, botocore, TensorStore, …) have no common base class.
_FINAL = (
    LulcbenchError,
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    TypeError,
)

log = logging.getLogger(__name__)


def retrying(
    what: str, *, stop: threading.Event | None = None, sleep: Callable[[float], None] = time.sleep
) -> tenacity.Retrying:
    """A caller of functions with this policy; raises the error of the last attempt.

    Args:
        what: description of the request, for the log.
        stop: ends waits and further attempts when set; the last error is raised.
        sleep: function that waits; without effect if ``stop`` is given.

    Examples:
        >>> from lulcbench.remote.retry import retrying
        >>> answers = iter([ConnectionError("reset by peer"), 42])
        >>> def ask():
        ...     if isinstance(answer := next(answers), Exception):
        ...         raise answer
        ...     return answer
        >>> retrying("the answer", sleep=lambda seconds: None)(ask)
        42
    """
    end = tenacity.stop_after_attempt(ATTEMPTS)
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(transient),
        stop=tenacity.stop_any(end, tenacity.stop_when_event_set(stop)) if stop else end,
        wait=wait,
        sleep=tenacity.sleep_using_event(stop) if stop else sleep,
        before_sleep=lambda state: _log(what, state),
        reraise=True,
    )


def transient(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if not isinstance(error, Exception) or (isinstance(error, OSError) and error.errno in LOCAL_FAULTS):
        return False
    status = _status(error)
    if status is not None:
        busy = status in _BUSY or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED)
        return busy and (retry_after(error) or 0.0) <= LONGEST_WAIT
    return not isinstance(error, _FINAL) and not _offline(error)


def retry_after(error: BaseException) -> float | None:
    """Seconds that a server requests to wait with an HTTP error (RFC 9110, section 10.2.3); None if it does not."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    value = str(headers.get("Retry-After", "")).strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def wait(state: tenacity.RetryCallState) -> float:
    """Seconds before the next attempt."""
    error = state.outcome.exception() if state.outcome else None
    asked = retry_after(error) if error else None
    if asked is not None:
        return asked
    return _BACKOFF(state)


_BACKOFF = tenacity.wait_exponential_jitter(multiplier=FIRST_WAIT, max=LONGEST_WAIT, jitter=FIRST_WAIT)


def _status(error: BaseException) -> int | None:
    """HTTP status of the errors of httpx, of the libraries built on it, and of pystac-client."""
    status: Any = getattr(getattr(error, "response", error), "status_code", None)
    return status if isinstance(status, int) else None


def _offline(error: BaseException) -> bool:
    """Whether HF_HUB_OFFLINE forbade the request."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


def _log(what: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    log.warning(
        "%s: %s: %s; attempt %d of %d follows in %.1f s",
        what, type(error).__name__, error, state.attempt_number + 1, ATTEMPTS, pause,
    )  # fmt: skip
