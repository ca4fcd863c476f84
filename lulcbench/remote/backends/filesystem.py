"""All other URLs that fsspec supports: Google Cloud Storage, Azure, FTP, ``file://``."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lulcbench.errors import LulcbenchError
from lulcbench.remote.addresses import join, scheme_of
from lulcbench.remote.retry import retrying
from lulcbench.remote.stores import Kvstore, ListedFile, Progress, Publication, Store

PIECE = 16 * 2**20  # bytes per request: few requests, little to repeat after an interruption
WORKERS = 8
SENT = ".published"
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs"}


class FilesystemStore(Store):
    """A file system of fsspec, for downloads and publishing, but not for streaming."""

    schemes = ("*",)
    remedy = "Check address, credentials and network."

    def __init__(self, url: str) -> None:
        from fsspec import get_filesystem_class

        super().__init__(url)
        try:
            get_filesystem_class(scheme_of(url) or "file")
        except (ValueError, ImportError) as error:
            raise LulcbenchError(
                f"No way to read or write {url}: {error}.", "Use hf://, s3://, https://, or a folder."
            ) from error

    def options(self) -> dict[str, Any]:
        """Options of the file system for reading."""
        return {}

    def read(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """See ``Store``."""
        from fsspec.core import url_to_fs

        system, where = url_to_fs(join(self.url, path), **self.options())
        while start < stop:
            size = min(PIECE, stop - start)
            piece: bytes = system.cat_file(where, start=start, end=start + size)
            yield piece
            if len(piece) < size:
                return
            start += size

    def folders_with(self, path: str) -> list[str]:
        """See ``Store``."""
        from fsspec.core import url_to_fs

        system, where = url_to_fs(self.url, **self.options())
        names = self.ask(
            lambda: [entry["name"] for entry in system.ls(where, detail=True) if entry["type"] == "directory"]
        )
        inner = [join(self.url, name.rstrip("/").rpartition("/")[2]) for name in sorted(names)]
        return [address for address in inner if self.ask(partial(system.exists, join(address, path)))]

    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """Not supported."""
        raise LulcbenchError(f"Cannot read {self.url} directly.", "Use https, s3 or hf, or download it first.")

    def publish(self, publication: Publication, progress: Progress = lambda done, total: None) -> str:
        """Publish to ``<url>/<name>-<version>``.

        Files that were sent from this folder are kept if they still have their size; all others are sent, even if a
        file of that name exists, since its content is unknown.
        """
        from fsspec.core import url_to_fs

        final = join(self.url, publication.id)
        manifest = publication.manifest
        try:
            system, base = url_to_fs(final)
            if system.exists(f"{base}/{manifest}"):
                publication.check_same(system.cat_file(f"{base}/{manifest}"), final)
                return final
            sent = _Sent(publication.folder, final)

            def send(file: ListedFile) -> None:
                target = f"{base}/{file.path}"
                if not (sent.has(file) and system.exists(target) and system.size(target) == file.bytes):
                    retrying(target)(_put, system, publication.folder / file.path, target)
                    sent.add(file)

            with ThreadPoolExecutor(WORKERS) as pool:
                for done, _ in enumerate(pool.map(send, publication.files), start=1):
                    progress(done, len(publication.files))
            _check_listed(system, base, publication)
            retrying(f"{base}/{manifest}")(_put, system, publication.folder / manifest, f"{base}/{manifest}")
            sent.forget()
        except LulcbenchError:
            raise
        except Exception as error:  # file systems of fsspec have different exceptions
            raise self.failed(f"Cannot publish to {final}; the same command continues", error) from error
        return final


class _Sent:
    """Record, in the folder of a release, of the files that were sent to an address, until the manifest is sent.

    If the folder is read-only, nothing is recorded, and an interrupted publication starts again.
    """

    def __init__(self, root: Path, where: str) -> None:
        self._path, self._where, self._lock = root / SENT, where, threading.Lock()
        try:
            self._known = set(self._path.read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError):
            self._known = set()

    def has(self, file: ListedFile) -> bool:
        """Whether a file with this content was sent."""
        return self._line(file) in self._known

    def add(self, file: ListedFile) -> None:
        """Record that a file was sent completely."""
        with self._lock, suppress(OSError), self._path.open("a", encoding="utf-8") as note:
            note.write(self._line(file) + "\n")

    def forget(self) -> None:
        """Delete the record, after the manifest was sent."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _line(self, file: ListedFile) -> str:
        return f"{file.sha256} {self._where}/{file.path}"


def _check_listed(system: Any, base: str, publication: Publication) -> None:
    """Check that folders of arrays have no files that the release does not have, such as those of another build.

    Raises:
        LulcbenchError: there is one.
    """
    system.invalidate_cache()
    known = {file.path for file in publication.files}
    for folder in publication.folders:
        for name in sorted(system.find(f"{base}/{folder}")):
            path = name[len(base) :].lstrip("/")
            if path not in known:
                raise LulcbenchError(
                    f"{base} has {path}, which is not part of {publication.id}, but readers would take it for a shard.",
                    "Delete it there, then run the same command again.",
                )


def _put(system: Any, source: Path, target: str) -> None:
    """Send a file atomically: it gets its name when it is complete."""
    protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
    if protocols & OBJECT_STORES:  # whose files appear when they are complete; s3fs would create a bucket for a folder
        system.put_file(os.fspath(source), target)
        return
    folder, _, name = target.rpartition("/")
    system.makedirs(folder, exist_ok=True)
    system.put_file(os.fspath(source), f"{folder}/.{name}.partial")
    system.mv(f"{folder}/.{name}.partial", target)
