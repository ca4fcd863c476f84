"""The process that opens an untrusted file: it scores the file under limits and writes one JSON file.

Run by the worker as ``python -m leaderboard.scoring.job PREDICTIONS OUT MEDIA LIMITS ROOT…``. Exit code 0: ``OUT``
holds ``{"result": …}``, ``{"refused": {"what", "remedy"}}``, or ``{"damaged": …}`` if the board's copy of the release
is at fault. Exit code 75: the machine is at fault (no space), try again later. SIGXCPU: the file took too long. Any
other signal: something on the machine ended it. Anything else: a bug.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lulcbench.evaluation.counts import Counts
    from lulcbench.predictions import Predictions
    from lulcbench.release import FileInfo, Release

TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
_PR_SET_PDEATHSIG = 1
_EXTRA_THREADS = 64
_NICENESS = 5
_CPU_GRACE_S = 5  # from SIGXCPU to SIGKILL: with equal limits Linux sends SIGKILL alone, as if memory ran out
# What the machine, a disk or a share of the network may be at fault for, and no content of a file.
_MACHINE = {"ENOSPC", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOENT", "EACCES", "EPERM", "ESTALE", "ETIMEDOUT", "ENOMEM"}

Scorer = Callable[[Path, list[Path], Path], dict[str, Any]]


def main(scorer: Scorer | None = None) -> None:
    """Score the file that the command line names, under the limits that it names.

    Args:
        scorer: what makes the result of (predictions, release roots, media folder); ``score_file`` unless a test
            needs a scorer that misbehaves.
    """
    predictions, out, media, limits, *roots = sys.argv[1:]
    confine(json.loads(limits))
    # Imported only now, so that the limits hold for all that follows.
    from lulcbench._files import write_atomic

    try:
        said = answer(scorer or score_file, Path(predictions), [Path(root) for root in roots], Path(media))
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in _MACHINE:
            raise
        sys.stderr.write(f"{error}\n")  # for the operator's log
        sys.exit(TEMPORARY_FAILURE)
    try:
        write_atomic(Path(out), json.dumps(said).encode())
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(TEMPORARY_FAILURE)


def answer(scorer: Scorer, predictions: Path, roots: list[Path], media: Path) -> dict[str, Any]:
    """What goes into ``OUT`` (see the module)."""
    from lulcbench.errors import (
        CorruptFileError,
        LulcbenchError,
        NetworkError,
        ReleaseNotFoundError,
        UnsupportedFormatError,
    )

    try:
        return {"result": scorer(predictions, roots, media)}
    except (CorruptFileError, NetworkError, ReleaseNotFoundError, UnsupportedFormatError) as error:
        return {"damaged": error.what}  # all of them are of the board's own release
    except LulcbenchError as error:
        return {"refused": {"what": error.what, "remedy": error.remedy}}
    except MemoryError:
        return {"refused": {"what": "Scoring needs more memory than is allowed.", "remedy": "Is the file damaged?"}}


def confine(limits: dict[str, int]) -> None:
    """Bound this process: memory, CPU seconds, file size, threads; it dies with its worker and dumps no core.

    It also yields the processor to everybody else, so that readers do not feel that scoring goes on.
    """
    os.nice(_NICENESS)
    die_with_parent()
    for name, value in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["cpu"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NPROC, _tasks_of_user() + _EXTRA_THREADS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        most = value + _CPU_GRACE_S if name == resource.RLIMIT_CPU else value
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (min(value, most), most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing too much then fails with an error instead of a core


def die_with_parent() -> None:
    """Have the kernel end this process when its parent dies, however that dies (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def score_file(predictions: Path, roots: list[Path], media: Path) -> dict[str, Any]:
    """Score a predictions file against the release that it names.

    Returns:
        ``release``, ``release_digest``, ``simulated``, ``task``, ``split``, ``scores``, ``cells`` and ``samples``, and
        ``blocks`` for paired tests: what the ledger entry needs.

    Raises:
        LulcbenchError: the file is not acceptable, or this board does not score such predictions.
        CorruptFileError: the board's copy of the release is not whole.
    """
    from leaderboard.scoring.pictures import accuracy_map, draw_samples
    from lulcbench.evaluation.comparison import block_counts
    from lulcbench.evaluation.scoring import summarise

    with open_predictions(predictions, roots) as opened:
        counts = _count(opened)
        samples = draw_samples(opened, counts, media)
    release = counts.release
    scores = summarise(counts)
    return {
        "release": release.id,
        "release_digest": release.digest,
        "simulated": release.simulated,
        "task": scores.task,
        "split": scores.split,
        "scores": scores.model_dump(mode="json"),
        "cells": accuracy_map(counts),
        "samples": samples,
        "blocks": block_counts(counts).model_dump(mode="json"),
    }


def _count(predictions: Predictions) -> Counts:
    """Counts of the predictions; a clear refusal if this board does not have the labels of their split."""
    from lulcbench.errors import CorruptFileError, LulcbenchError
    from lulcbench.evaluation.counts import count
    from lulcbench.release import ArrayKey
    from lulcbench.release.provenance import Provenance

    try:
        return count(predictions)
    except CorruptFileError:
        info, release = predictions.info, predictions.release
        labels = {ArrayKey("luisa", year) for year in info.years}
        here = {file.array for file in release.manifest.files if file.split == info.split and _is_here(release, file)}
        # Without a note of what was downloaded, the release was built here, so that nothing of it may be missing.
        note = Provenance.load(release.root)
        chosen = here if note is None else {key for key in labels if f"{info.split}/{key}" in note.parts}
        if labels <= here or chosen:
            raise
        # A board need not have every split.
        raise LulcbenchError(
            f"This board does not score {info.split} {'→'.join(map(str, info.years))} of {release.id}.",
            "Predict the split that its table shows.",
        ) from None


def _is_here(release: Release, file: FileInfo) -> bool:
    return (Path(release.root) / file.path).is_file()


def open_predictions(path: Path, roots: list[Path]) -> Predictions:
    """The predictions of a file, with the release among those of the board that it was made for.

    Raises:
        CorruptFileError, ReleaseNotFoundError, UnsupportedFormatError: the release that it may be for cannot be read.
        LulcbenchError: the file is refused, or was made for none of the board's releases.
    """
    from lulcbench.errors import LulcbenchError
    from lulcbench.predictions import OtherReleaseError, Predictions
    from lulcbench.release import Release

    releases: list[Release] = []
    damaged: LulcbenchError | None = None
    for root in roots:
        try:
            releases.append(Release.open(root))
        except LulcbenchError as error:
            damaged = error
    if damaged and not releases:
        raise damaged
    try:
        return Predictions.open(path, *releases)
    except OtherReleaseError:
        if damaged:
            raise damaged from None
        raise


def _tasks_of_user() -> int:
    """Threads of this user on the machine, which RLIMIT_NPROC counts."""
    uid, total = os.getuid(), 0
    for task in Path("/proc").glob("[0-9]*"):
        try:
            if task.stat().st_uid == uid:
                total += len(list((task / "task").iterdir()))
        except OSError:
            continue
    return total


if __name__ == "__main__":
    main()
