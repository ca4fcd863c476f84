"""Training loop of all networks: steps, schedule, validation."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor, nn

from baselines.devices import Images, map_images
from baselines.tasks import Task
from lulcbench.datasets import seeds
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from baselines.config import Config


class TrainingModule(L.LightningModule):
    """A network, its task and its schedule.

    Batches come from ``LuisaDataModule``, on the device, normalised and augmented. All random numbers depend on (seed,
    epoch, batch, process), so a run resumed at the start of an epoch has the same result as one without interruption.

    Args:
        net: maps images to outputs.
        task: defines loss and metrics.
        config: config of the run.
    """

    def __init__(self, net: nn.Module, task: Task, config: Config) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.task = task
        self.config = config
        self.seconds = 0.0  # spent in training so far, over all attempts
        self.core_seconds = 0.0  # of processor time, summed over threads
        self._clock: tuple[float, float] | None = None
        if config.train.compile:
            self.net.compile()  # in place, so that names in checkpoints do not change
        self._sums: dict[str, Tensor] = {}
        self._names: list[str] = []  # of the metrics of validation

    def forward(self, images: Images) -> Tensor:
        """Compute outputs for normalised images."""
        outputs: Tensor = self.net(map_images(images, lambda i: i.contiguous(memory_format=torch.channels_last)))
        return outputs

    def setup(self, stage: str) -> None:
        """Set the number of threads of the config."""
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)  # if it launches several processes, Lightning sets its own

    # -- training --------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Seed the global generator (dropout), reset the sums, and freeze the statistics of frozen layers."""
        for module in self.net.modules():
            if (
                isinstance(module, nn.modules.batchnorm._BatchNorm)
                and module.affine
                and not module.weight.requires_grad
            ):
                module.eval()
        torch.manual_seed(seeds.mix(self.config.seed, self.current_epoch, self.global_rank, 7))
        self._sums = {"train": torch.zeros(2, device=self.device)}
        self._clock = time.monotonic(), time.process_time()

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Compute the loss of a batch."""
        loss = self.task.loss(self(batch["image"]), batch)
        self._sums["train"] += torch.stack([loss.detach(), torch.ones((), device=loss.device)])
        return loss * self._rescale(batch_idx)

    def _rescale(self, batch_idx: int) -> float:
        """Factor that makes the last, incomplete group of an epoch a mean too: Lightning divides by ``accumulate``."""
        accumulate, batches = self.config.train.accumulate, int(self.trainer.num_training_batches)
        rest = batches % accumulate
        return accumulate / rest if batch_idx >= batches - rest else 1.0

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add up the time; stop after ``train.steps`` or ``train.max_minutes``."""
        now = time.monotonic(), time.process_time()
        before = self._clock or now
        self.seconds += now[0] - before[0]
        self.core_seconds += now[1] - before[1]
        self._clock = now
        if self.config.train.max_minutes is not None and self.trainer.world_size > 1:
            self.seconds = self.trainer.strategy.broadcast(self.seconds)
        if self.out_of_time or self.global_step == self.config.train.steps:
            self.trainer.should_stop = True

    @property
    def out_of_time(self) -> bool:
        """Whether ``train.max_minutes`` is reached."""
        limit = self.config.train.max_minutes
        return limit is not None and self.seconds >= 60 * limit

    @property
    def planned_steps(self) -> int:
        """Number of optimizer steps of the complete schedule."""
        return self.config.train.steps or int(self.trainer.estimated_stepping_batches)

    def configure_optimizers(self) -> Any:
        """AdamW (no weight decay of biases and norms) with warm-up and cosine schedule."""
        train = self.config.train
        parameters = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=train.lr, fused=True)

        def shape(step: int) -> float:
            done = min(1.0, step / max(1, self.planned_steps))
            if done < train.warmup:
                return max(done / train.warmup, 0.01)
            return 0.5 * (1 + math.cos(math.pi * (done - train.warmup) / (1 - train.warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shape)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm: Lightning refuses to for fused optimizers in mixed precision, even without loss scaling."""
        if gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch."""
        loss, n = self.trainer.strategy.reduce(self._sums["train"], reduce_op="sum").tolist()
        if not math.isfinite(loss):
            raise LulcbenchError(
                f"The loss became {loss} in epoch {self.current_epoch}.",
                "Lower train.lr or set train.clip; if it happens in the first epoch, check the inputs for NaN.",
            )
        self.log("train_loss", loss / max(n, 1), rank_zero_only=True)
        self._share_buffers()

    def _share_buffers(self) -> None:
        if self.trainer.world_size > 1:
            for buffer in self.net.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.trainer.strategy.reduce(buffer, reduce_op="mean"))

    # -- validation ------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Reset the sums, also if this process gets no batch; all processes validate the same network."""
        self._share_buffers()
        empty = torch.zeros(0, self.task.outputs, device=self.device), torch.zeros(0, device=self.device)
        self._names = ["loss", *self.task.metrics(*empty)]
        self._sums["val"] = torch.zeros(len(self._names), 2, device=self.device, dtype=torch.float64)

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Add the loss of a batch, weighted by its number of samples, and the metrics of the task to the sums."""
        outputs = self(batch["image"])
        truth = self.task.truth(batch)
        p = self.task.on_labels(self.task.activate(outputs), batch)
        n = torch.tensor(float(len(truth)), device=self.device)
        pairs = [(self.task.loss(outputs, batch) * n, n), *self.task.metrics(p, truth).values()]
        self._sums["val"] += torch.stack([torch.stack([value.double() for value in pair]) for pair in pairs])

    def on_validation_epoch_end(self) -> None:
        """Log the metrics; every sample counts once over all processes."""
        sums = self.trainer.strategy.reduce(self._sums["val"], reduce_op="sum")
        for name, (total, weight) in zip(self._names, sums.tolist(), strict=True):
            self.log(f"val_{name}", total / max(weight, 1), rank_zero_only=True, prog_bar=name != "loss")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the time of training so far."""
        checkpoint["seconds"], checkpoint["core_seconds"] = self.seconds, self.core_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the time of training so far."""
        self.seconds, self.core_seconds = checkpoint["seconds"], checkpoint["core_seconds"]
