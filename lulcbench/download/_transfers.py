"""Getting the files of a release from places, each checked against the manifest's SHA-256 before it gets its name."""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError
from lulcbench.release import FileInfo
from lulcbench.remote.stores import ATTEMPTS, Place, Rejected, wait

PARTIAL = ".partial"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # of the disk here, so that neither waiting nor another place helps
Advance = Callable[[int], None]


def absent(folder: Path, files: Sequence[FileInfo]) -> list[FileInfo]:
    """Files that are not here in full. Only whole, checked files ever get their name, so the size suffices."""
    return [f for f in files if not (folder / f.path).is_file() or (folder / f.path).stat().st_size != f.bytes]


def fetch(
    places: Sequence[Place], folder: Path, files: Sequence[FileInfo], workers: int = 8, progress: bool = True
) -> None:
    """Get files, several at a time; each takes the place of what has its name when it is whole and right.

    Raises:
        LulcbenchError: too little space, or no place has a file right.
    """
    if not files:
        return
    (folder / PARTIAL).mkdir(exist_ok=True)
    have = sum(min(file.bytes, _size(_partial(folder, file))) for file in files)
    need, free = sum(file.bytes for file in files) - have, shutil.disk_usage(folder).free
    if need > free:
        raise LulcbenchError(
            f"{need / 2**30:.1f} GiB are needed at {folder}, {free / 2**30:.1f} GiB are free.",
            "Choose fewer splits, sensors or years, or another disk.",
        )
    from lulcbench._console import transfer_progress

    with transfer_progress(progress) as bar, ThreadPoolExecutor(workers) as pool:
        task = bar.add_task("download", total=need + have, completed=have)
        stop = threading.Event()
        jobs = [pool.submit(_fetch, places, folder, file, lambda n: bar.advance(task, n), stop) for file in files]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def _fetch(places: Sequence[Place], folder: Path, file: FileInfo, advance: Advance, stop: threading.Event) -> None:
    """One file, from the first place that has it right."""
    target, partial = folder / file.path, _partial(folder, file)
    failures = []
    for source in places:
        wrong_in_full = 0
        for attempt in range(ATTEMPTS):
            if stop.is_set():
                return
            begun = _size(partial) > 0
            try:
                _resume(source, file, partial, advance, stop)
            except Rejected as error:
                failures.append(f"{source.name}: {error}")
                break
            except Exception as error:  # connections break in as many ways as there are libraries
                if isinstance(error, OSError) and error.errno in FULL:
                    stop.set()  # here, before this thread takes the next file
                    raise
                failures.append(f"{source.name}: {type(error).__name__}: {error}")
                if attempt + 1 < ATTEMPTS:
                    wait(attempt, error)
                continue
            if stop.is_set():
                return
            if hash_file(partial) == file.sha256:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.replace(target)
                return
            advance(-partial.stat().st_size)
            partial.unlink()
            failures.append(f"{source.name}: the bytes do not have the SHA-256 of the manifest")
            wrong_in_full += not begun  # what was begun may have been wrong here, before this place was asked
            if wrong_in_full == 2:  # it is not the line, it is the file
                break
    raise LulcbenchError(
        f"Could not get {file.path}: {'; '.join(dict.fromkeys(failures))}.",
        "Run the same command again to go on where it stopped, or name a mirror.",
    )


def _resume(source: Place, file: FileInfo, partial: Path, advance: Advance, stop: threading.Event) -> None:
    have = _size(partial)
    if have > file.bytes:
        partial.unlink()
        advance(-file.bytes)
        have = 0
    with partial.open("ab") as out:
        if have < file.bytes:
            for piece in source.read(file.path, have, file.bytes):
                out.write(piece[: file.bytes - have])
                advance(min(len(piece), file.bytes - have))
                have += len(piece)
                if stop.is_set() or have >= file.bytes:
                    break
    if have < file.bytes and not stop.is_set():
        raise ConnectionError(f"cut off after {have} of {file.bytes} bytes")


def _partial(folder: Path, file: FileInfo) -> Path:
    # Named by what it will be, so that any place may go on where another was cut off, and by where it will be, since
    # several files may have the same content.
    return folder / PARTIAL / hashlib.sha256(f"{file.sha256} {file.path}".encode()).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
