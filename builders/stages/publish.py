"""Publish: copy a finished release to where users get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from builders.stages.audit import PAGE, REPORT, audit, read_findings, write_findings
from lulcbench._files import hash_file
from lulcbench.errors import CorruptFileError, LulcbenchError
from lulcbench.release import INDEX, MANIFEST, FileInfo, Manifest
from lulcbench.release.verify import wrong
from lulcbench.remote import Publication, open_store

Report = Callable[[int, int], None]


def publish(
    root: Path,
    target: str,
    allow: Mapping[str, str] = MappingProxyType({}),
    report: Report = lambda done, total: None,
) -> str:
    """Publish the release at ``root``: files first, the manifest last. Continues an interrupted publication.

    A release is published only if it passes its audit, which runs unless its findings are there already. Findings and
    reasons are published with it.

    Args:
        root: folder of the release.
        allow: checks of the audit that may fail, each with the reason why the release is valid nevertheless.
        target: ``hf://owner/name``; a URL that fsspec writes, or a folder: it gets a folder named after release and
            version.
        report: called with files done and files in all, where the target tells.

    Returns:
        Address of the published release.

    Raises:
        CorruptFileError: a file is missing or is not as the manifest says.
        NetworkError: the target refuses or cannot be reached.
        LulcbenchError: another release of that version is there: releases are immutable; or the release fails its
            audit.
    """
    release = check(root)
    pass_audit(root, release, allow)
    extra = [
        FileInfo(
            path=name,
            bytes=(root / name).stat().st_size,
            sha256=hash_file(root / name),
            licence=release.files[0].licence,
        )
        for name in (REPORT, PAGE)
    ]
    files = [*release.files, *extra]
    publication = Publication(root, files, MANIFEST, release.id, release.version, release.digest)
    return open_store(target).publish(publication, report)


def pass_audit(root: Path, release: Manifest, allow: Mapping[str, str]) -> None:
    """Nothing, if the audit found nothing wrong but what is allowed; reasons are written into its findings.

    Raises:
        LulcbenchError: a check failed that is not allowed, or one is allowed that did not fail.
    """
    findings = read_findings(root, release) or audit(root)
    idle = sorted(set(allow) - set(findings.problems))
    if idle:
        raise LulcbenchError(
            f"The audit of {release.id} has no failed check named {idle[0]!r}.",
            f"Failed: {', '.join(sorted(findings.problems)) or 'none'}.",
        )
    failed = {name: problems for name, problems in findings.problems.items() if name not in allow}
    if failed:
        name, problems = next(iter(failed.items()))
        raise LulcbenchError(
            f"{release.id} fails {len(failed)} checks of its audit, such as {name!r}: {problems[0]} "
            f"({root / PAGE} shows all).",
            "Build it again without the fault. If it is right as it is, allow each check: --allow 'CHECK' --why "
            "'REASON'; both are published with it.",
        )
    if findings.allowed != dict(allow):
        write_findings(root, replace(findings, allowed=dict(allow)), pd.read_parquet(root / INDEX))


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
            "Run 'lulcbench check-files', then build the release again.",
        )
    known = {MANIFEST, REPORT, PAGE, *(file.path for file in release.files)}
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if path.is_file() and relative.as_posix() not in known and not relative.parts[0].startswith("."):
            raise LulcbenchError(f"{path} is not part of the release.", "Move it elsewhere before publishing.")
    return release
