"""Where files of a release come from: the Hugging Face hub, anything fsspec reads (S3, HTTP, …), or a folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from lulcbench.errors import LulcbenchError
from lulcbench.remote.addresses import MAX_MANIFEST_BYTES, hub_headers, join, split_hub

PIECE = 16 * 2**20  # bytes a request: few requests, little to repeat after a cut
ATTEMPTS = 6
LONGEST_WAIT = 60.0  # seconds


class Rejected(Exception):
    """The place answered, and asking again will not help."""


class Busy(Exception):
    """The place asks to come back later; ``wait`` says in how many seconds, if it does."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Place(Protocol):
    """A copy of a release somewhere."""

    name: str

    def pin(self) -> str | None:
        """Fix the revision that all reads are from; says which, or None where places have no revisions."""

    def read(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """Bytes ``start`` … ``size`` of a file of ``size`` bytes, in pieces. Raises anything on failure."""

    def whole(self, path: str) -> bytes:
        """A small file of unknown size. Raises anything on failure."""


class WebPlace:
    """A folder behind http or https. A file is one request; a server that does not know ranges sends all of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def pin(self) -> str | None:
        """Nothing to fix: the manifest's digest identifies all bytes."""
        return None

    def read(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """See ``Place``."""
        return self._stream(path, start)

    def whole(self, path: str) -> bytes:
        """See ``Place``."""
        content = bytearray()
        for piece in self._stream(path, 0):
            content += piece
            if len(content) > MAX_MANIFEST_BYTES:
                raise Rejected(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
        return bytes(content)

    def _request(self, path: str) -> tuple[str, dict[str, str]]:
        """URL and headers."""
        return join(self.name, path), {}

    def _stream(self, path: str, start: int) -> Iterator[bytes]:
        from huggingface_hub import get_session

        url, headers = self._request(path)
        headers |= {"Range": f"bytes={start}-"} if start else {}
        headers["Accept-Encoding"] = "identity"
        with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
            if response.status_code == 429 or response.status_code >= 500:
                raise Busy(f"HTTP {response.status_code}", _seconds(response.headers.get("Retry-After")))
            if response.status_code >= 400:
                raise Rejected(f"HTTP {response.status_code} for {url}")
            skip = start if response.status_code == 200 else 0
            for piece in response.iter_bytes(2**20):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(0, skip - len(piece))


class HubPlace(WebPlace):
    """A dataset repository on the Hugging Face hub (or what HF_ENDPOINT says), at one commit."""

    def __init__(self, name: str, revision: str | None) -> None:
        super().__init__(name)
        owner, repository, own, _ = split_hub(name)
        self._repository = f"{owner}/{repository}"
        self._revision = revision or own

    def pin(self) -> str | None:
        """Resolve branch or tag to a commit, so that files of two revisions never mix."""
        from huggingface_hub import HfApi

        info = patiently(lambda: HfApi().dataset_info(self._repository, revision=self._revision), self.name)
        self._revision = info.sha
        self.name = f"hf://{self._repository}@{info.sha}"
        return self._revision

    def _request(self, path: str) -> tuple[str, dict[str, str]]:
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(self._repository, path, repo_type="dataset", revision=self._revision)
        return url, hub_headers()


class FsspecPlace:
    """A folder, or any other URL that fsspec reads."""

    def __init__(self, name: str) -> None:
        self.name = name

    def pin(self) -> str | None:
        """Nothing to fix: the manifest's digest identifies all bytes."""
        return None

    def read(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """See ``Place``."""
        from fsspec.core import url_to_fs

        system, where = url_to_fs(join(self.name, path))
        for first in range(start, size, PIECE):
            last = min(first + PIECE, size)
            try:
                piece: bytes = system.cat_file(where, start=first, end=last)
            except (FileNotFoundError, PermissionError) as error:
                raise Rejected(f"{type(error).__name__}: {error}") from error
            yield piece

    def whole(self, path: str) -> bytes:
        """See ``Place``."""
        from fsspec.core import url_to_fs

        system, where = url_to_fs(join(self.name, path))
        try:
            content: bytes = system.cat_file(where)
        except (FileNotFoundError, PermissionError) as error:
            raise Rejected(f"{type(error).__name__}: {error}") from error
        return content


def pinned(root: str | os.PathLike[str]) -> str:
    """The place with its revision fixed, so that all that is read later is of one commit.

    Folders and URLs without revisions stay as they are.

    Raises:
        LulcbenchError: the hub has no such repository or revision, or cannot be reached.
    """
    where = os.fspath(root)
    if not where.startswith("hf://"):
        return where
    owner, repository, revision, path = split_hub(where)
    if not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        try:
            revision = HubPlace(where, None).pin()
        except LulcbenchError:
            raise
        except Exception as error:  # connections break in as many ways as there are libraries
            raise LulcbenchError(
                f"Cannot read {where}: {type(error).__name__}: {error}.",
                "Check name, revision and network; a private repository needs HF_TOKEN or 'hf auth login'.",
            ) from error
    return f"hf://{owner}/{repository}@{revision}" + (f"/{path}" if path else "")


def place(name: str, revision: str | None = None) -> Place:
    """The place of that name: ``hf://owner/name[@revision]``, a URL that fsspec knows, or a folder.

    Raises:
        LulcbenchError: no such kind of place or folder.
    """
    if name.startswith("hf://"):
        return HubPlace(name, revision)
    if name.startswith(("http://", "https://")):
        return WebPlace(name)
    if "://" in name:
        from fsspec import get_filesystem_class

        try:
            get_filesystem_class(name.split("://")[0])
        except (ValueError, ImportError) as error:
            raise LulcbenchError(
                f"No way to read {name}: {error}.", "Use hf://, s3://, https://, or a folder."
            ) from error
        return FsspecPlace(name)
    if not Path(name).is_dir():
        raise LulcbenchError(
            f"{name!r} is neither a release on the hub, a URL, nor a folder.",
            "Check the name; URLs start with s3://, …",
        )
    return FsspecPlace(os.fspath(Path(name).resolve()))


def wait(attempt: int, error: Exception) -> None:
    """Sleep before another attempt: as long as the place asks for, or twice as long each time."""
    asked = error.wait if isinstance(error, Busy) else None
    time.sleep(min(LONGEST_WAIT, asked if asked is not None else 0.5 * 2**attempt))


def patiently[T](ask: Callable[[], T], name: str) -> T:
    """What the hub library answers, asking again while the hub is busy or out of reach.

    Raises:
        LulcbenchError: HF_HUB_OFFLINE is set.
        Rejected: the hub refuses; or ``EntryNotFoundError``: it has no such file.
        Exception: whatever the hub library raised last.
    """
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled

    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except OfflineModeIsEnabled as error:
            raise LulcbenchError(f"{name} was not asked: HF_HUB_OFFLINE is set.", "Unset it to download.") from error
        except EntryNotFoundError:
            raise
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status < 500 and status != 429:
                raise Rejected(str(error).splitlines()[0]) from error
            last: Exception = Busy(f"HTTP {status}", _seconds(error.response.headers.get("Retry-After")))
        except Exception as error:  # connection errors of whichever HTTP client the hub library uses
            last = error
        if attempt + 1 < ATTEMPTS:
            wait(attempt, last)
    raise last


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.isdigit() else None
