"""Where files of a release come from: the Hugging Face hub, anything fsspec reads (S3, HTTP, …), or a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from lulcbench.errors import LulcbenchError
from lulcbench.places import join, split_hub
from lulcbench.release import MAX_MANIFEST_BYTES

PIECE = 16 * 2**20  # bytes a request: few requests (the hub counts them), little to repeat after a cut
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


class HubPlace:
    """A dataset repository on the Hugging Face hub (or what HF_ENDPOINT says), at one commit."""

    def __init__(self, name: str, revision: str | None) -> None:
        owner, repository, own, _ = split_hub(name)
        self.name = name
        self._repository = f"{owner}/{repository}"
        self._revision = revision or own

    def pin(self) -> str | None:
        """Resolve branch or tag to a commit, so that files of two revisions never mix."""
        from huggingface_hub import HfApi

        info = _patiently(lambda: HfApi().dataset_info(self._repository, revision=self._revision), self.name)
        self._revision = info.sha
        self.name = f"hf://{self._repository}@{info.sha}"
        return self._revision

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

    def _stream(self, path: str, start: int) -> Iterator[bytes]:
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers

        url = hf_hub_url(self._repository, path, repo_type="dataset", revision=self._revision)
        headers = build_hf_headers() | {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
        with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
            if response.status_code == 429 or response.status_code >= 500:
                raise Busy(f"HTTP {response.status_code}", _seconds(response.headers.get("Retry-After")))
            if response.status_code >= 400:
                raise Rejected(f"HTTP {response.status_code} for {url}")
            # A server that does not know ranges sends everything from the beginning.
            skip = start if response.status_code == 200 else 0
            for piece in response.iter_bytes(2**20):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(0, skip - len(piece))


class FsspecPlace:
    """A folder, or any URL that fsspec reads."""

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
            # As above: a server that does not know ranges sends everything.
            yield piece if len(piece) <= last - first else piece[first:last]

    def whole(self, path: str) -> bytes:
        """See ``Place``."""
        from fsspec.core import url_to_fs

        system, where = url_to_fs(join(self.name, path))
        try:
            content: bytes = system.cat_file(where)
        except (FileNotFoundError, PermissionError) as error:
            raise Rejected(f"{type(error).__name__}: {error}") from error
        return content


def place(name: str, revision: str | None = None) -> Place:
    """The place of that name: ``hf://owner/name[@revision]``, a URL that fsspec knows, or a folder.

    Raises:
        LulcbenchError: no such kind of place or folder.
    """
    if name.startswith("hf://"):
        return HubPlace(name, revision)
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


def _patiently[T](ask: Callable[[], T], name: str) -> T:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except OfflineModeIsEnabled as error:
            raise LulcbenchError(f"{name} was not asked: HF_HUB_OFFLINE is set.", "Unset it to download.") from error
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
