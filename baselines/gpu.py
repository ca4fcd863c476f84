"""What to do with a GPU for some minutes: reference scores in order of priority, resumable, then throughput."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from rich.markup import escape

from baselines.config import CONFIGS, Config
from baselines.measure import FOLDER, add, committed, measure
from baselines.training.callbacks import OutOfTime
from lulcbench._console import console
from lulcbench.errors import LulcbenchError

# (config, seeds), most wanted first.
JOBS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("eurosat-rgb-random", (0, 1, 2)),
    ("eurosat-rgb-val", (0,)),
    ("eurosat-rgb-spatial", (0, 1, 2)),
    ("eurosat-rgb-block", (0, 1, 2)),
    ("luisa-sim-unet", (0, 1, 2)),
    ("luisa-sim-deeplab", (0, 1, 2)),
    ("luisa-sim-cls", (0, 1, 2)),
)
# A rehearsal: the same road with a small network for one epoch on a CPU; its scores are no references.
REHEARSAL = {"train": {"epochs": 1, "steps": None, "compile": False}, "predict": {"tta": False}}


def run_jobs(minutes: float, out: Path, smoke: bool = False, jobs: tuple[str, ...] = ()) -> list[Path]:
    """Make the references that are lacking until time is up; calling it again goes on where it stopped.

    Args:
        minutes: wall-clock limit.
        out: runs lie here, and in ``smoke`` the references too.
        smoke: rehearse on a CPU.
        jobs: names of configs; empty takes all.

    Returns:
        The references written.
    """
    deadline = time.monotonic() + 60 * minutes
    if not torch.cuda.is_available() and not smoke:
        raise LulcbenchError("There is no GPU here.", "Rehearse with --smoke, or train single configs on the CPU.")
    unknown = set(jobs) - {name for name, _ in JOBS}
    if unknown:
        raise LulcbenchError(f"No job {', '.join(unknown)}.", f"Jobs: {', '.join(name for name, _ in JOBS)}.")
    written = []
    for name, seeds in JOBS:
        if jobs and name not in jobs:
            continue
        config = Config.load(CONFIGS / f"{name}.toml")
        if smoke:
            config = config.replace(**REHEARSAL, model=config.model.small())
        folder = out if smoke else FOLDER
        done = committed(config, folder)  # of an earlier call, perhaps on another machine
        results = []
        for seed in [seed for seed in (seeds[:1] if smoke else seeds) if seed not in done]:
            try:
                results.append(measure(config, seed, out, deadline))
            except OutOfTime:
                console.print(f"{name}, seed {seed}: time is up; the next call resumes it.")
                break
            except (LulcbenchError, ImportError) as error:  # a bare machine may lack what the job needs
                console.print(f"[yellow]{name}, seed {seed} is skipped:[/] {escape(str(error))}")
                break
            result = results[-1]
            soon = f", 98 % of val after {result['seconds_to_98']:.0f} s" if result["seconds_to_98"] else ""
            console.print(f"{name}, seed {seed}: overall accuracy {result['overall_accuracy']:.4f}{soon}")
            written_here = add(config, results, folder)
        if results:
            written.append(written_here)
        if time.monotonic() > deadline:
            break
    return written
