"""Training of a network with Lightning."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from baselines.devices import Images, memory_errors, to_device
from baselines.settings import TrainConfig
from baselines.tasks import Task
from baselines.training.calibrate import fit_temperature
from baselines.training.callbacks import Averaging, Checkpoints, History, Progress
from baselines.training.checkpoint import SafeCheckpoint
from baselines.training.effort import Effort, Losses
from baselines.training.history import BEST, LAST
from baselines.training.module import TrainingModule
from lulcbench._native import keep_freed_memory
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.experiment import Experiment


def fit_network(
    net: nn.Module,
    task: Task,
    predict: Callable[[Images], Tensor],
    experiment: Experiment,
    folder: Path,
    deadline: float | None = None,
) -> tuple[Effort, float]:
    """Train a network in place, or resume its training.

    Args:
        net: the network; it has the final weights afterwards.
        task: the task.
        predict: maps images to the probabilities of this network, computed as in prediction.
        experiment: config and data.
        folder: folder of the run, for checkpoints (read if there are any) and the learning curve.
        deadline: ``time.monotonic()`` at which to stop; the next call resumes.

    Returns:
        Effort, and the temperature that calibrates the probabilities (in the main process; 1 in others).

    Raises:
        OutOfTime: the deadline was reached.
        LulcbenchError: memory ran out; the loss diverged; there are fewer GPUs than requested; a batch has a single
            sample, which batch normalisation cannot be trained on.
    """
    config = experiment.config
    module = TrainingModule(net, task, config)
    has_val = config.data.has_val
    trainer = make_trainer(config.train, folder, has_val, deadline)
    last, temperature = folder / LAST, 1.0
    if not torch.cuda.is_available():
        keep_freed_memory(tensors=True)
    with memory_errors(
        f"train.batch_size = {config.train.batch_size} and predict.batch_size = {config.predict.batch_size}",
        "Lower train.batch_size and raise train.accumulate by the same factor, or lower predict.batch_size "
        "(if training has finished) or train.resident_gib.",
    ):
        with quiet(), _single_value_errors():
            checkpoint = last if last.is_file() else None
            trainer.fit(module, datamodule=experiment.data, ckpt_path=checkpoint, weights_only=True)
        if config.train.patience is not None and (folder / BEST).is_file():
            module.load_state_dict(SafeCheckpoint().load_checkpoint(folder / BEST)["state_dict"])
        module.eval()
        losses = None
        if trainer.is_global_zero and has_val:
            device = trainer.strategy.root_device
            module.to(device)  # Lightning leaves it on the CPU
            losses = _losses(module, experiment, device)
            if config.predict.calibrate:
                n = len(experiment.data.datasets["val"])
                temperature = fit_temperature(predict, task, _batches(experiment, "val", device), n)
    effort = Effort(
        seconds=round(module.seconds, 1),
        core_seconds=round(module.core_seconds, 1),
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        planned_steps=module.planned_steps,
        cut_short=module.out_of_time and trainer.global_step < module.planned_steps,
        losses=losses,
    )
    return effort, temperature


@contextmanager
def _single_value_errors() -> Iterator[None]:
    """Turn the error of a batch normalisation that sees a single value into one with a remedy."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise LulcbenchError(
            f"Batch normalisation has a single value per channel: {error}.",
            "Raise train.batch_size to 2 or more; the train split needs as many samples.",
        ) from error


def _losses(module: TrainingModule, experiment: Experiment, device: torch.device) -> Losses:
    sizes = {role: len(experiment.data.datasets[role]) for role in ("train", "val")}
    step = math.ceil(sizes["train"] / max(1, sizes["val"]))
    experiment.data.datasets["train"].set_epoch(module.current_epoch + 1)  # windows at random positions move on
    return Losses(
        train=_mean_loss(module, islice(_batches(experiment, "train", device), 0, None, step)),
        val=_mean_loss(module, _batches(experiment, "val", device)),
    )


def _mean_loss(module: TrainingModule, batches: Iterable[Sample]) -> float:
    total, n = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            size = len(module.task.truth(batch))
            total += float(module.task.loss(module(batch["image"]), batch)) * size
            n += size
    return total / max(n, 1)


def _batches(experiment: Experiment, role: Literal["train", "val"], device: torch.device) -> Iterator[Sample]:
    """Yield a split in order, normalised and without augmentation, only in this process."""
    data = experiment.data
    for batch in data.loader(role, experiment.config.predict.batch_size):
        yield data.datasets["train"].finish(to_device(batch, device))


def make_trainer(settings: TrainConfig, folder: Path, validates: bool, deadline: float | None = None) -> L.Trainer:
    """The Lightning trainer of a run.

    Args:
        settings: settings of training.
        folder: folder of the run.
        validates: whether there is a val split.
        deadline: ``time.monotonic()`` at which to stop.

    Raises:
        LulcbenchError: there are fewer GPUs than requested, or early stopping has no val split.
    """
    if settings.patience is not None and not validates:
        raise LulcbenchError("train.patience needs a val split.", "Remove it, or train only on 'train'.")
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
            # Running statistics are averaged once per epoch (see TrainingModule). With a broadcast in every forward
            # pass, processes would wait for each other in validation, where their numbers of batches differ.
            strategy=DDPStrategy(broadcast_buffers=False) if world > 1 else "auto",
            precision=settings.precision or ("bf16-mixed" if gpu else "32-true"),
            # The module stops at train.steps: with max_steps, Lightning cannot resume a run at the end of an epoch.
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
    """Silence hints of Lightning about loader workers (the data are in memory), short epochs and missing splits."""

    def __enter__(self) -> None:
        super().__enter__()
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        for pattern in (
            ".*does not have many workers.*",
            ".*number of training batches.*",
            ".*LeafSpec.*",
            ".*have no `val_dataloader`.*",  # of data without a val split
        ):
            warnings.filterwarnings("ignore", pattern)
