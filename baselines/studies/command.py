"""``python -m baselines study``: run, compare, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from baselines.studies.report import RESULTS as PAGE_RESULTS
from baselines.studies.report import write_report
from baselines.studies.runner import Outcome, outcome, run_study
from baselines.studies.study import STUDIES, Job, Study
from lulcbench._files import write_atomic, write_json
from lulcbench._parsing import parse_json
from lulcbench.errors import LulcbenchError

STUDIES_OUT = Path("runs/studies")
RESULTS = STUDIES / "results"
FIGURES = Path(__file__).parents[2] / "docs/assets/studies"
# What the committed results keep of each run.
KEPT = ("run", "seed", "data_digest", "temperature", "effort", "parameters", "warning")


def run(
    name: str,
    out: Path = STUDIES_OUT,
    root: Path | None = None,
    processes: int = 1,
    minutes: float | None = None,
    rehearse: bool = False,
    only: tuple[str, ...] = (),
    report: bool = False,
) -> tuple[Path, bool]:
    """Run what is missing of a study and write its page.

    Args:
        name: name or TOML file of the study.
        out: folder of all studies, which share their runs; the page is written to ``out/<study>``.
        root: release or archive in place of those of the configs.
        processes: runs at a time.
        minutes: wall-clock limit.
        rehearse: smallest models, one epoch, one seed.
        only: runs, such as ``config`` or ``config.setting``; empty runs all.
        report: run nothing.

    Returns:
        The page, and whether all runs of the study are finished.

    Raises:
        LulcbenchError: the study is invalid, or ``only`` names a run that it does not have.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    study = Study.load(name)
    jobs = study.jobs(None if root is None else root.resolve(), rehearse)
    chosen = [job for job in jobs if not only or _matches(job, only)]
    if only and not chosen:
        known = ", ".join(dict.fromkeys(job.run for job in jobs))
        raise LulcbenchError(f"{study.name} has no run {', '.join(only)}.", f"It has {known}.")
    if not report:
        run_study(chosen, out, processes, deadline)
    outcomes = [outcome(job, out) or Outcome(run=job.run, seed=job.seed, state="unfinished") for job in jobs]
    page = write_report(study, jobs, outcomes, out, out / (study.name + ("-rehearsal" if rehearse else "")))
    return page, all(o.state == "done" for o in outcomes)


def _matches(job: Job, only: tuple[str, ...]) -> bool:
    return any(name in (job.run, job.name) or job.run.startswith(f"{name}.") for name in only)


def publish(page: Path, results: Path = RESULTS, figures: Path = FIGURES) -> list[Path]:
    """Copy the results of a study, and its figures, to where ``python -m baselines tables`` reads them.

    Args:
        page: the page of the study.
        results: folder of the results.
        figures: folder of the figures.

    Returns:
        The files written.

    Raises:
        LulcbenchError: the study has no finished run, or was a rehearsal.
    """
    content = parse_json((page.parent / PAGE_RESULTS).read_bytes(), str(page.parent / PAGE_RESULTS))
    if content["rehearsal"] or not content["runs"]:
        raise LulcbenchError(f"{page.parent} has no results to publish.", "Run the study first, not as a rehearsal.")
    content["runs"] = [{key: run[key] for key in KEPT} for run in content["runs"]]
    written = [results / f"{content['study']}.json"]
    for folder in (results, figures):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(written[0], content)
    for entry in content["figures"]:
        written.append(figures / entry["file"])
        write_atomic(written[-1], (page.parent / entry["file"]).read_bytes())
    return written


def not_run(results: Path = RESULTS, studies: Path = STUDIES) -> list[dict[str, Any]]:
    """Name, title, question and core minutes of the studies that have no published results.

    Args:
        results: folder of the results.
        studies: folder of the studies.
    """
    done = {path.stem for path in results.glob("*.json")}
    missing = [Study.load(path) for path in sorted(studies.glob("*.toml")) if path.stem not in done]
    return [study.model_dump(include={"name", "title", "question", "core_minutes"}) for study in missing]
