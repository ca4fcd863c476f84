"""Maps that are killed (SIGKILL) at chosen moments: just before a file or folder is created, renamed or deleted.

``python -m tests.lulcbench.maps.kill MODEL ROOT --kills 50`` kills maps of a whole release, with GeoTIFFs, at 50
moments, in chains: each map continues the one killed before it. The suite does the same with a part of the small
release and a few moments. With the model and the release of ``make map``, 50 maps of 900 files were killed before one
of 4,702 changes (2026-11-28); the bytes were the same.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lulcbench.maps import MapOptions, MappingUnit, map_release
from tests.builders.stages.kill import arm, tree

# A halo below the reach of the model, so that windows overlap; units of 5 and 10 pixels.
WHOLE = MapOptions(halo=0, mapping_unit=MappingUnit(artificial=0.05, other=0.1))
PART = replace(WHOLE, bounds=(4347470.0, 3131230.0, 4355520.0, 3137000.0))


def make(model: Path, root: Path, out: Path, moment: int = 0, whole: bool = False) -> int | None:
    """Make a map in a process of its own, of ``PART`` or of the whole release.

    Returns:
        Number of changes of files; None if the process was killed at ``moment``.
    """
    command = [sys.executable, "-m", "tests.lulcbench.maps.kill", str(model), str(root)]
    command += ["--out", str(out), "--moment", str(moment), *(["--whole"] if whole else [])]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=3600, cwd=Path(__file__).parents[3])
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0, ended.stderr[-3000:]
    return int(ended.stdout.splitlines()[-1])


def chain(model: Path, root: Path, out: Path, moments: int, kills: int, rng: random.Random, whole: bool = False) -> int:
    """Kill maps of one folder again and again, then let one finish; returns how many were killed.

    Raises:
        AssertionError: finished rows were made again.
    """
    killed = 0
    for _ in range(kills):
        before = {journal: journal.read_bytes() for journal in out.glob(".work/*.jsonl")}
        if make(model, root, out, rng.randint(1, moments), whole) is not None:
            break
        killed += 1
        for journal, rows in before.items():
            assert journal.read_bytes().startswith(rows), "finished rows were made again"
    if not (out / "zarr.json").is_file():
        make(model, root, out, whole=whole)
    return killed


def main(
    model: Path,
    root: Path,
    kills: Annotated[int, typer.Option(help="Moments.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    out: Annotated[Path | None, typer.Option(hidden=True)] = None,
    moment: Annotated[int, typer.Option(hidden=True)] = 0,
    whole: Annotated[bool, typer.Option("--whole", hidden=True)] = False,
) -> None:
    """Kill maps at seeded moments and compare them with one that was left alone."""
    if out is not None:
        count = arm(moment, str(out))
        map_release(model, root, out, replace(WHOLE, cog=True) if whole else PART)
        typer.echo(count[0])
        return
    rng, done = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        moments = make(model, root, Path(temporary, "whole"), whole=True)
        expected = tree(Path(temporary, "whole"))
        while done < kills:
            place = Path(temporary, f"chain-{done}")
            killed = chain(model, root, place, int(moments or 0) // 8, min(10, kills - done), rng, whole=True)
            assert tree(place) == expected, f"the map in {place} differs"
            done += killed
            shutil.rmtree(place)
            typer.echo(f"{done} maps of {len(expected)} files killed before any of {moments} changes; same bytes")


if __name__ == "__main__":
    typer.run(main)
