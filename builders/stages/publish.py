"""Publish: copy a finished release to where users get it."""

from __future__ import annotations

import shutil
from pathlib import Path

from builders.stages._targets import Report, to_hub, to_url
from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError
from lulcbench.release import MANIFEST, Release


def publish(root: Path, target: str, report: Report | None = None) -> str:
    """Publish the release at ``root``; the kind of target follows from its form.

    Args:
        root: folder of the release.
        target: ``hf://owner/name``; a URL that fsspec writes, or a folder: it gets a folder named after release and
            version.
        report: called with files done and files in all.

    Returns:
        Where the release now is.

    Raises:
        LulcbenchError: the release is not whole, or another one of that version is there: releases are immutable.
    """
    if target.startswith("hf://"):
        return to_hub(root, target)
    if "://" in target:
        return to_url(root, target, report)
    return str(_to_folder(root, Path(target), report))


def _to_folder(root: Path, target: Path, report: Report | None) -> Path:
    release = Release.load(root)
    final = target.resolve() / release.id
    if final.exists():
        if Release.load(final).digest == release.digest:
            return final
        raise LulcbenchError(
            f"{final} holds another release of that version.", "Raise 'version' in the recipe: releases are immutable."
        )
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for done, file in enumerate(release.files, start=1):
            place = partial / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            if not (root / file.path).is_file():
                raise LulcbenchError(f"{root / file.path} is missing.", "Build the release again.")
            shutil.copyfile(root / file.path, place)
            if hash_file(place) != file.sha256:
                raise LulcbenchError(
                    f"{root / file.path} does not have the SHA-256 of the manifest.", "Build the release again."
                )
            if report:
                report(done, len(release.files))
        shutil.copyfile(root / MANIFEST, partial / MANIFEST)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return final
