"""The scoring process: opens an untrusted predictions file, scores it under limits and writes the outcome as JSON.

Run by the worker as ``python -m leaderboard.scoring.job PREDICTIONS OUT MEDIA LIMITS ROOT…``. Exit code 0: ``OUT``
holds ``{"result": …}``, ``{"refused": {"what", "remedy"}}``, or ``{"damaged": …}`` if the board's copy of the release
is damaged. Exit code 75: a fault of the machine (no space, say), try again later. SIGXCPU: scoring took too long. Any
other signal: the process was killed from outside. Any other exit code: a bug.
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

from leaderboard.scoring.isolation import code_folders, isolate
from leaderboard.scoring.sockets import close_sockets

if TYPE_CHECKING:
    from lulcbench.evaluation.counts import Counts
    from lulcbench.predictions import Predictions
    from lulcbench.release import FileInfo, Release

TEMPORARY_FAILURE = 75  # EX_TEMPFAIL of sysexits.h
_PR_SET_PDEATHSIG = 1
_EXTRA_THREADS = 64
_NICENESS = 5
_CPU_GRACE_S = 5  # from SIGXCPU to SIGKILL: with equal limits, Linux sends only SIGKILL, as when memory runs out
# Errors that a machine, a disk or a network share can cause, but the content of a file cannot.
_MACHINE = {"ENOSPC", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOENT", "EACCES", "EPERM", "ESTALE", "ETIMEDOUT", "ENOMEM"}

Scorer = Callable[[Path, list[Path], Path], dict[str, Any]]


def main(scorer: Scorer | None = None) -> None:
    """Score the file given on the command line, under the limits given there.

    Args:
        scorer: computes the result from (predictions, release roots, media folder); ``score_file`` unless a test
            needs a scorer that misbehaves.
    """
    predictions, out, media, limits, *roots = sys.argv[1:]
    allowed = json.loads(limits)
    confine(allowed)
    if allowed.get("isolate"):
        folder = Path(predictions).parents[1]
        read = [Path(predictions), *map(Path, roots), *_targets(roots), *code_folders(folder)]
        try:
            isolate(read, [Path(out).parent, Path(media)])
            close_sockets()
        except OSError as error:  # of the machine: not a fault of the file
            sys.stderr.write(f"{error}; isolate_scoring = false turns it off\n")
            sys.exit(TEMPORARY_FAILURE)
    # Imported only now, so that the limits apply to all imports.
    from lulcbench._files import write_atomic

    try:
        outcome = answer(scorer or score_file, Path(predictions), [Path(root) for root in roots], Path(media))
    except OSError as error:
        if errno.errorcode.get(error.errno or 0) not in _MACHINE:
            raise
        sys.stderr.write(f"{error}\n")  # for the operator's log
        sys.exit(TEMPORARY_FAILURE)
    try:
        write_atomic(Path(out), json.dumps(outcome).encode())
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(TEMPORARY_FAILURE)


def _targets(roots: list[str]) -> list[Path]:
    """Where the links in releases lead to."""
    return [path.resolve() for root in roots for path in Path(root).rglob("*") if path.is_symlink()]


def answer(scorer: Scorer, predictions: Path, roots: list[Path], media: Path) -> dict[str, Any]:
    """The content of ``OUT`` (see the module)."""
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
        return {"damaged": error.what}  # all of these concern the board's own release
    except LulcbenchError as error:
        return {"refused": {"what": error.what, "remedy": error.remedy}}
    except MemoryError:
        return {"refused": {"what": "Scoring needs more memory than is allowed.", "remedy": "Is the file damaged?"}}


def confine(limits: dict[str, int]) -> None:
    """Limit memory, CPU seconds, file size and threads of this process; it dies with its worker and dumps no core.

    ``limits`` has bytes of ``memory`` and ``file``, seconds of ``cpu``, and the process id of the ``parent``.

    It also lowers its priority, so that the web pages stay fast while it scores.
    """
    os.nice(_NICENESS)
    die_with_parent(limits["parent"])
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


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies for any reason (prctl(2)).

    A parent that died before this call sends no signal, so this process ends at once if it has been adopted.

    Args:
        parent: process id of the parent, as the parent itself stated it; 0 if that is not known.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        sys.stderr.write(f"The parent process {parent} has ended already.\n")
        os._exit(1)


def score_file(predictions: Path, roots: list[Path], media: Path) -> dict[str, Any]:
    """Score a predictions file against the release it was made for.

    Returns:
        ``release``, ``release_digest``, ``simulated``, ``task``, ``split``, ``scores``, ``cells`` and ``samples``, and
        ``blocks`` for paired tests: what the ledger entry needs.

    Raises:
        LulcbenchError: the file is not acceptable, or this board does not score such predictions.
        CorruptFileError: the board's copy of the release is incomplete or damaged.
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
        "release_digest": release.data_digest,
        "simulated": release.simulated,
        "task": scores.task,
        "split": scores.split,
        "scores": scores.model_dump(mode="json"),
        "cells": accuracy_map(counts),
        "samples": samples,
        "blocks": block_counts(counts).model_dump(mode="json"),
    }


def _count(predictions: Predictions) -> Counts:
    """Count the predictions; raises an error that explains it if this board does not hold the labels of their split."""
    from lulcbench.errors import CorruptFileError, LulcbenchError
    from lulcbench.evaluation.counts import count, labels_of
    from lulcbench.release.provenance import Provenance

    try:
        return count(predictions)
    except CorruptFileError:
        info, release, labels = predictions.info, predictions.release, set(labels_of(predictions))
        present = {file.array for file in release.manifest.files if file.split == info.split and _exists(release, file)}
        # Without a note on the download, the release was built on this machine and must be complete.
        note = Provenance.load(release.root)
        chosen = present if note is None else {key for key in labels if f"{info.split}/{key}" in note.parts}
        if labels <= present or chosen:
            raise
        # A board need not have every split.
        raise LulcbenchError(
            f"This board does not score {info.split} {'→'.join(map(str, info.years))} of {release.id}.",
            "Predict the split that its table shows.",
        ) from None


def _exists(release: Release, file: FileInfo) -> bool:
    return (Path(release.root) / file.path).is_file()


def open_predictions(path: Path, roots: list[Path]) -> Predictions:
    """Open a predictions file with the release of the board that it was made for.

    Raises:
        CorruptFileError, ReleaseNotFoundError, UnsupportedFormatError: a release that it may be for cannot be read.
        LulcbenchError: the file is refused, or was not made for any of the board's releases.
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
    """Number of threads of this user on the machine, which is what RLIMIT_NPROC limits."""
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
