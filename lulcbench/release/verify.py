"""Verification of a release: all local files are hashed in parallel."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lulcbench._files import hash_file
from lulcbench.release.entries import FileInfo
from lulcbench.release.keys import ArrayKey
from lulcbench.release.opened import Release
from lulcbench.release.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that differs from the manifest. ``file`` is None if the manifest does not list it."""

    path: str
    what: str
    file: FileInfo | None


@dataclass(frozen=True, slots=True)
class Report:
    """Results of ``verify``.

    Attributes:
        good: intact files.
        absent: files of arrays that were not requested when the release was downloaded.
        problems: missing, altered and unlisted files.
    """

    good: tuple[FileInfo, ...]
    absent: tuple[FileInfo, ...]
    problems: tuple[Problem, ...]


def expected_files(release: Release) -> tuple[list[FileInfo], list[FileInfo]]:
    """List the files that the folder should have, and files of arrays that were never downloaded.

    A split of an array counts as downloaded if the record of the download lists it, or if one of its shards exists; the
    metadata of an array, if one of its splits does.
    """
    arrays: dict[tuple[str | None, ArrayKey | None], list[FileInfo]] = defaultdict(list)
    for file in release.manifest.files:
        arrays[file.split, file.array].append(file)
    note = Provenance.load(release.root)
    noted = set(note.parts) if note and note.digest == release.digest else set()
    present = {
        (split, array)
        for (split, array), files in arrays.items()
        if f"{split}/{array}" in noted or any((Path(release.root) / file.path).is_file() for file in files)
    }
    begun = {array for _, array in present}
    expected: list[FileInfo] = []
    absent: list[FileInfo] = []
    for (split, array), files in arrays.items():
        wanted = array is None or (array in begun if split is None else (split, array) in present)
        (expected if wanted else absent).extend(files)
    return expected, absent


def missing_files(folder: Path, files: Sequence[FileInfo]) -> list[FileInfo]:
    """Files that are not in a folder with their full size.

    Sizes suffice after a download, because a file gets its name only when it is complete and checked.
    """
    return [f for f in files if not (folder / f.path).is_file() or (folder / f.path).stat().st_size != f.bytes]


def verify(
    release: Release,
    workers: int | None = None,
    advance: Callable[[FileInfo], None] = lambda file: None,
) -> Report:
    """Hash every local file of a release.

    Args:
        release: a release that was opened from a folder.
        workers: threads; None takes one per processor. Hashing runs outside the interpreter lock.
        advance: called after each file, from any thread.

    Examples:
        >>> verify(Release.open(root)).problems
        ()
    """
    folder = Path(release.root)
    expected, absent = expected_files(release)

    def check(file: FileInfo) -> Problem | None:
        what = wrong(folder / file.path, file)
        advance(file)
        return Problem(file.path, what, file) if what else None

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        checked = list(pool.map(check, expected))
    good = [file for file, problem in zip(expected, checked, strict=True) if problem is None]
    known = {file.path for file in release.manifest.files}
    stores = {PurePosixPath(path).parts[0] for path in known if "/" in path}
    unlisted = sorted(
        path.relative_to(folder).as_posix()
        for store in stores
        for path in (folder / store).rglob("*")
        if path.is_file() and path.relative_to(folder).as_posix() not in known
    )
    problems = [problem for problem in checked if problem] + [
        Problem(path, "is not part of the release", None) for path in unlisted
    ]
    return Report(tuple(good), tuple(absent), tuple(problems))


def wrong(path: Path, file: FileInfo) -> str | None:
    """Describe the fault of a file; None if it is intact."""
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"has {size} bytes instead of {file.bytes}"
        return None if hash_file(path) == file.sha256 else "has another SHA-256 than the manifest says"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error}"
