"""Committed reference scores over several seeds, with everything needed to reproduce them."""

from __future__ import annotations

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
from baselines.run import DESCRIPTION, versions
from baselines.train import train
from baselines.training.history import read_history
from lulcbench._console import console
from lulcbench._files import write_json
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, read_limited
from lulcbench.errors import LulcbenchError

FOLDER = Path(__file__).parent / "reference"
RESULT = "result.json"
LOCK = ".lock"
TOLERANCE = 0.005  # of accuracy: the effect of other hardware and library versions, in addition to that of the seeds


def measure(config: Config, seed: int, out: Path, deadline: float | None = None) -> dict[str, Any]:
    """Train with a seed and score the test split; an existing result of the same config and data is read instead.

    Args:
        config: the run; its name gets ``-seed<n>``.
        seed: seed of the run.
        out: folder of the runs.
        deadline: ``time.monotonic()`` at which training stops, to be resumed by the next call.

    Returns:
        ``seed``, ``overall_accuracy``, ``levels`` (maps only: level → metrics), ``log_loss``, wall-clock seconds and
        core seconds, ``epochs``, ``learning_curve``, ``seconds_to_98`` (until 98 % accuracy on val, or None),
        parameters, hardware, versions, commit, date, digests of config and data.

    Raises:
        OutOfTime: the deadline was reached.
        LulcbenchError: the data are missing or damaged, the folder has another run, or ``train.max_minutes`` cut
            training short.
    """
    run = config.replace(name=f"{config.name}-seed{seed}", seed=seed)
    folder = out / run.name
    if (folder / RESULT).is_file() and (folder / DESCRIPTION).is_file():
        done, data = _read_json(folder / RESULT), run.data.digest()
        if (done["data_digest"], done["config_digest"]) == (data, run.digest):
            console.print(f"{folder} already has the result of this run; nothing is trained.")
            return done
    started = time.monotonic()
    trained = train(Experiment.open(run), out, deadline=deadline)
    about = trained.about
    if about.warning:
        raise LulcbenchError(
            f"{run.name} is not a reference score, because it is not reproducible: {about.warning}",
            f"Increase train.max_minutes and delete {folder}.",
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
    write_json(folder / RESULT, result)
    return result


def combine(config: Config, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combine the results of several seeds into one reference score."""
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
    """Results of the committed reference score by seed; empty if it has another config."""
    if not (folder / f"{config.name}.json").is_file():
        return {}
    reference = read(config.name, folder)
    return {run["seed"]: run for run in reference["runs"]} if config.same_as(reference["config"]) else {}


def add(config: Config, results: Sequence[dict[str, Any]], folder: Path = FOLDER) -> Path:
    """Add results to a reference score; results of other seeds are kept if config and data are the same.

    Several processes may add seeds to one reference score at the same time.
    """
    data = results[0]["data_digest"]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):  # held from reading to writing
        before = {seed: run for seed, run in committed(config, folder).items() if run["data_digest"] == data}
        if not before and (folder / f"{config.name}.json").is_file():
            console.print(f"[yellow]{config.name}.json has another config or data: it is replaced.[/]")
        runs = before | {result["seed"]: result for result in results}
        return write(combine(config, [runs[seed] for seed in sorted(runs)]), folder)


def write(reference: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write ``<name>.json``."""
    path = folder / f"{reference['name']}.json"
    write_json(path, reference)
    return path


def read(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Read a committed reference score.

    Raises:
        LulcbenchError: there is no reference score of that name.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none yet"
        raise LulcbenchError(f"There is no reference {name!r}.", f"There are: {known}.")
    return _read_json(path)


def reproduce(name: str, out: Path, seeds: int | None = None, folder: Path = FOLDER) -> bool:
    """Train a reference again with its stored config, and check whether the mean accuracy is within its tolerance.

    The tolerance is the one stored plus two standard errors of the difference of the means.

    Args:
        name: name of the reference.
        out: folder of the runs.
        seeds: number of its seeds to train, at least 1; None trains all.
        folder: folder of the references.

    Returns:
        Whether the score is reproduced.

    Raises:
        LulcbenchError: the data are not those of the reference.
    """
    reference = read(name, folder)
    config = Config.parse(reference["config"], f"{name}.json")
    digest = config.data.digest()  # before hours of training
    if digest != reference["data_digest"]:
        raise LulcbenchError(
            f"{name} was computed from other data ({reference['data_digest'][:12]}…, not {digest[:12]}…).",
            "Get that release or archive, or compute a new reference.",
        )
    committed_runs = reference["runs"][:seeds]
    chosen = [run["seed"] for run in committed_runs]
    console.print(f"{name}: config of {name}.json, seeds {', '.join(map(str, chosen))}; runs in {out}")
    installed = versions()
    for package, recorded in reference["versions"].items():
        if installed.get(package) != recorded:
            current = installed.get(package, "not installed")
            console.print(f"[yellow]{package}: {recorded} in the reference, {current} on this machine[/]")
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
    """Commit of this checkout, with ``-dirty`` if files differ from it; None outside of a git checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        output = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip()
