"""Files on servers: whether they can be reached, and what identifies their content."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import httpx2

from builders.readers.access import AccessError, access, redact, refused, renew, s3_options
from lulcbench.errors import LulcbenchError, NetworkError
from lulcbench.remote.retry import retrying

THREADS = 16
TIMEOUT = 60  # seconds


class MissingFileError(LulcbenchError):
    """A file that does not exist."""


def is_on_server(href: str) -> bool:
    """Whether a file can be asked for what identifies it."""
    return href.startswith(("http://", "https://", "s3://"))


def server_stamps(hrefs: Sequence[str]) -> list[str]:
    """``server_stamp`` of several files, asked for at the same time."""
    with httpx2.Client(timeout=TIMEOUT, follow_redirects=True) as client, ThreadPoolExecutor(THREADS) as pool:
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
        with httpx2.Client(timeout=TIMEOUT, follow_redirects=True) as own:
            return server_stamp(href, own)
    ask = _ask_s3 if href.startswith("s3://") else _ask
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
    how = access(href)
    with client.stream("GET", how.url, headers={"Range": "bytes=0-0", **dict(how.headers)}) as answer:
        if answer.status_code in (404, 410):
            raise FileNotFoundError(href)
        if refusal := refused(href, f"HTTP {answer.status_code}"):
            raise refusal
        if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
            answer.raise_for_status()
        if not answer.is_success:
            return ""
        size = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
        return answer.headers.get("ETag") or f"{answer.headers.get('Last-Modified', '')} {size}".strip()


def _ask_s3(href: str, client: httpx2.Client) -> str:
    try:
        files: Any = fsspec.filesystem("s3", **s3_options(href))
    except ImportError as error:
        raise LulcbenchError(f"{href} is read with s3fs.", "Install it: pip install 'lulcbench[s3]'.") from error
    try:
        info = files.info(href, refresh=True)
    except PermissionError as error:
        raise refused(href, f"AccessDenied: {error}") or error from error
    return str(info.get("ETag") or f"{info.get('LastModified', '')} {info.get('size', '')}".strip())
