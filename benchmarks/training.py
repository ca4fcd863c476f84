"""Training throughput of the baselines, compared with plain torch and torchgeo's task; same model, same data.

All three use the same uint8 patches, normalise them, and make the same AdamW steps on the same network, without
augmentation. Rounds alternate, so that other load affects all of them equally. The last line is one JSON object.

    python benchmarks/training.py                 # sizes chosen for the machine: ResNet-50 on a GPU, ResNet-18 on a CPU
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).parents[1]))

from baselines.config import Config
from baselines.data import DataInfo, Input
from baselines.data.eurosat import CLASSES
from baselines.models.network import NetworkConfig
from baselines.training.module import TrainingModule
from lulcbench.datasets.batch import Sample, Samples
from lulcbench.datasets.datamodule import LuisaDataModule

MEAN, STD = (90.0, 95.0, 100.0), (50.0, 35.0, 30.0)
INPUTS = {"sentinel2": Input(channels=("B04", "B03", "B02"), mean=MEAN, std=STD, resolution=10)}
SHARES = (1 / len(CLASSES),) * len(CLASSES)
INFO = DataInfo(inputs=INPUTS, classes=CLASSES, level=None, digest="0" * 64, simulated=False, frequencies=SHARES)
WARMUP = 3
Precision = Literal["bf16-mixed", "32-true"]


class Clock(L.Callback):
    """Measures the time of the steps after the warm-up."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Start the clock after the warm-up."""
        if trainer.global_step == WARMUP:
            synchronize()
            self.start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop the clock."""
        synchronize()
        self.seconds = time.perf_counter() - self.start


def synchronize() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trainer(steps: int, clock: Clock, precision: Precision, folder: str) -> L.Trainer:
    """A Lightning trainer that only makes training steps."""
    return L.Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        precision=precision,
        max_steps=steps + WARMUP,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


class Patches:
    """Patches in memory, read in whole batches.

    Args:
        images: uint8 ``(n, 3, 64, 64)``.
        labels: ``(n,)``.
        split: name of the split.
    """

    fixed = True

    def __init__(self, images: Tensor, labels: Tensor, split: str = "train") -> None:
        self.images, self.labels, self.split = images, labels, split
        self._statistics: tuple[Tensor, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Sample:
        """Read a batch of stored values."""
        at = torch.as_tensor(indices)
        return {"image": self.images[at], "label": self.labels[at], "id": [str(i) for i in indices]}

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        return Samples(self.read(indices), len(indices))

    def finish(self, batch: Sample) -> Sample:
        """Normalise a batch on its device."""
        image = batch["image"]
        if self._statistics is None:
            self._statistics = tuple(torch.tensor(v, device=image.device).view(3, 1, 1) for v in (MEAN, STD))
        mean, std = self._statistics
        return batch | {"image": (image.float() - mean) / std}

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: patches are the same in every epoch."""


def build(config: Config) -> nn.Module:
    """The network of a config."""
    assert isinstance(config.model, NetworkConfig)
    return config.model.build(INPUTS, len(CLASSES))


def fit(dataset: Callable[[str], Any], module: TrainingModule, steps: int, precision: Precision, folder: str) -> float:
    """Time of the steps with the baselines, including the data module, in seconds.

    Args:
        dataset: split → dataset.
        module: network, task and config.
        steps: timed steps, after ``WARMUP`` others.
        precision: of Lightning's trainer.
        folder: for temporary files.
    """
    data = LuisaDataModule(dataset, batch_size=module.config.train.batch_size, resident=True, drop_last=True)
    clock = Clock()
    trainer(steps, clock, precision, folder).fit(module, datamodule=data)
    return clock.seconds


def ours(config: Config, patches: Patches, steps: int, precision: Precision, folder: str) -> float:
    """Time of the steps with the baselines, in seconds."""
    module = TrainingModule(build(config), config.task.build(INFO), config)
    return fit(lambda split, **_: Patches(patches.images, patches.labels, split), module, steps, precision, folder)


def bare(config: Config, patches: Patches, steps: int, precision: Precision, folder: str) -> float:
    """Time of the steps of a loop written by hand, with all data on the device, in seconds."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = build(config).to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    images, targets = patches.images.to(device), patches.labels.to(device)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    criterion, n, start = nn.CrossEntropyLoss(), config.train.batch_size, 0.0
    for step in range(steps + WARMUP):
        if step == WARMUP:
            synchronize()
            start = time.perf_counter()
        chosen = torch.randint(len(images), (n,)).to(device)
        x = ((images[chosen].float() - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = criterion(net(x), targets[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    synchronize()
    return time.perf_counter() - start


class Items(Dataset[Sample]):
    """The same patches in the form of torchgeo's datasets: one dict per sample, with float images."""

    def __init__(self, patches: Patches) -> None:
        self.patches = patches

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, i: int) -> Sample:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        return {"image": (self.patches.images[i].float() - mean) / std, "label": self.patches.labels[i]}


def torchgeo(config: Config, patches: Patches, steps: int, precision: Precision, folder: str) -> float:
    """Time of the steps with torchgeo's ``ClassificationTask``, in seconds."""
    from torchgeo.trainers import ClassificationTask

    task = ClassificationTask(model="resnet50", weights=None, in_channels=3, num_classes=len(CLASSES), lr=1e-3)
    task.model = build(config)  # the same network
    workers = 8 if torch.cuda.is_available() else 0
    loader = DataLoader(Items(patches), config.train.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    clock = Clock()
    trainer(steps, clock, precision, folder).fit(task, loader)
    return clock.seconds


def matmul_rate() -> float:
    """Rate of the device for large bf16 matrix products, FLOP/s."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    synchronize()
    start = time.perf_counter()
    for _ in range(20):
        a @ a
    synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - start)


def step_flops(config: Config) -> float:
    """Floating-point operations of a training step, per image."""
    from torch.utils.flop_counter import FlopCounterMode

    net = build(config)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, 3, 64, 64)).sum().backward()
    return float(counter.get_total_flops()) / 2


def main() -> None:
    """Run the benchmark."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50" if gpu else "resnet18")
    parser.add_argument("--batch-size", type=int, default=256 if gpu else 32)
    parser.add_argument("--steps", type=int, default=200 if gpu else 8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    config = Config.parse(
        {
            "name": "benchmark",
            "data": {"kind": "eurosat"},
            "model": {"kind": "timm", "name": arguments.model, "stem": "no-pool"},
            "train": {"epochs": 1000, "batch_size": arguments.batch_size, "clip": None},
            "augment": {"dihedral": False},
        }
    )
    n = max(8192 if gpu else 512, 2 * arguments.batch_size)
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8, generator=rng)
    patches = Patches(images, torch.randint(0, 10, (n,), generator=rng))
    precision: Precision = "bf16-mixed" if gpu else "32-true"
    ways = {"ours": ours, "bare": bare}
    if importlib.util.find_spec("torchgeo") is None:
        print("torchgeo is not installed: no comparison with its trainer")
    else:
        ways["torchgeo"] = torchgeo
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                seconds = way(config, patches, arguments.steps, precision, str(Path(folder)))
                rates[name].append(arguments.steps * arguments.batch_size / seconds)
                print(f"{name:9} {rates[name][-1]:9.1f} images/s", flush=True)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "model": arguments.model,
        "batch_size": arguments.batch_size,
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "images_per_second": {k: round(v, 1) for k, v in middle.items()},
        "spread": {k: [round(min(v), 1), round(max(v), 1)] for k, v in rates.items()},
        "vs_bare_torch": round(middle["ours"] / middle["bare"], 3),
        "vs_torchgeo_trainer": round(middle["ours"] / middle["torchgeo"], 3) if "torchgeo" in middle else None,
    }
    if gpu:
        result["fraction_of_bf16_rate"] = round(middle["ours"] * step_flops(config) / matmul_rate(), 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
