"""Transfer of files from stores; each is checked against the SHA-256 of the manifest before it gets its name."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lulcbench._files import hash_file
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError
from lulcbench.release import FileInfo
from lulcbench.remote import Store
from lulcbench.remote.retry import LOCAL_FAULTS, retrying
from lulcbench.remote.stores import Progress, describe

PARTIAL = ".partial"
_WRONG = "the bytes do not have the SHA-256 of the manifest"
log = logging.getLogger(__name__)


def fetch(
    stores: Sequence[Store],
    folder: Path,
    files: Sequence[FileInfo],
    workers: int = 8,
    progress: Progress = lambda done, total: None,
) -> None:
    """Fetch several files at a time; each replaces an existing file of its name once it is complete and checked.

    Args:
        stores: sources, best first; if a file of one is missing or damaged, the next one is used.
        folder: destination.
        files: files of the release.
        workers: number of parallel transfers.
        progress: called with the bytes done and the total, from any thread, one call at a time.

    Raises:
        NetworkError: no store has an intact copy of a file.
        LulcbenchError: the disk has too little space, or a file cannot be written.
        OSError: the folder cannot be written.
    """
    if not files:
        return
    (folder / PARTIAL).mkdir(exist_ok=True)
    have = sum(min(file.bytes, _size(_partial(folder, file))) for file in files)
    total, free = sum(file.bytes for file in files), shutil.disk_usage(folder).free
    if total - have > free:
        raise LulcbenchError(
            f"{(total - have) / 2**30:.1f} GiB are needed at {folder}, {free / 2**30:.1f} GiB are free.",
            "Choose fewer splits, sensors or years, or another disk.",
        )
    meter = _Meter(have, total, progress)
    with ThreadPoolExecutor(workers) as pool:
        stop = threading.Event()
        jobs = [pool.submit(_Transfer(folder, file, meter, stop).fetch, stores) for file in files]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


class _Meter:
    """Counter of the bytes of all threads."""

    def __init__(self, done: int, total: int, progress: Progress) -> None:
        self._done, self._total, self._progress, self._lock = done, total, progress, threading.Lock()
        progress(done, total)

    def add(self, count: int) -> None:
        """Count bytes; negative if some are discarded."""
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


class _UnwritableError(LulcbenchError):
    """A file cannot be written here, which another store would not resolve."""


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _UnwritableError(
            f"Cannot write to {path}: {error}.", "Choose a folder that can be written and has room."
        ) from error


class _Transfer:
    """Transfer of one file."""

    def __init__(self, folder: Path, file: FileInfo, meter: _Meter, stop: threading.Event) -> None:
        self._target, self._partial = folder / file.path, _partial(folder, file)
        self._file, self._meter, self._stop = file, meter, stop

    def fetch(self, stores: Sequence[Store]) -> None:
        """Fetch the file from the first store with an intact copy."""
        failures = []
        for store in stores:
            self._wrong_in_full = 0
            try:
                retrying(f"{store.url}: {self._file.path}", stop=self._stop)(self._attempt, store)
                return
            except _UnwritableError:
                self._stop.set()
                raise
            except OSError as error:
                if error.errno in LOCAL_FAULTS:
                    self._stop.set()  # now, before this thread continues with the next file
                    raise
                failures.append(f"{store.url}: {describe(error)}")
            except Exception as error:  # see retry
                failures.append(f"{store.url}: {describe(error)}")
            log.warning("%s is not fetched from %s", self._file.path, failures[-1])
        raise NetworkError(
            f"Could not get {self._file.path}: {'; '.join(failures)}.",
            "Run the same command again to continue, or name a mirror.",
        )

    def _attempt(self, store: Store) -> None:
        if self._stop.is_set():
            return
        resumed = _size(self._partial) > 0
        self._append(store)
        if self._stop.is_set():
            return
        if hash_file(self._partial) == self._file.sha256:
            with _writing(self._target):
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._partial.replace(self._target)
            return
        self._meter.add(-self._partial.stat().st_size)
        self._partial.unlink()
        # The partial file may have been wrong already. If a complete transfer is wrong twice, the file of the store is
        # damaged.
        self._wrong_in_full += not resumed
        if self._wrong_in_full == 2:
            raise CorruptFileError(_WRONG)
        raise ConnectionError(_WRONG)

    def _append(self, store: Store) -> None:
        """Continue the partial file."""
        have, size = _size(self._partial), self._file.bytes
        if have > size:
            self._partial.unlink()
            self._meter.add(-size)
            have = 0
        with _writing(self._partial):
            out = self._partial.open("ab")
        with out:
            for piece in store.read(self._file.path, have, size) if have < size else ():
                with _writing(self._partial):
                    out.write(piece)
                self._meter.add(len(piece))
                have += len(piece)
                if self._stop.is_set():
                    return
        if have < size:
            raise ConnectionError(f"cut off after {have} of {size} bytes")


def _partial(folder: Path, file: FileInfo) -> Path:
    # Named by its hash, so that any store can continue it, and by its path, since several files may have the same
    # content.
    return folder / PARTIAL / hashlib.sha256(f"{file.sha256} {file.path}".encode()).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
