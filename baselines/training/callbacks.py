"""What watches a training run: its history, its checkpoints, and the moving average of its weights."""

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

from lulcbench._files import write_atomic

LAST = "last.ckpt"
BEST = "best.ckpt"
HISTORY = "history.csv"


def read_history(folder: Path) -> list[dict[str, float]]:
    """The learning curve of a run, one row per epoch, without what was not measured; of models without one, no row."""
    path = folder / HISTORY
    if not path.is_file():
        return []
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return [{k: float(v) for k, v in row.items() if v} for row in rows]


class OutOfTime(Exception):
    """A run was stopped at its deadline; it can be resumed."""


def _validated(trainer: L.Trainer) -> bool:
    """Whether this epoch was validated; else metrics of an older epoch linger in ``callback_metrics``, or none."""
    return (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0


class History(Checkpoint):
    """The learning curve: one row per epoch in ``history.csv``, carried in checkpoints so that resuming continues it.

    A ``Checkpoint``, because those alone are called after the module has logged the epoch's mean loss.

    Args:
        folder: where ``history.csv`` lies.
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
        """The rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The rows of the run that is resumed."""
        self.rows = state["rows"]


class Progress(RichProgressBar):
    """Lightning's progress bar, on stderr.

    Args:
        steps: length of the run, where it is given in steps.
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
        folder: where they lie.
        best: whether to keep the best.
        seconds: least time between two saves of ``last.ckpt``.
        deadline: ``time.monotonic()`` at which to save and raise ``OutOfTime``.
    """

    def __init__(self, folder: Path, best: bool, seconds: float, deadline: float | None = None) -> None:
        self.folder, self.best, self.seconds, self.deadline = folder, best, seconds, deadline
        self.best_loss = float("inf")
        self.stopped = False
        self._saved = float("-inf")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, if it is time; all processes decide alike."""
        self.stopped = trainer.should_stop
        if self.best and _validated(trainer):
            loss = trainer.strategy.broadcast(float(trainer.callback_metrics["val_loss"]))
            if loss < self.best_loss:
                self.best_loss = loss
                trainer.save_checkpoint(self.folder / BEST)
        now = time.monotonic()
        over = trainer.strategy.broadcast(self.deadline is not None and now >= self.deadline)
        if over or trainer.strategy.broadcast(now - self._saved >= self.seconds):
            trainer.save_checkpoint(self.folder / LAST)
            self._saved = now
        if over:
            raise OutOfTime

    def state_dict(self) -> dict[str, Any]:
        """The best loss so far, and whether training was stopped early."""
        return {"best_loss": self.best_loss, "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Those of the run that is resumed."""
        self.best_loss, self.stopped = state["best_loss"], state["stopped"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What was stopped early stays stopped."""
        trainer.should_stop = self.stopped


class Averaging(WeightAveraging):
    """Exponential moving average of weights and running statistics, used for validation and as the result.

    The decay rises with the number of updates n as (1 + n) / (10 + n), so that short runs are not held back by their
    random start (as in TensorFlow's ExponentialMovingAverage).

    Args:
        decay: what it rises to.
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
        """Copy the task; torch asks at every step how often it averaged, so that number is kept off the GPU."""
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The average is the result, also of a run resumed after its last epoch, which skips ``on_train_end``."""
        self._copy_average_to_current(pl_module)
