"""Downloads: files that a recipe needs from the internet, such as label maps, each pinned by its SHA-256."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path

import httpx2
from filelock import FileLock

from builders.readers.access import http_client, redact
from builders.recipe import Download, Recipe
from lulcbench._files import hash_file
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError
from lulcbench.remote.retry import LOCAL_FAULTS, retrying

log = logging.getLogger(__name__)


def fetch(recipe: Recipe, report: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Download the files of the recipe's ``downloads`` that are not here yet; a broken download is continued.

    Args:
        recipe: the recipe.
        report: called with bytes done and bytes in all of a file.

    Raises:
        LulcbenchError: a download is not pinned (the error states its SHA-256), or the disk is full.
        CorruptFileError: a file is another one than pinned.
        NetworkError: a server does not have a file or cannot be reached, after retries.
    """
    for one in recipe.downloads:
        one.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{one.path}.lock"):
            if not one.path.is_file():
                _fetch(one, report)
            if one.sha256 is None:
                raise LulcbenchError(
                    f"The download of {one.path.name} is not pinned; it has SHA-256 {hash_file(one.path)}.",
                    f'Check that it is the file that you mean, and add sha256 = "{hash_file(one.path)}" to the recipe.',
                )


def _fetch(one: Download, report: Callable[[int, int], None]) -> None:
    partial = one.path.with_name(f"{one.path.name}.partial")
    log.info("Downloading %s", one.url)
    try:
        retrying(one.url)(_continue, one.url, partial, report)
    except httpx2.HTTPError as error:
        raise NetworkError(
            f"{one.url} cannot be downloaded: {redact(str(error)) or type(error).__name__}.",
            "Check the address; what was received is kept, so run again when the server is up.",
        ) from None
    except OSError as error:
        if error.errno not in LOCAL_FAULTS:
            raise
        what = "is full" if error.errno == errno.ENOSPC else f"cannot be written ({error.strerror})"
        raise LulcbenchError(
            f"The disk of {one.path.parent} {what}.", "Free space; what was received is kept, so run again."
        ) from error
    found = hash_file(partial)
    if one.sha256 and found != one.sha256:
        partial.unlink()
        raise CorruptFileError(
            f"{one.url} has SHA-256 {found}, the recipe pins {one.sha256}.",
            "It is another edition; find the pinned one, or pin this one in a new version of the recipe.",
        )
    partial.rename(one.path)
    _tag(partial).unlink(missing_ok=True)


def _continue(url: str, partial: Path, report: Callable[[int, int], None]) -> None:
    """One attempt: what is missing of a file, or all of it if the server's file is not the one that was begun."""
    tag = _tag(partial)
    have = partial.stat().st_size if partial.is_file() and tag.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text(encoding="utf-8")}
    with (
        http_client(follow_redirects=True) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        if answer.status_code == 416:  # nothing is missing, or the file is shorter now: its hash decides
            return
        answer.raise_for_status()
        begin = int(answer.headers["Content-Range"].split()[1].split("-")[0]) if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length else 0
        # Without a strong validator a download begins again. It is noted before the first byte is written.
        valid = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if begin == 0:
            if valid and not valid.startswith("W/"):
                tag.write_text(valid, encoding="utf-8")
            else:
                tag.unlink(missing_ok=True)
        with partial.open("r+b" if begin else "wb") as file:
            file.seek(begin)
            for chunk in answer.iter_bytes():
                file.write(chunk)
                report(file.tell(), total)
            if total and file.tell() != total:
                raise httpx2.RemoteProtocolError(f"{file.tell()} of {total} bytes were received")


def _tag(partial: Path) -> Path:
    """Beside an unfinished download: what identifies the file on the server."""
    return partial.with_name(f"{partial.name}-etag")
