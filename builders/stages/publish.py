"""Publish: copy a finished release to where users get it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.release import MANIFEST, Manifest
from lulcbench.release.verify import wrong
from lulcbench.remote import Publication, open_store

Report = Callable[[int, int], None]


def publish(root: Path, target: str, report: Report = lambda done, total: None) -> str:
    """Publish the release at ``root``: files first, the manifest last. Continues an interrupted publication.

    Args:
        root: folder of the release.
        target: ``hf://owner/name``; a URL that fsspec writes, or a folder: it gets a folder named after release and
            version.
        report: called with files done and files in all, where the target tells.

    Returns:
        Address of the published release.

    Raises:
        CorruptFileError: a file is missing or is not as the manifest says.
        NetworkError: the target refuses or cannot be reached.
        LulcbenchError: another release of that version is there: releases are immutable.
    """
    release = check(root)
    publication = Publication(root, release.files, MANIFEST, release.id, release.version, release.digest)
    return open_store(target).publish(publication, report)


def check(root: Path) -> Manifest:
    """The manifest, after hashing every file that it lists.

    Raises:
        CorruptFileError: a file is missing or is not as the manifest says.
        LulcbenchError: a file is not part of the release.
    """
    release = Manifest.load(root)
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda file: wrong(root / file.path, file), release.files))
    bad = [file.path for file, problem in zip(release.files, problems, strict=True) if problem]
    if bad:
        raise CorruptFileError(
            f"{len(bad)} files of {root} are missing or altered, such as {bad[0]}.",
            "Run 'lulcbench verify', then build the release again.",
        )
    known = {MANIFEST, *(file.path for file in release.files)}
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if path.is_file() and relative.as_posix() not in known and not relative.parts[0].startswith("."):
            raise LulcbenchError(f"{path} is not part of the release.", "Move it elsewhere before publishing.")
    return release
