"""Training a network: data, network, Lightning trainer, and what is left behind."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from baselines.config import ClassificationModel, Config, SegmentationModel
from baselines.data.arrays import Problem
from baselines.models.networks import build, check_bands, count_parameters
from baselines.run import DESCRIPTION, Trained, cut_short, load_run, save_run, threads_of, versions
from baselines.tasks.task import Task
from baselines.training.calibrate import fit_temperature
from baselines.training.callbacks import BEST, LAST, Averaging, Checkpoints, History, OutOfTime, Progress
from baselines.training.card import write_card
from baselines.training.checkpoint import SafeCheckpoint
from lulcbench._console import console
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

__all__ = ["OutOfTime", "hardware", "make_trainer", "train"]

STARTED = "started.json"
Restart = Literal["never", "if-other", "always"]


def train(
    config: Config, problem: Problem, out: Path, restart: Restart = "never", deadline: float | None = None
) -> Trained:
    """Train the network of a config, resume it, or read it if it is there already.

    Args:
        config: the run.
        problem: its data.
        out: the run's folder is ``out/<name>``.
        restart: ``never``, ``always``, or ``if-other``: throw away what is there if its config or data are others.
        deadline: ``time.monotonic()`` at which to stop, to be resumed by another call.

    Raises:
        OutOfTime: the deadline came first.
        LulcbenchError: the folder holds a run of another config or other data; memory ran out; the loss diverged.
    """
    if not isinstance(config.model, SegmentationModel | ClassificationModel):
        raise LulcbenchError(f"{config.model.kind} is not trained by gradient.", "Use 'python -m baselines predict'.")
    folder = out / config.name
    identity = {"config": config.digest, "data": problem.digest}
    other = _other(folder, identity)
    if restart == "always" or (other and restart == "if-other"):
        if rank_zero_only.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    elif other:
        raise LulcbenchError(
            f"{folder} holds a run of {other}.", "Choose another name or --out, or pass --restart to throw it away."
        )
    if (folder / DESCRIPTION).is_file():
        console.print(f"{folder} holds this run, trained; --restart trains it again.")
        return load_run(folder)
    if problem.absent:
        console.print(f"[yellow]{len(problem.absent)} classes are absent from train:[/] {', '.join(problem.absent)}")
    with threads_of(config):
        return _train(config, problem, folder, identity, deadline)


def _train(config: Config, problem: Problem, folder: Path, identity: dict[str, str], deadline: float | None) -> Trained:
    L.seed_everything(config.seed, verbose=False)
    check_bands(config.model, problem.channels)
    net = build(config.model, len(problem.channels), len(problem.classes))
    parameters = count_parameters(net)
    console.print(
        f"{config.model.kind}: {parameters['trainable']:,} of {parameters['total']:,} parameters are trained; "
        f"{len(problem.train):,} samples of {len(problem.channels)} channels, {len(problem.classes)} classes; on "
        + ("the GPU" if torch.cuda.is_available() else "the CPU, as there is no GPU")
    )
    task = Task(net, problem, config)
    trainer = make_trainer(config, folder, problem.val is not None, deadline)
    last = folder / LAST
    write_atomic(folder / STARTED, json.dumps(identity).encode())
    temperature = 1.0
    try:
        with quiet():
            trainer.fit(task, ckpt_path=last if last.is_file() else None, weights_only=True)
        if config.train.patience is not None and (folder / BEST).is_file():
            task.load_state_dict(SafeCheckpoint().load_checkpoint(folder / BEST)["state_dict"])
        if trainer.is_global_zero and problem.val is not None and config.predict.calibrate:
            task.to(trainer.strategy.root_device)  # Lightning leaves it on the CPU
            temperature = fit_temperature(task)
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise LulcbenchError(
            f"Memory ran out with train.batch_size = {config.train.batch_size} and "
            f"predict.batch_size = {config.predict.batch_size}.",
            "Lower train.batch_size and raise train.accumulate by as much, or lower predict.batch_size (if training "
            "is over) or train.resident_gib.",
        ) from error
    if trainer.is_global_zero:
        facts = {
            "temperature": temperature,
            "parameters": parameters,
            "seconds": round(task.seconds, 1),
            "core_seconds": round(task.core_seconds, 1),
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "planned_steps": task.planned_steps,
            "cut_short": task.out_of_time and trainer.global_step < task.planned_steps,
            "hardware": hardware(),
            "versions": versions(),
        }
        save_run(folder, net, config, problem, facts)
        write_card(folder)
        for leftover in (LAST, BEST):
            (folder / leftover).unlink(missing_ok=True)
    trainer.strategy.barrier()
    trained = load_run(folder)
    if warning := cut_short(trained.about):
        console.print(f"[bold yellow]{warning} Its scores are not those of the config; raise the limit.[/]")
    return trained


def make_trainer(config: Config, folder: Path, validates: bool, deadline: float | None = None) -> L.Trainer:
    """The Lightning trainer of a run."""
    settings = config.train
    if settings.patience is not None and not validates:
        raise LulcbenchError("train.patience needs a val split.", "Remove it, or learn from 'train' alone.")
    gpu = torch.cuda.is_available()
    if gpu and settings.devices > torch.cuda.device_count():
        raise LulcbenchError(
            f"train.devices = {settings.devices}, but this machine has {torch.cuda.device_count()} GPUs.",
            "Lower train.devices; train.nodes is for several machines.",
        )
    callbacks: list[L.Callback] = [
        History(folder),
        Checkpoints(folder, settings.patience is not None, settings.checkpoint_seconds, deadline),
        Progress(settings.steps),
    ]
    if settings.ema is not None:
        callbacks.append(Averaging(settings.ema))
    if settings.patience is not None:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience))
    world = settings.devices * settings.nodes
    with quiet():
        return L.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=settings.devices,
            num_nodes=settings.nodes,
            # Running statistics are averaged once an epoch (see Task); broadcasting them at every forward would
            # also make processes wait for each other in evaluation, where their numbers of batches differ.
            strategy=DDPStrategy(broadcast_buffers=False) if world > 1 else "auto",
            precision=settings.precision or ("bf16-mixed" if gpu else "32-true"),
            # The task stops at train.steps: with Lightning's own max_steps, a run cannot be resumed at an epoch's end.
            max_epochs=settings.epochs or settings.steps,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip,
            check_val_every_n_epoch=settings.validate_every,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if validates else 0,
            use_distributed_sampler=False,
            logger=TensorBoardLogger(folder, name="tensorboard", version=""),
            callbacks=callbacks,
            plugins=[SafeCheckpoint()],
            enable_checkpointing=True,
            enable_model_summary=False,
            log_every_n_steps=10,
            default_root_dir=folder,
        )


class quiet(warnings.catch_warnings):
    """Silence Lightning's hints about loader workers (the data lie in memory) and short epochs."""

    def __enter__(self) -> None:
        super().__enter__()
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        for pattern in (".*does not have many workers.*", ".*number of training batches.*", ".*LeafSpec.*"):
            warnings.filterwarnings("ignore", pattern)


def hardware() -> dict[str, Any]:
    """What it ran on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _processor(), "threads": torch.get_num_threads(), "gpu": gpu}


def _processor() -> str:
    """Name of the processor; on Linux ``platform`` knows only its architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _other(folder: Path, identity: dict[str, str]) -> str | None:
    """What the run in ``folder`` differs in from this one, in words; None where it is the same or there is none."""
    path = folder / STARTED
    if not path.is_file():
        return None
    before = json.loads(path.read_bytes())
    for part, digest in identity.items():
        if before.get(part) != digest:
            what = "another config" if part == "config" else "another release or data set"
            return f"{what} ({str(before.get(part))[:12]}…, not {digest[:12]}…)"
    return None
