"""The results of a study as ``study.json`` and one self-contained page, ``index.html``."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from baselines.predicting.unit_counts import UnitCounts
from baselines.run import load_run
from baselines.studies.figures import draw
from baselines.studies.results import Group, Result, compare, resolution_floor, summary
from baselines.studies.runner import Outcome, counts_file, prediction_folder
from baselines.studies.study import LOWER_IS_BETTER, TRAINING_VALUES, Job, Study
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.intervals import caution
from lulcbench.evaluation.metrics import METRICS
from lulcbench.plotting import Panel

PAGE, RESULTS = "index.html", "study.json"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of scores."""

    label: str
    description: str
    lower: bool


def write_report(study: Study, jobs: Sequence[Job], outcomes: Sequence[Outcome], runs: Path, out: Path) -> Path:
    """Compute scores and comparisons of what is finished, and write page and results; returns the page.

    Args:
        study: the study.
        jobs: its jobs.
        outcomes: their outcomes, in the same order.
        runs: folder of all studies.
        out: folder of the page.
    """
    groups = _groups(jobs, outcomes, runs)
    simulated = any(outcome.simulated for outcome in outcomes)
    results, problems = _compare(study, groups)
    figures = []
    for number, plot in enumerate(study.figures, start=1):
        try:
            drawn = draw(plot, groups, simulated, partial(_pictures, jobs, runs))
            figures.append((f"{study.name}-{number}.svg", plot.title, drawn))
        except LulcbenchError as error:
            problems.append(f"Figure “{plot.title}” is missing: {error.what}")
    open_jobs = [outcome for outcome in outcomes if outcome.state != "done"]
    scores = {name: _scores(study, group) for name, group in groups.items()}
    content: dict[str, Any] = {
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "note": study.note,
        "simulated": simulated,
        "rehearsal": any(job.rehearse for job in jobs),
        "scores": scores,
        "resolution_floor": _floors(groups),
        "comparisons": [result.model_dump() | {"finding": sentence(result)} for result in results],
        "figures": [{"file": file, "title": title} for file, title, _ in figures],
        "facts": dict(_facts(study, outcomes)),
        "problems": problems,
        "unfinished": [
            outcome.model_dump(include={"run", "seed", "state", "error", "remedy"}) for outcome in open_jobs
        ],
        "runs": [outcome.model_dump(mode="json", exclude={"curve"}) for outcome in outcomes if outcome.state == "done"],
    }
    out.mkdir(parents=True, exist_ok=True)
    for file, _, svg in figures:
        write_atomic(out / file, svg)
    write_atomic(out / RESULTS, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
    )
    html = environment.get_template("study.html.j2").render(
        content,
        seeds=study.seeds,
        columns={name: _column(name) for name in (*study.metrics, "training_minutes")},
        results=[(result, _column(result.metric), sentence(result)) for result in results],
        cautions=sorted({caution(r.units) for r in results if r.unit == "spatial blocks"} - {""}),
        warnings=[f"{o.run}, seed {o.seed}: {o.warning}" for o in outcomes if o.warning],
        figures=[(title, base64.b64encode(svg).decode()) for _, title, svg in figures],
        total=len(jobs),
    )
    write_atomic(out / PAGE, html.encode())
    return out / PAGE


def _groups(jobs: Sequence[Job], outcomes: Sequence[Outcome], out: Path) -> dict[str, Group]:
    found: dict[str, Group] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome.state == "done":
            for prediction in outcome.predictions:
                name = f"{job.run}/{prediction}" if prediction else job.run
                group = found.setdefault(name, Group(name, {}, {}))
                group.outcomes[job.seed] = outcome
                group.counts[job.seed] = UnitCounts.load(counts_file(job, out, prediction))
                group.folders[job.seed] = prediction_folder(job, out, prediction)
                group.configs[job.seed] = job.predictions()[prediction].replace(name=job.config().name)
    return found


def _pictures(jobs: Sequence[Job], out: Path, name: str, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
    """Pictures of the predictions of the first seed of a run, ``run`` or ``run/prediction``."""
    run, _, prediction = name.partition("/")
    job = next(job for job in jobs if job.run == run)
    trained = job.config().name
    config = job.predictions()[prediction].replace(name=trained)
    task = load_run(out / "runs" / trained, config).task
    return task.pictures(config, prediction_folder(job, out, prediction), count)


def _compare(study: Study, groups: dict[str, Group]) -> tuple[list[Result], list[str]]:
    results, problems = [], []
    for versus in study.comparisons:
        missing = [name for name in (versus.first, versus.second) if name not in groups]
        try:
            if missing:
                raise LulcbenchError(f"{' and '.join(missing)} is not finished.")
            results.append(compare(versus, groups[versus.first], groups[versus.second]))
        except LulcbenchError as error:
            problems.append(f"{versus.first} against {versus.second} ({versus.metric}) was not compared: {error.what}")
    return results, problems


def _scores(study: Study, group: Group) -> dict[str, Any]:
    """Metrics of a run: level → metric → mean, sd and values over seeds."""

    def entry(values: list[float]) -> dict[str, Any]:
        mean, sd = summary(values)
        return {"mean": mean, "sd": sd, "values": [None if math.isnan(v) else v for v in values]}

    levels: dict[str, Any] = {}
    for level in group.levels:
        levels[str(level)] = {m: entry(group.values(m, level)) for m in study.metrics if m not in TRAINING_VALUES}
    label = next(iter(group.outcomes.values())).label
    training = {name: entry(group.values(name)) for name in TRAINING_VALUES}
    return {"label": label, "split": group.split, "seeds": list(group.outcomes), "levels": levels, "training": training}


def _floors(groups: dict[str, Group]) -> dict[str, float | None]:
    """Level → ``resolution_floor``."""
    levels = sorted({level for group in groups.values() for level in group.levels})
    return {str(level): resolution_floor(list(groups.values()), level) for level in levels}


def _column(name: str) -> Column:
    if name in METRICS:
        return Column(METRICS[name].label, METRICS[name].description, not METRICS[name].higher_is_better)
    return Column(TRAINING_VALUES[name], TRAINING_VALUES[name], name in LOWER_IS_BETTER)


def sentence(result: Result) -> str:
    """The finding of a comparison in words, with its interval.

    Example:
        >>> versus = {"first": "a", "second": "b", "metric": "miou", "level": 3, "where": "all", "expect": None}
        >>> values = {"first_value": 0.5, "second_value": 0.4, "difference": 0.1, "low": 0.05, "high": 0.15, "p": 0.01}
        >>> units = {"margin": 0, "split": "test", "unit": "spatial blocks", "units": 12, "seeds": (3, 2)}
        >>> sentence(Result(**versus, **values, **units, verdict=None)).partition(" over ")[0]
        'mIoU at level 3 of a minus b: +0.100 [+0.050, +0.150]'
    """
    level = f" at level {result.level}" if result.level else ""
    where = {"all": "", "edge": " at label edges", "interior": " away from label edges"}[result.where]
    units = f"{result.units} {result.unit} of {result.split} and " if result.p is not None else ""
    verdict = f"; {result.verdict} ({result.expect})" if result.verdict else ""
    if max(result.seeds) == 1:
        verdict = ", without the variance between seeds"
    return (
        f"{_column(result.metric).label}{level}{where} of {result.first} minus {result.second}: "
        f"{result.difference:+.3f} [{result.low:+.3f}, {result.high:+.3f}] over {units}"
        f"{result.seeds[0]} and {result.seeds[1]} seed{'s' * (max(result.seeds) > 1)}{verdict}."
    )


def _facts(study: Study, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    if not done:
        return []
    machines = {
        str(o.hardware.get("gpu") or f"{o.hardware.get('cpu')}, {o.hardware.get('threads')} threads") for o in done
    }
    core_minutes = sum(o.effort.core_seconds for o in done if o.effort) / 60
    packages = ", ".join(f"{name} {number}" for name, number in done[-1].versions.items())
    return [
        ("made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("command", f"python -m baselines study {study.name}"),
        ("data", ", ".join(sorted({o.data_digest for o in done}))),
        ("training", f"{core_minutes:.1f} core-minutes; the study states {study.core_minutes:g} for everything"),
        ("machines", "; ".join(sorted(machines))),
        ("packages", packages),
    ]
