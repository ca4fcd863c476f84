"""Callbacks of training: learning curve, checkpoints, moving average of the weights."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar, WeightAveraging
from torch import Tensor

from baselines.training.history import BEST, HISTORY, LAST, OutOfTime
from lulcbench._files import write_atomic


def _validated(trainer: L.Trainer) -> bool:
    """Whether this epoch was validated; otherwise ``callback_metrics`` may contain metrics of an older epoch."""
    return (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0


class History(Checkpoint):
    """Learning curve: one row per epoch in ``history.csv``; checkpoints contain it, so that resuming continues it.

    A ``Checkpoint``, because only these callbacks run after the module has logged the mean loss of the epoch.

    Args:
        folder: folder of ``history.csv``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row and write the file."""
        metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": lr, "seconds": pl_module.seconds}
        row |= {k: v for k, v in metrics.items() if _validated(trainer) or not k.startswith("val_")}
        self.rows.append(row)
        if trainer.is_global_zero:
            text = io.StringIO()
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            writer = csv.DictWriter(text, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
            write_atomic(self.folder / HISTORY, text.getvalue().encode())

    def state_dict(self) -> dict[str, Any]:
        """Rows of the learning curve."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the rows of the resumed run."""
        self.rows = state["rows"]


class Progress(RichProgressBar):
    """Lightning's progress bar, on stderr.

    Args:
        steps: length of the run if it is given in steps, else None.
    """

    def __init__(self, steps: int | None) -> None:
        super().__init__(console_kwargs={"stderr": True})
        self.steps = steps

    def _get_train_description(self, current_epoch: int) -> str:
        if self.steps is None:
            return super()._get_train_description(current_epoch)
        return f"Epoch {current_epoch}, step {self.trainer.global_step} of {self.steps}"


class Checkpoints(Checkpoint):
    """Saves ``last.ckpt`` at the end of an epoch, at most every ``seconds``, and ``best.ckpt`` by validation loss.

    Args:
        folder: folder of the checkpoints.
        best: whether to keep the best.
        seconds: minimum time between two saves of ``last.ckpt``.
        deadline: ``time.monotonic()`` at which to save and raise ``OutOfTime``.
    """

    def __init__(self, folder: Path, best: bool, seconds: float, deadline: float | None = None) -> None:
        self.folder, self.best, self.seconds, self.deadline = folder, best, seconds, deadline
        self.best_loss = float("inf")
        self.stopped = False
        self._saved = float("-inf")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save if due; all processes take the same decision."""
        self.stopped = trainer.should_stop
        if self.best and _validated(trainer):
            loss = trainer.strategy.broadcast(float(trainer.callback_metrics["val_loss"]))
            if loss < self.best_loss:
                self.best_loss = loss
                trainer.save_checkpoint(self.folder / BEST)
        now = time.monotonic()
        out_of_time = trainer.strategy.broadcast(self.deadline is not None and now >= self.deadline)
        if out_of_time or trainer.strategy.broadcast(now - self._saved >= self.seconds):
            trainer.save_checkpoint(self.folder / LAST)
            self._saved = now
        if out_of_time:
            raise OutOfTime

    def state_dict(self) -> dict[str, Any]:
        """The best loss so far, and whether training was stopped early."""
        return {"best_loss": self.best_loss, "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the resumed run."""
        self.best_loss, self.stopped = state["best_loss"], state["stopped"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep a run stopped that early stopping has ended."""
        trainer.should_stop = self.stopped


class Averaging(WeightAveraging):
    """Exponential moving average of weights and running statistics, used for validation and as the result.

    The decay rises with the number of updates n as (1 + n) / (10 + n), so that the random initial weights have little
    effect in short runs (as in TensorFlow's ExponentialMovingAverage).

    Args:
        decay: final value of the decay.
    """

    def __init__(self, decay: float) -> None:
        def update(average: list[Tensor], current: list[Tensor], _: Any) -> None:
            n = self._latest_update_step
            weight = 1 - min(decay, (1 + n) / (10 + n))
            if average[0].is_floating_point():
                torch._foreach_lerp_(average, current, weight)
            else:
                torch._foreach_copy_(average, current)

        super().__init__(multi_avg_fn=update)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Copy the module; the number of averages is kept on the CPU, because torch reads it at every step."""
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Use the average as the result, also if the run is resumed after its last epoch (no ``on_train_end``)."""
        self._copy_average_to_current(pl_module)
