"""Fitting the model of an experiment into the folder of its run, which is identified by config and data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from baselines.config import Config
from baselines.devices import threads, wait_for_all
from baselines.experiment import Experiment
from baselines.run import DESCRIPTION, Trained, load_run, save_run
from baselines.training.history import BEST, LAST
from lulcbench._console import console
from lulcbench._files import write_json
from lulcbench._parsing import MAX_TEXT_BYTES, parse_json, read_limited
from lulcbench.errors import LulcbenchError

STARTED = "started.json"
LOCK, LOG = ".lock", "log.txt"  # of a study, in the folder of the run
HELD = (LOCK, LOG)
Restart = Literal["never", "if-other", "always"]


def train(experiment: Experiment, out: Path, restart: Restart = "never", deadline: float | None = None) -> Trained:
    """Fit the model of an experiment, or resume fitting, or read the model if it is fitted already.

    Args:
        experiment: config, data and task.
        out: the folder of the run is ``out/<name>``.
        restart: when to discard an existing run: ``never``, ``always``, or ``if-other`` (of other config or data).
        deadline: ``time.monotonic()`` at which to stop; the next call resumes.

    Raises:
        OutOfTime: the deadline was reached.
        LulcbenchError: the folder has a run of another config or other data; memory ran out; the loss diverged.
    """
    from lightning.pytorch.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]  # takes seconds

    config, info = experiment.config, experiment.info
    main_process = getattr(rank_zero_only, "rank", 0) == 0
    folder = out / config.name
    other = None if restart == "always" else other_run(folder, config, info.digest)
    if restart == "always" or (other and restart == "if-other"):
        if main_process:
            _discard(folder)
    elif other:
        raise LulcbenchError(
            f"{folder} has a run of {other}.", "Choose another name or --out, or pass --restart to discard it."
        )
    if (folder / DESCRIPTION).is_file():
        console.print(f"{folder} already has the trained model; --restart trains it again.")
        return load_run(folder, config)
    if info.absent:
        console.print(f"[yellow]Absent from train:[/] {', '.join(info.absent)}")
    write_json(folder / STARTED, {"config": config.model_dump(mode="json"), "data": info.digest})
    try:
        with threads(config.threads):
            fitted = config.model.fit(experiment, folder, deadline)
            if main_process:
                save_run(folder, experiment, fitted)
                for leftover in (LAST, BEST):
                    (folder / leftover).unlink(missing_ok=True)
    except LulcbenchError:
        # Nothing to resume, also in no part of the run: the settings may be corrected under the same name.
        if not any(folder.rglob(LAST)):
            (folder / STARTED).unlink(missing_ok=True)
        raise
    wait_for_all()
    trained = load_run(folder, config)
    if warning := trained.about.warning:
        console.print(f"[bold yellow]{warning} Its scores are not those of the config; increase the limit.[/]")
    return trained


def _discard(folder: Path) -> None:
    """Delete the content of the folder of a run, except what its caller holds open: the lock and the log of a study.

    A process that comes later would lock a new file in place of one that is gone, and train in the same folder.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in HELD:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def other_run(folder: Path, config: Config, data: str) -> str | None:
    """Describe the run in a folder, finished or not, if it is not of these settings and data.

    Args:
        folder: folder of the run.
        config: settings; those that the run did not know yet count as defaults, those of predictions do not count.
        data: digest of the data.

    Returns:
        What differs; None if it is the same run, or there is none.
    """
    path, data_key = folder / DESCRIPTION, "data_digest"
    if not path.is_file():
        path, data_key = folder / STARTED, "data"
    if not path.is_file():
        return None
    before = parse_json(read_limited(path, MAX_TEXT_BYTES), str(path), "Pass --restart to discard the run.")
    if not config.same_as(before.get("config"), predicting=False):
        return "another config"
    if before.get(data_key) != data:
        return f"another release or data set ({str(before.get(data_key))[:12]}…, not {data[:12]}…)"
    return None
