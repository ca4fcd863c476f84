"""Builds that are killed (SIGKILL) at chosen moments: just before a file or folder is created, renamed or deleted.

``python -m tests.builders.stages.kill --kills 50`` kills builds of the test world at 50 moments, in chains: each build
continues the one killed before it. The suite does the same with a few moments.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import typer

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

# Builds are forked from a process that has imported the builders, which takes longer than a build of the world.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["builders.__main__", *(f"builders.stages.{name}" for name in ("audit", "materialize", "pack", "search"))]
)


def arm(moment: int, folder: str) -> list[int]:
    """Kill this process at its ``moment``-th change of files below ``folder``; returns the counter, a list of one."""
    count = [0]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in EVENTS and not (event == "open" and isinstance(args[2], int) and args[2] & WRITING):
            return
        if isinstance(args[0], str | os.PathLike) and str(args[0]).startswith(folder):
            count[0] += 1
            if count[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def build(folder: Path, moment: int = 0) -> int | None:
    """Build the world of a folder in a process of its own.

    Returns:
        Number of changes of files; None if the process was killed at ``moment``.
    """
    receiver, sender = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_build, args=(folder, moment, sender))
    process.start()
    process.join(600)
    sender.close()
    with receiver:
        if process.exitcode == -signal.SIGKILL:
            return None
        assert process.exitcode == 0, folder.with_suffix(".log").read_text()[-3000:]
        return int(receiver.recv())


def _build(folder: Path, moment: int, changes: Connection) -> None:
    from builders.__main__ import app

    with folder.with_suffix(".log").open("w") as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        count = arm(moment, f"{folder}/")
        command = ["build", str(folder / "recipe.toml"), "--out", str(folder / "out"), "--workers", "1"]
        app(command, standalone_mode=False)
        changes.send(count[0])


def tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def finished(folder: Path) -> dict[str, int]:
    """Time of modification of each note of a finished tile or shard."""
    notes = [
        *(folder / "out.work" / "cache").rglob("[!.]*.json"),
        *(folder / "out.work" / "pack").rglob("shards/[!.]*"),
    ]
    return {str(path): path.stat().st_mtime_ns for path in notes}


def chain(folder: Path, moments: int, kills: int, rng: random.Random) -> int:
    """Kill builds of one folder again and again, then let one finish; returns how many were killed.

    Raises:
        AssertionError: finished work was done again.
    """
    killed = 0
    for _ in range(kills):
        before = finished(folder)
        moment = rng.randint(1, moments // (killed + 1))  # a build that goes on has fewer changes to make
        if build(folder, moment) is not None:
            break
        typer.echo(f"killed at change {moment} of {moments}")
        killed += 1
        after = finished(folder)
        again = [path for path, time in before.items() if after.get(path, time) != time]
        assert not again, f"finished work was done again: {again}"
        lost = [path for path in before if path not in after and "/cache/" in path]
        assert not lost, f"finished work was deleted: {lost}"
    build(folder)
    return killed


def main(
    kills: Annotated[int, typer.Option(help="Moments.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill builds at seeded moments and compare the releases with that of a build that was left alone."""
    from tests.builders import world

    rng, done = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        world.make(Path(temporary, "whole"))
        moments = build(Path(temporary, "whole"))
        expected = tree(Path(temporary, "whole", "out"))
        while done < kills:
            place = Path(temporary, f"chain-{done}")
            world.make(place)
            killed = chain(place, int(moments or 0), min(10, kills - done), rng)
            differ = {path for path, _ in tree(place / "out").items() ^ expected.items()}
            assert not differ, f"the release in {place} differs: {sorted(differ)}"
            done += max(killed, 1)
            typer.echo(f"{done} builds killed; the releases are the same")


if __name__ == "__main__":
    typer.run(main)
