"""Committed reference scores: made from several seeds, with everything needed to make them again."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock

from baselines.config import Config
from baselines.devices import hardware
from baselines.experiment import Experiment
from baselines.run import versions
from baselines.train import train
from baselines.training.callbacks import read_history
from lulcbench._console import console
from lulcbench._files import write_atomic
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, read_limited
from lulcbench.errors import LulcbenchError

FOLDER = Path(__file__).parent / "reference"
RESULT = "result.json"
LOCK = ".lock"
TOLERANCE = 0.005  # of accuracy: what other hardware and library versions may change, beside the seeds


def measure(config: Config, seed: int, out: Path, deadline: float | None = None) -> dict[str, Any]:
    """Train with a seed and score the test split; a result of this config and these data that is there is read.

    Args:
        config: the run; its name gets ``-seed<n>``.
        seed: its seed.
        out: runs lie here.
        deadline: ``time.monotonic()`` at which training stops, to be resumed by the next call.

    Returns:
        seed, overall_accuracy, levels (maps only: level → metrics), log_loss, seconds (of the clock, and of all
        processor cores together), epochs, learning_curve, seconds_to_98 (until 98 % of val, if it came
        to that), parameters, hardware, versions, commit, date, config and data digests.

    Raises:
        OutOfTime: the deadline came first.
        LulcbenchError: the data are missing or damaged, the run's folder holds another run, or ``train.max_minutes``
            cut training short.
    """
    run = config.replace(name=f"{config.name}-seed{seed}", seed=seed)
    folder = out / run.name
    if (folder / RESULT).is_file():
        done = _read_json(folder / RESULT)
        if (done["config_digest"], done["data_digest"]) == (run.digest, run.data.digest()):
            console.print(f"{folder} holds the result of this run already; nothing is trained.")
            return done
    started = time.monotonic()
    trained = train(Experiment.open(run), out, deadline=deadline)
    about = trained.about
    if about.warning:
        raise LulcbenchError(
            f"{run.name} is no reference, for nobody could reproduce it: {about.warning}",
            f"Raise train.max_minutes, and remove {folder}.",
        )
    trained.task.predict(trained, folder)
    scores = trained.task.score(run, folder)
    curve = [{k: v for k, v in row.items() if k != "lr"} for row in read_history(folder)]
    result = {
        "seed": seed,
        **scores,
        "training_seconds": about.effort.seconds,
        "training_core_seconds": about.effort.core_seconds,
        "total_seconds": round(time.monotonic() - started, 1),
        "epochs": about.effort.epochs,
        "steps": about.effort.steps,
        "parameters": about.parameters.model_dump(),
        "temperature": about.temperature,
        "seconds_to_98": next((row["seconds"] for row in curve if row.get("val_accuracy", 0) >= 0.98), None),
        "learning_curve": curve,
        "hardware": about.hardware,
        "versions": about.versions,
        "commit": _commit(),
        "date": date.today().isoformat(),
        "config_digest": run.digest,
        "data_digest": about.data_digest,
        "simulated": about.info.simulated,
    }
    write_atomic(folder / RESULT, (json.dumps(result, indent=1) + "\n").encode())
    return result


def combine(config: Config, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One reference of the results of several seeds."""
    values = [r["overall_accuracy"] for r in results]
    return {
        "name": config.name,
        "overall_accuracy": {
            "mean": statistics.fmean(values),
            "sd": statistics.stdev(values) if len(values) > 1 else None,
        },
        "seeds": [r["seed"] for r in results],
        "tolerance": TOLERANCE,
        "simulated": results[0]["simulated"],
        "data_digest": results[0]["data_digest"],
        "config": config.model_dump(mode="json"),
        "config_digest": config.digest,
        "versions": versions(),
        "date": date.today().isoformat(),
        "hardware": hardware(),
        "runs": list(results),
    }


def committed(config: Config, folder: Path = FOLDER) -> dict[int, dict[str, Any]]:
    """Results that the reference of that very config has already, by seed."""
    if not (folder / f"{config.name}.json").is_file():
        return {}
    found = read(config.name, folder)
    try:
        # The configs themselves, not their digests: a newer version may know more settings, all at their defaults.
        same = Config.parse(found["config"]) == config
    except LulcbenchError:  # it names a setting that is no more
        same = False
    return {run["seed"]: run for run in found["runs"]} if same else {}


def add(config: Config, results: Sequence[dict[str, Any]], folder: Path = FOLDER) -> Path:
    """Write the reference of these results, and of those it has of other seeds, where config and data are the same.

    Several processes may add seeds to one reference at a time.
    """
    data = results[0]["data_digest"]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):  # to add is to read, then to write
        before = {seed: run for seed, run in committed(config, folder).items() if run["data_digest"] == data}
        if not before and (folder / f"{config.name}.json").is_file():
            console.print(f"[yellow]{config.name}.json was made with another config or data: it is replaced.[/]")
        runs = before | {result["seed"]: result for result in results}
        return write(combine(config, [runs[seed] for seed in sorted(runs)]), folder)


def write(reference: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write ``<name>.json``."""
    path = folder / f"{reference['name']}.json"
    write_atomic(path, (json.dumps(reference, indent=1) + "\n").encode())
    return path


def read(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """A committed reference.

    Raises:
        LulcbenchError: there is none of that name.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none yet"
        raise LulcbenchError(f"There is no reference {name!r}.", f"There are: {known}.")
    return _read_json(path)


def reproduce(name: str, out: Path, seeds: int | None = None, folder: Path = FOLDER) -> bool:
    """Retrain a reference with the config that lies in it, and say whether the mean lies within its tolerance.

    The tolerance is the reference's own plus two standard errors of the difference of the means.

    Args:
        name: of the reference.
        out: runs lie here.
        seeds: number of its seeds to take, at least 1; None takes all.
        folder: where references lie.

    Raises:
        LulcbenchError: the data here are not those that it was made from.
    """
    reference = read(name, folder)
    config = Config.parse(reference["config"], f"{name}.json")
    here = config.data.digest()  # before hours of training
    if here != reference["data_digest"]:
        raise LulcbenchError(
            f"{name} was made from other data ({reference['data_digest'][:12]}…, not {here[:12]}…).",
            "Get that release or archive, or make a new reference.",
        )
    committed_runs = reference["runs"][:seeds]
    chosen = [run["seed"] for run in committed_runs]
    console.print(f"{name}: the config that lies in {name}.json, seeds {', '.join(map(str, chosen))}; runs in {out}")
    now_here = versions()
    for package, was in reference["versions"].items():
        if now_here.get(package) != was:
            console.print(f"[yellow]made with {package} {was}, here {now_here.get(package, 'not installed')}[/]")
    results = []
    for run in committed_runs:
        results.append(measure(config, run["seed"], out))
        console.print(
            f"{name}, seed {run['seed']}: overall accuracy {results[-1]['overall_accuracy']:.4f} now, "
            f"{run['overall_accuracy']:.4f} committed"
        )
    before = reference["overall_accuracy"]
    now = statistics.fmean(r["overall_accuracy"] for r in results)
    error = 2 * (before["sd"] or 0) * (1 / len(chosen) + 1 / len(reference["seeds"])) ** 0.5
    allowed = reference["tolerance"] + error
    inside = abs(now - before["mean"]) <= allowed
    console.print(
        f"{name}: overall accuracy {now:.4f} now ({len(chosen)} seeds), {before['mean']:.4f} committed "
        f"({len(reference['seeds'])} seeds); difference {now - before['mean']:+.4f}, allowed ±{allowed:.4f}: "
        + ("reproduced" if inside else "NOT reproduced")
    )
    return bool(inside)


def _read_json(path: Path) -> dict[str, Any]:
    remedy = "Restore it, or delete it and measure again."
    return parse_json(read_limited(path, MAX_TEXT_BYTES, remedy), str(path), remedy)


def _commit() -> str | None:
    """Commit of this checkout, with ``-dirty`` where files differ from it; None outside of one."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        said = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()
