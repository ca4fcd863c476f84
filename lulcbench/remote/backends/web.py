"""``https://`` and ``http://``: a folder behind a web server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import urlsplit

from lulcbench.errors import LulcbenchError
from lulcbench.remote.addresses import join
from lulcbench.remote.stores import Kvstore, ListedFile, Store

PIECE = 2**20  # bytes yielded at a time
SILENCE = 60.0  # seconds without data after which a connection is considered broken
CONNECTING = 15.0  # seconds


class WebStore(Store):
    """A web server. Each file is one request; a server without support for ranges sends complete files."""

    schemes: ClassVar[tuple[str, ...]] = ("https", "http")

    def __init__(self, url: str) -> None:
        super().__init__(url)
        parts = urlsplit(url)
        if parts.query or parts.fragment:  # paths of files would become a part of them
            raise LulcbenchError(f"{url} is more than the address of a folder.", "Leave out what follows '?' or '#'.")

    def read(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """See ``Store``."""
        import httpx2
        from huggingface_hub import get_session

        url, headers = self.request(path)
        headers |= {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        timeout = httpx2.Timeout(SILENCE, connect=CONNECTING)
        with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=timeout) as response:
            if response.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise FileNotFoundError(f"HTTP {response.status_code} for {url}")
            if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise PermissionError(f"HTTP {response.status_code} for {url}")
            response.raise_for_status()
            at = start if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0
            for piece in response.iter_bytes(PIECE):
                wanted = piece[max(0, start - at) : max(0, stop - at)]
                at += len(piece)
                if wanted:
                    yield wanted
                if at > stop:  # not at the end, so that the connection is reused for the next file
                    return

    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """See ``Store``."""
        url, headers = self.request(f"{folder}/")
        return Kvstore(http_spec(url, headers))

    def request(self, path: str) -> tuple[str, dict[str, str]]:
        """URL and headers of a request for a path below the store."""
        return join(self.url, path), {}


def http_spec(url: str, headers: dict[str, str]) -> dict[str, object]:
    """Specification of a URL for TensorStore."""
    parts = urlsplit(url)
    return {
        "driver": "http",
        "base_url": f"{parts.scheme}://{parts.netloc}",
        "path": parts.path,
        "headers": [f"{name}: {value}" for name, value in headers.items()],
    }
