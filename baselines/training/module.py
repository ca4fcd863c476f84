"""The training loop that all networks share: steps, schedule, validation."""

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

    Batches come from ``LuisaDataModule``, on the device, normalised and augmented. Everything random depends on (seed,
    epoch, batch, process), so a run that was killed and resumed at an epoch's start goes on as if nothing had happened.

    Args:
        net: maps images to outputs.
        task: what is learnt.
        config: the run.
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
            self.net.compile()  # in place: neither a second module nor other names in checkpoints
        self._sums: dict[str, Tensor] = {}
        self._names: list[str] = []  # of the figures of validation

    def forward(self, images: Images) -> Tensor:
        """Outputs for normalised images."""
        outputs: Tensor = self.net(map_images(images, lambda i: i.contiguous(memory_format=torch.channels_last)))
        return outputs

    def setup(self, stage: str) -> None:
        """Compute with as many threads as the config says."""
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)  # where several processes are launched, Lightning set its own

    # -- training --------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Seed what draws from the global generator (dropout), and start the sums; frozen means frozen statistics."""
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
        """The loss of a batch."""
        loss = self.task.loss(self(batch["image"]), batch)
        self._sums["train"] += torch.stack([loss.detach(), torch.ones((), device=loss.device)])
        return loss * self._share(batch_idx)

    def _share(self, batch_idx: int) -> float:
        """What makes the step of an epoch's last, incomplete group a mean too: Lightning divides by ``accumulate``."""
        accumulate, batches = self.config.train.accumulate, int(self.trainer.num_training_batches)
        rest = batches % accumulate
        return accumulate / rest if batch_idx >= batches - rest else 1.0

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add up the time; stop after ``train.steps``, or where ``train.max_minutes`` are over."""
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
        """Whether training has lasted for ``train.max_minutes``."""
        limit = self.config.train.max_minutes
        return limit is not None and self.seconds >= 60 * limit

    @property
    def planned_steps(self) -> int:
        """Optimizer steps of the whole schedule."""
        return self.config.train.steps or int(self.trainer.estimated_stepping_batches)

    def configure_optimizers(self) -> Any:
        """AdamW (no decay of biases and norms), warm-up and cosine."""
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
        """Clip the norm here: Lightning refuses to for fused optimizers in mixed precision, though bf16 scales none."""
        if gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        """The epoch's mean loss."""
        loss, n = self.trainer.strategy.reduce(self._sums["train"], reduce_op="sum").tolist()
        if not math.isfinite(loss):
            raise LulcbenchError(
                f"The loss became {loss} in epoch {self.current_epoch}.",
                "Lower train.lr or set train.clip; if it happens in the first epoch, look for NaN in the inputs.",
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
        """Start the sums, also where this process gets no batch; all processes validate the same network."""
        self._share_buffers()
        nothing = torch.zeros(0, self.task.outputs, device=self.device), torch.zeros(0, device=self.device)
        self._names = ["loss", *self.task.metrics(*nothing)]
        self._sums["val"] = torch.zeros(len(self._names), 2, device=self.device, dtype=torch.float64)

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Add the loss of a batch, weighted by its samples, and the task's figures to the sums."""
        outputs = self(batch["image"])
        truth = self.task.truth(batch)
        p = self.task.on_labels(self.task.activate(outputs), batch)
        n = torch.tensor(float(len(truth)), device=self.device)
        pairs = [(self.task.loss(outputs, batch) * n, n), *self.task.metrics(p, truth).values()]
        self._sums["val"] += torch.stack([torch.stack([part.double() for part in pair]) for pair in pairs])

    def on_validation_epoch_end(self) -> None:
        """Log the figures, each sample counted once over all processes."""
        sums = self.trainer.strategy.reduce(self._sums["val"], reduce_op="sum")
        for name, (total, weight) in zip(self._names, sums.tolist(), strict=True):
            self.log(f"val_{name}", total / max(weight, 1), rank_zero_only=True, prog_bar=name != "loss")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time spent."""
        checkpoint["seconds"], checkpoint["core_seconds"] = self.seconds, self.core_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the time spent."""
        self.seconds, self.core_seconds = checkpoint["seconds"], checkpoint["core_seconds"]
