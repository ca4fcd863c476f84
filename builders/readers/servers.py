"""Files on servers: whether they can be reached, and what identifies their content."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import fsspec
import httpx2

from builders.readers.access import AccessError, access, http_client, redact, refused, renew, s3_options
from lulcbench.errors import LulcbenchError, NetworkError
from lulcbench.remote.retry import retrying

THREADS = 16
PART = (32_768, 98_303)  # bytes that show whether a file can be read
SLOW = 30.0  # seconds that they may take


class MissingFileError(LulcbenchError):
    """A file that does not exist."""


def is_on_server(href: str) -> bool:
    """Whether a server identifies the file, by an ETag or the like."""
    return href.startswith(("http://", "https://", "s3://"))


def server_stamps(hrefs: Sequence[str]) -> list[str]:
    """``server_stamp`` of several files, requested at the same time."""
    with http_client(follow_redirects=True) as client, ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda href: server_stamp(href, client), hrefs))


def server_stamp(href: str, client: httpx2.Client | None = None) -> str:
    """What identifies the content of a file on a server: its ETag, or time of modification and size.

    Empty if the server states neither.

    Raises:
        MissingFileError: the server does not have the file.
        AccessError: the server refuses it, also with a new token.
        NetworkError: the server cannot be reached, after retries.
    """
    if client is None:
        with http_client(follow_redirects=True) as own:
            return server_stamp(href, own)
    return _asked(href, _ask_s3 if href.startswith("s3://") else _ask, client)


def check_readable(href: str) -> None:
    """Nothing, if a server delivers a part of a file in time; only then is a file that cannot be read damaged.

    Raises:
        LulcbenchError: as ``server_stamp``.
    """
    with http_client(follow_redirects=True) as client:
        _asked(href, _take_s3 if href.startswith("s3://") else _take, client)


def _asked[Answer](href: str, ask: Callable[[str, httpx2.Client], Answer], client: httpx2.Client) -> Answer:
    """The answer to a question about a file, after retries, and with a new token if the first is refused."""
    try:
        try:
            return retrying(href)(ask, href, client)
        except AccessError:
            if not renew(href):
                raise
            return retrying(href)(ask, href, client)
    except FileNotFoundError as error:
        raise MissingFileError(f"{href} does not exist on its server.", "Search again, or remove the scene.") from error
    except (httpx2.HTTPError, OSError) as error:
        raise NetworkError(
            f"{href} cannot be reached: {redact(str(error))}.",
            "Is its server up? What is finished is kept; run again.",
        ) from None


def _ask(href: str, client: httpx2.Client) -> str:
    """By a request for one byte: addresses that are signed for reading refuse other methods."""
    with _get(href, client, "bytes=0-0") as answer:
        if not answer.is_success:
            return ""
        size = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
        return answer.headers.get("ETag") or f"{answer.headers.get('Last-Modified', '')} {size}".strip()


def _take(href: str, client: httpx2.Client) -> None:
    begin = time.monotonic()
    with _get(href, client, f"bytes={PART[0]}-{PART[1]}") as answer:
        for _ in answer.iter_raw():
            if time.monotonic() - begin > SLOW:
                raise httpx2.ReadTimeout(f"{PART[1] - PART[0]} bytes take more than {SLOW:g} s", request=answer.request)


@contextmanager
def _get(href: str, client: httpx2.Client, part: str) -> Iterator[httpx2.Response]:
    how = access(href)
    with client.stream("GET", how.url, headers={"Range": part, **dict(how.headers)}) as answer:
        if answer.status_code in (404, 410):
            raise FileNotFoundError(href)
        if refusal := refused(href, f"HTTP {answer.status_code}"):
            raise refusal
        if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
            answer.raise_for_status()
        yield answer


def _ask_s3(href: str, client: httpx2.Client) -> str:
    with _bucket(href) as files:
        info = files.info(href, refresh=True)
    return str(info.get("ETag") or f"{info.get('LastModified', '')} {info.get('size', '')}".strip())


def _take_s3(href: str, client: httpx2.Client) -> None:
    with _bucket(href) as files:
        files.cat_file(href, *PART)


@contextmanager
def _bucket(href: str) -> Iterator[Any]:
    try:
        yield fsspec.filesystem("s3", **s3_options(href))
    except ImportError as error:
        raise LulcbenchError(f"{href} is read with s3fs.", "Install it: pip install 'lulcbench[s3]'.") from error
    except PermissionError as error:
        raise refused(href, f"AccessDenied: {error}") or error from error
