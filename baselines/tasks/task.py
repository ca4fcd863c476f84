"""The training step that all baselines share, for segmentation and classification alike."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from baselines.config import ClassificationModel, Config
from baselines.data.arrays import EpochSampler, Problem, Samples
from baselines.tasks.losses import FlatLoss, HierarchicalLoss, area_average
from baselines.training.augment import augment, generator, mix
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX


class Task(L.LightningModule):
    """A network, its loss and its schedule.

    Everything random depends on (seed, epoch, batch, process), so a run that was killed and resumed at an epoch's
    start goes on as if nothing had happened.

    Args:
        net: maps ``(b, channel, h, w)`` to logits.
        problem: the data.
        config: the run.
    """

    def __init__(self, net: nn.Module, problem: Problem, config: Config) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)
        self.config = config
        self._splits: dict[str, Samples | None] = {"train": problem.train, "val": problem.val}
        self.level = problem.level
        train = config.train
        self.loss = (
            FlatLoss(train.smoothing)
            if problem.level is None
            else HierarchicalLoss(problem.level, train.level_weights, train.smoothing)
        )
        self.standardise = problem.mean is not None
        mean = torch.tensor(problem.mean or [0.0]).view(1, -1, 1, 1)
        std = torch.tensor(problem.std or [1.0]).view(1, -1, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.seconds = 0.0  # spent in training so far, over all attempts
        self.core_seconds = 0.0  # of processor time, summed over threads
        self._clock: tuple[float, float] | None = None
        if train.compile:
            self.net.compile()  # in place: neither a second module nor other names in checkpoints
        self._sums: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images."""
        logits: Tensor = self.net(images.contiguous(memory_format=torch.channels_last))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """Images as stored → what the network takes; those of releases come normalised already."""
        return (images.float() - self.mean) / self.std if self.standardise else images

    # -- data ------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of the train split."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Batches of the val split; none where all labelled data are learnt from."""
        return self._loader("val") if self._splits["val"] is not None else []

    def _loader(self, name: str) -> DataLoader[Any]:
        split, trainer = self.split(name), self.trainer
        sampler = EpochSampler(len(split), self.config.seed, name == "train", trainer.global_rank, trainer.world_size)
        return split.loader(self.config.train.batch_size, sampler)

    def split(self, name: str) -> Samples:
        """The train or val split, where training keeps it."""
        split = self._splits[name]
        if split is None:
            raise LulcbenchError(f"There is no {name} split.", "Choose data that have one.")
        return split

    def setup(self, stage: str) -> None:
        """Bring the data to the device, whole, once, if they fit in ``train.resident_gib``; else batch by batch."""
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)  # where several processes are launched, Lightning set its own
        splits = {k: v for k, v in self._splits.items() if v is not None}
        resident = sum(v.nbytes for v in splits.values()) <= self.config.train.resident_gib * 2**30
        device = self.trainer.strategy.root_device
        self._splits |= {k: v.to(device, resident) for k, v in splits.items()}

    # -- training --------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Seed what draws from the global generator (dropout), and start the sums; frozen means frozen statistics."""
        if isinstance(self.config.model, ClassificationModel) and self.config.model.freeze:
            for module in self.net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        epoch, rank = self.current_epoch, self.global_rank
        torch.manual_seed(generator(self.config.seed, epoch, rank, 7).initial_seed())
        self._sums = {"train": torch.zeros(2, device=self.device)}
        self._clock = time.monotonic(), time.process_time()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        rng = generator(self.config.seed, self.current_epoch, batch_idx, self.global_rank)
        images, targets = self.split("train").gather(batch)
        images, targets = augment(self.normalise(images), targets, self.config.augment, rng)
        mixed, partner, weight = mix(images, self.config.augment, rng)
        logits = self(mixed)
        loss: Tensor = self.loss(logits, targets)
        if weight < 1:
            loss = weight * loss + (1 - weight) * self.loss(logits, targets[partner.to(targets.device)])
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
        """Start the sums: loss, samples, correct, judged; all processes validate the same network."""
        self._share_buffers()
        self._sums["val"] = torch.zeros(4, device=self.device, dtype=torch.float64)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the sums."""
        images, targets = self.split("val").gather(batch)
        logits = self(self.normalise(images))
        finest = targets[:, -1 if self.level is None else self.level - 1]
        p = logits.float().softmax(1)
        if p.ndim == 4:
            p = area_average(p, (targets.shape[-2], targets.shape[-1]))
        known = finest != IGNORE_INDEX
        correct = ((p.argmax(1) == finest) & known).sum()
        n = torch.tensor(float(len(images)), device=self.device)
        self._sums["val"] += torch.stack([self.loss(logits, targets) * n, n, correct, known.sum()]).double()

    def on_validation_epoch_end(self) -> None:
        """Mean loss and overall accuracy at the model's level, each sample counted once over all processes."""
        sums = self.trainer.strategy.reduce(self._sums["val"], reduce_op="sum")
        loss, n, correct, known = sums.tolist()
        self.log("val_loss", loss / max(n, 1), rank_zero_only=True)
        self.log("val_accuracy", correct / max(known, 1), rank_zero_only=True, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time spent."""
        checkpoint["seconds"], checkpoint["core_seconds"] = self.seconds, self.core_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the time spent."""
        self.seconds, self.core_seconds = checkpoint["seconds"], checkpoint["core_seconds"]
