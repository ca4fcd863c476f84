"""Running what is missing of a study: training, predictions, counts. Runs are resumed; a failure stops no other run."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.predicting.unit_counts import UnitCounts
from baselines.registry import Part
from baselines.run import Parameters, load_run
from baselines.studies.study import Job
from baselines.train import LOCK, LOG, train
from baselines.training.effort import Effort
from baselines.training.history import OutOfTime, read_history
from lulcbench._console import console
from lulcbench._files import write_atomic
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError

OUTCOME, COUNTS, DIGESTS = "outcome.json", "counts.npz", "digests.txt"
MAX_OUTCOME_BYTES = 2**24
State = Literal["done", "failed", "unfinished", "running"]


class Outcome(Part):
    """What became of a run, ``outcome.json``.

    Attributes:
        run, seed: name and seed of the run.
        state: ``unfinished``: the time was up; ``running``: in another process.
        error, remedy: why it failed.
        config: config of training, without predictions; None if it is invalid.
        data_digest: digest of the data.
        simulated: whether the data are simulated.
        predictions: names of the predictions.
        curve: learning curve.
        temperature: temperature of the calibration.
        facts: figures of the data, such as the share of samples that were kept.
    """

    run: str
    seed: int
    state: State
    error: str = ""
    remedy: str = ""
    config: dict[str, Any] | None = None
    label: str = ""
    data_digest: str = ""
    simulated: bool = False
    predictions: tuple[str, ...] = ()
    curve: list[dict[str, float]] = Field(default_factory=list)
    temperature: float = 1.0
    facts: dict[str, float] = Field(default_factory=dict)
    effort: Effort | None = None
    parameters: Parameters | None = None
    warning: str | None = None
    hardware: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


def run_study(
    jobs: Sequence[Job], out: Path, processes: int = 1, deadline: float | None = None, retry: bool = True
) -> list[Outcome]:
    """Run the jobs of a study that have no result yet.

    Args:
        jobs: the jobs.
        out: folder of all studies; runs are written to ``out/runs``, where studies share them.
        processes: jobs at a time; 1 runs them in this process, more in processes of their own, whose messages are
            written to ``log.txt`` in the folder of the run.
        deadline: ``time.monotonic()`` at which to stop; the next call resumes.
        retry: also run what has failed before.

    Returns:
        Outcomes in the order of the jobs.
    """

    def run(job: Job) -> Outcome:
        before = outcome(job, out)
        if before and (before.state == "done" or (before.state == "failed" and not retry)):
            return before
        if deadline is not None and time.monotonic() > deadline:
            return before or Outcome(run=job.run, seed=job.seed, state="unfinished", error="The time was up.")
        console.print(f"[bold]{job.name}[/]")
        result = _locked(job, out, lambda: (_apart if processes > 1 else _run)(job, out, deadline))
        if result.state == "failed":
            console.print(f"{job.name} failed: {result.error}", markup=False)
        return result

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(run, jobs)) if processes > 1 else [run(job) for job in jobs]


def outcome(job: Job, out: Path) -> Outcome | None:
    """The stored outcome of a job if it is of the same settings and data; None if there is none."""
    try:
        config, predictions = job.config(), job.predictions()
    except LulcbenchError as error:
        return _failed(job, error.what, error.remedy)
    path = out / "runs" / config.name / OUTCOME
    if not path.is_file():
        return None
    try:
        stored = Outcome.model_validate(
            parse_json(read_limited(path, MAX_OUTCOME_BYTES), str(path), "", MAX_OUTCOME_BYTES)
        )
        # Another study may have made the run.
        stored = stored.model_copy(update={"run": job.run, "seed": job.seed, "predictions": tuple(predictions)})
        if stored.state != "done":
            return stored
        same = config.same_as(stored.config, predicting=False) and stored.data_digest == config.data.digest()
        same = same and all(_is_current(config.name, predicting, stored, out) for predicting in predictions.values())
    except (LulcbenchError, ValidationError):
        return None  # it is made again
    return stored if same else None


def counts_file(job: Job, out: Path, prediction: str) -> Path:
    """File of the counts of a prediction."""
    return prediction_folder(job, out, prediction) / COUNTS


def prediction_folder(job: Job, out: Path, prediction: str) -> Path:
    """Folder of a prediction, named after its settings."""
    return _folder_of(job.config().name, job.predictions()[prediction], out)


def _folder_of(run: str, predicting: Config, out: Path) -> Path:
    key = hashlib.sha256(predicting.predict.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:16]
    return out / "runs" / run / "predictions" / key


def _is_current(run: str, predicting: Config, stored: Outcome, out: Path) -> bool:
    """Whether counts of these settings and data are stored."""
    folder = _folder_of(run, predicting, out)
    with suppress(LulcbenchError, OSError):
        UnitCounts.load(folder / COUNTS)
        return (folder / DIGESTS).read_text() == _digests(predicting, stored.data_digest)
    return False


def _digests(predicting: Config, trained_on: str) -> str:
    return f"{trained_on} {predicting.predicted.digest()}"


def _failed(job: Job, error: str, remedy: str = "") -> Outcome:
    return Outcome(run=job.run, seed=job.seed, state="failed", error=error, remedy=remedy)


def _locked(job: Job, out: Path, run: Callable[[], Outcome]) -> Outcome:
    try:
        folder = out / "runs" / job.config().name
    except LulcbenchError as error:
        return _failed(job, error.what, error.remedy)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            result = run()
            if result.state == "done":
                (folder / LOG).unlink(missing_ok=True)
            write_atomic(folder / OUTCOME, (result.model_dump_json(indent=1) + "\n").encode())
            return result
    except Timeout:
        return Outcome(run=job.run, seed=job.seed, state="running", error="Another process is running it.")


def _run(job: Job, out: Path, deadline: float | None) -> Outcome:
    """Run a job in this process; errors become outcomes."""
    try:
        return _fit_and_predict(job, out, deadline)
    except OutOfTime:
        return Outcome(run=job.run, seed=job.seed, state="unfinished", error="The time was up.")
    except LulcbenchError as error:
        return _failed(job, error.what, error.remedy)
    except Exception as error:  # a fault of one run must not stop the others
        console.print(traceback.format_exc(), markup=False)
        return _failed(
            job,
            f"{type(error).__name__}: {error}",
            "This is a fault of the program: the messages have its traceback.",
        )


def _fit_and_predict(job: Job, out: Path, deadline: float | None) -> Outcome:
    config, predictions = job.config(), job.predictions()
    runs = out / "runs"
    trained = train(Experiment.open(config), runs, "if-other", deadline)
    about = trained.about
    result = Outcome(
        run=job.run,
        seed=job.seed,
        state="done",
        config=config.model_dump(mode="json", exclude={"predict"}),
        label=config.label,
        data_digest=about.data_digest,
        simulated=about.info.simulated,
        predictions=tuple(predictions),
        curve=read_history(runs / config.name),
        temperature=about.temperature,
        facts=config.data.facts(),
        effort=about.effort,
        parameters=about.parameters,
        warning=about.warning,
        hardware=about.hardware,
        versions=about.versions,
    )
    for predicting in predictions.values():
        if not _is_current(config.name, predicting, result, out):
            folder = _folder_of(config.name, predicting, out)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            loaded = load_run(runs / config.name, predicting.replace(name=config.name))
            loaded.task.predict(loaded, folder)
            loaded.task.count(predicting, folder).save(folder / COUNTS)
            (folder / DIGESTS).write_text(_digests(predicting, about.data_digest))
    return result


def _apart(job: Job, out: Path, deadline: float | None) -> Outcome:
    """Run a job in a process of its own, which may die without effect on the others."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    left = None if deadline is None else deadline - time.monotonic()
    process = context.Process(target=_work, args=(job, out, left, sender))
    process.start()
    sender.close()
    text = None
    with suppress(EOFError):
        text = receiver.recv_bytes()  # bytes: objects would be unpickled
    process.join(None if text is None else 60)
    if text is not None:
        process.kill()  # libraries may wait for one another while the interpreter ends
        process.join()
        return Outcome.model_validate_json(text)
    code = process.exitcode or 0
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    remedy = "If memory ran out, lower train.batch_size or predict.batch_size, or run fewer processes."
    return _failed(job, f"Its process ended with {cause}.", f"{remedy} See {LOG}.")


def _work(job: Job, out: Path, left: float | None, sender: Any) -> None:
    with (out / "runs" / job.config().name / LOG).open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    deadline = None if left is None else time.monotonic() + left
    sender.send_bytes(_run(job, out, deadline).model_dump_json().encode())
