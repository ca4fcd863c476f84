"""Reference scores on a GPU within a time limit, in order of priority; the next call resumes."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from rich.markup import escape

from baselines.config import CONFIGS, Config
from baselines.measure import FOLDER, add, committed, measure
from baselines.training.history import OutOfTime
from lulcbench._console import console
from lulcbench.errors import LulcbenchError

# (config, seeds) in order of priority.
JOBS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("eurosat-rgb-random", (0, 1, 2)),
    ("eurosat-rgb-val", (0,)),
    ("eurosat-rgb-spatial", (0, 1, 2)),
    ("eurosat-rgb-block", (0, 1, 2)),
    ("luisa-sim-unet", (0, 1, 2)),
    ("luisa-sim-deeplab", (0, 1, 2)),
    ("luisa-sim-cls", (0, 1, 2)),
)
# A rehearsal: the same code with a small network for one epoch on a CPU; its scores are not reference scores.
REHEARSAL = {"train": {"epochs": 1, "steps": None, "compile": False}, "predict": {"tta": False}}


def run_jobs(minutes: float, out: Path, smoke: bool = False, jobs: tuple[str, ...] = ()) -> list[Path]:
    """Compute missing reference scores until the time is up; the next call resumes.

    Args:
        minutes: wall-clock limit.
        out: folder of the runs; in a rehearsal also of the reference scores.
        smoke: rehearse on a CPU.
        jobs: names of configs; by default all.

    Returns:
        The files written.

    Raises:
        LulcbenchError: there is no GPU, or a job is unknown.
    """
    deadline = time.monotonic() + 60 * minutes
    if not torch.cuda.is_available() and not smoke:
        raise LulcbenchError("This machine has no GPU.", "Rehearse with --smoke, or train single configs on the CPU.")
    unknown = set(jobs) - {name for name, _ in JOBS}
    if unknown:
        raise LulcbenchError(
            f"Unknown job: {', '.join(sorted(unknown))}.", f"Jobs: {', '.join(name for name, _ in JOBS)}."
        )
    written = []
    for name, seeds in JOBS:
        if jobs and name not in jobs:
            continue
        config = Config.load(CONFIGS / f"{name}.toml")
        if smoke:
            config = config.replace(**REHEARSAL, model=config.model.small())
        folder = out if smoke else FOLDER
        done = committed(config, folder)  # from an earlier call, possibly on another machine
        results = []
        for seed in [seed for seed in (seeds[:1] if smoke else seeds) if seed not in done]:
            try:
                results.append(measure(config, seed, out, deadline))
            except OutOfTime:
                console.print(f"{name}, seed {seed}: time is up; the next call resumes it.")
                break
            except (LulcbenchError, ImportError) as error:  # the machine may lack data or packages of the job
                console.print(f"[yellow]{name}, seed {seed} is skipped:[/] {escape(str(error))}")
                break
            result = results[-1]
            soon = f", 98 % of val after {result['seconds_to_98']:.0f} s" if result["seconds_to_98"] else ""
            console.print(f"{name}, seed {seed}: overall accuracy {result['overall_accuracy']:.4f}{soon}")
            reference = add(config, results, folder)
        if results:
            written.append(reference)
        if time.monotonic() > deadline:
            break
    return written
