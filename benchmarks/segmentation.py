"""Training and prediction of a segmentation network, compared with plain torch and torchgeo's task.

All make the same steps of AdamW with the same UNet on windows of 24 channels and 80 × 80 pixels in memory, without
augmentation. The baselines compute the likelihood at the four levels of the legend, and so does the loop written by
hand; torchgeo's task computes that of the finest level, on masks of the size of the images. Rounds alternate, so that
other load affects all of them equally. The last line is one JSON object.

    python -m benchmarks.segmentation
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from baselines.config import Config
from baselines.data import DataInfo, Input
from baselines.devices import best_device
from baselines.models.network import NetworkConfig, NetworkPredictor
from baselines.tasks.base import Task
from baselines.training.module import TrainingModule
from benchmarks.training import WARMUP, Clock, Precision, fit, synchronize, trainer
from lulcbench.datasets.batch import Sample, Samples
from lulcbench.legend import LEVELS, legend

DEVICE = best_device()
GPU = DEVICE.type == "cuda"
PRECISION: Precision = "bf16-mixed" if GPU else "32-true"
CHANNELS, PIXELS, LABELS = 24, 80, 48  # windows of 2.4 km at 30 m, four seasons of six bands, labels of 50 m
NAMES = tuple(f"channel{n}" for n in range(CHANNELS))
INPUTS = {"landsat": Input(channels=NAMES, mean=(0.0,) * CHANNELS, std=(1.0,) * CHANNELS, resolution=30)}
CLASSES = tuple(map(str, legend().codes(4)))
INFO = DataInfo(
    inputs=INPUTS,
    classes=CLASSES,
    level=4,
    digest="0" * 64,
    simulated=True,
    frequencies=(1 / len(CLASSES),) * len(CLASSES),
)
CONFIG = Config.parse(
    {
        "name": "benchmark",
        "data": {"kind": "luisa-seg", "root": "unused", "sensors": "landsat"},
        "model": {"kind": "unet", "encoder": "resnet18", "depth": 4, "decoder_channels": [64, 48, 32, 16]},
        "train": {"epochs": 1000, "batch_size": 64 if GPU else 8, "clip": None, "precision": PRECISION},
        "augment": {"dihedral": False},
    }
)


class Windows:
    """Windows in memory, read in whole batches: images ``(n, channel, y, x)`` and masks ``(n, level, y, x)``."""

    fixed = True

    def __init__(self, images: Tensor, masks: Tensor, split: str = "train") -> None:
        self.images, self.masks, self.split = images, masks, split

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Sample:
        """Read a batch."""
        at = torch.as_tensor(indices)
        return {"image": self.images[at], "mask": self.masks[at]}

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        return Samples(self.read(indices), len(indices))

    def finish(self, batch: Sample) -> Sample:
        """Return the batch: it is normalised already."""
        return batch

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: windows are the same in every epoch."""


class Items(Dataset[Sample]):
    """The same windows in the form of torchgeo's datasets: one dict per sample, the mask as large as the image."""

    def __init__(self, windows: Windows) -> None:
        finest = windows.masks[:, -1:].float()
        self.masks = nn.functional.interpolate(finest, size=(PIXELS, PIXELS), mode="nearest").long()[:, 0]
        self.images = windows.images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Sample:
        return {"image": self.images[i], "mask": self.masks[i]}


def build() -> tuple[nn.Module, Task]:
    """The network and its task."""
    assert isinstance(CONFIG.model, NetworkConfig)
    task = CONFIG.task.build(INFO)
    return CONFIG.model.build(INPUTS, task.outputs), task


def ours(windows: Windows, steps: int, folder: str) -> float:
    """Time of the steps with the baselines, in seconds."""
    module = TrainingModule(*build(), CONFIG)
    return fit(lambda split, **_: Windows(windows.images, windows.masks, split), module, steps, PRECISION, folder)


def bare(windows: Windows, steps: int, folder: str) -> float:
    """Time of the steps of a loop written by hand, in seconds."""
    net, task = build()
    net, _ = net.to(DEVICE).to(memory_format=torch.channels_last).train(), task.to(DEVICE)
    images, masks = windows.images.to(DEVICE), windows.masks.to(DEVICE)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    start = 0.0
    for step in range(steps + WARMUP):
        if step == WARMUP:
            synchronize()
            start = time.perf_counter()
        chosen = torch.randint(len(windows), (CONFIG.train.batch_size,)).to(DEVICE)
        x = images[chosen].contiguous(memory_format=torch.channels_last)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=GPU):
            loss = task.loss(net(x), {"mask": masks[chosen]})
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    synchronize()
    return time.perf_counter() - start


def torchgeo(windows: Windows, steps: int, folder: str) -> float:
    """Time of the steps with torchgeo's ``SemanticSegmentationTask``, in seconds."""
    from torchgeo.trainers import SemanticSegmentationTask

    task: Any = SemanticSegmentationTask(
        model="unet", backbone="resnet18", in_channels=CHANNELS, task="multiclass", num_classes=len(CLASSES)
    )
    task.model = build()[0]  # the same network
    clock = Clock()
    workers = 8 if GPU else 0
    loader = DataLoader(Items(windows), CONFIG.train.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    trainer(steps, clock, PRECISION, folder).fit(task, loader)
    return clock.seconds


def predicted(windows: Windows, steps: int, folder: str) -> float:
    """Time of predicting batches with the baselines, in seconds."""
    net, task = build()
    predictor = NetworkPredictor(net.to(DEVICE).eval(), task, CONFIG)
    grid = {"mask": windows.masks[:1].to(DEVICE)}
    return _forward(windows, steps, lambda x: task.on_labels(predictor(x), grid))


def forward(windows: Windows, steps: int, folder: str) -> float:
    """Time of the bare forward pass of the same batches, in seconds."""
    net = build()[0].to(DEVICE).eval().to(memory_format=torch.channels_last)

    def run(x: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=GPU):
            output: Tensor = net(x.contiguous(memory_format=torch.channels_last))
        return output

    return _forward(windows, steps, run)


@torch.inference_mode()
def _forward(windows: Windows, steps: int, run: Callable[[Tensor], Tensor]) -> float:
    n, start, images = CONFIG.train.batch_size, 0.0, windows.images.to(DEVICE)
    for step in range(steps + WARMUP):
        if step == WARMUP:
            synchronize()
            start = time.perf_counter()
        first = step * n % len(windows)
        run(images[first : first + n])
    synchronize()
    return time.perf_counter() - start


WAYS = {"ours": ours, "bare": bare, "torchgeo": torchgeo, "predicted": predicted, "forward": forward}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100 if GPU else 10)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    random = torch.Generator().manual_seed(0)
    n = 16 * CONFIG.train.batch_size
    images = torch.randn(n, CHANNELS, PIXELS, PIXELS, generator=random)
    finest = torch.randint(0, len(CLASSES), (n, LABELS, LABELS), generator=random).numpy()
    codes = np.array(legend().codes(4))[finest]
    masks = np.stack([legend().encode(codes, level) for level in LEVELS], axis=1)
    windows = Windows(images, torch.from_numpy(masks.astype(np.int64)))
    ways = dict(WAYS)
    if importlib.util.find_spec("torchgeo") is None:
        print("torchgeo is not installed: no comparison with its trainer")
        del ways["torchgeo"]
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                rates[name].append(arguments.steps * CONFIG.train.batch_size / way(windows, arguments.steps, folder))
                print(f"{name:9} {rates[name][-1]:9.1f} windows/s", flush=True)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    result = {
        "device": torch.cuda.get_device_name() if GPU else f"CPU, {torch.get_num_threads()} threads",
        "windows_per_second": {k: round(v, 1) for k, v in middle.items()},
        "spread": {k: [round(min(v), 1), round(max(v), 1)] for k, v in rates.items()},
        "vs_bare_torch": round(middle["ours"] / middle["bare"], 3),
        "vs_torchgeo_trainer": round(middle["ours"] / middle["torchgeo"], 3) if "torchgeo" in middle else None,
        "prediction_vs_forward": round(middle["predicted"] / middle["forward"], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
