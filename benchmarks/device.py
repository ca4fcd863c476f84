"""Loading rate to a device (images/s), compared with the training rates of networks.

usage: python benchmarks/device.py [--root ROOT]      without a root, a release of image-like pixels is made (with zarr)

Windows of 1,200 m with masks are used for a UNet, chips of 600 m for a ResNet-50. ``delivered`` counts normalised
images on the device, copied from pinned memory while the next ones are read: as uint16 and normalised on the device
(``device``), or normalised by the processor (``host``). ``resident`` counts training images when a single batch stays
on the device, which is the maximum rate of the network; ``fed`` counts them with batches from the loader. Rounds
alternate, and medians are reported. The last line is one JSON object: ``delivered_vs_resident`` above 1 means that the
loader is not a bottleneck, and ``fed_vs_resident`` is the fraction of the network's maximum rate that is reached.
Without a GPU, a small network is trained on the processor, which only tests the script.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import RandomSampler

sys.path.insert(0, str(Path(__file__).parents[1]))

from lulcbench.datasets import LuisaCls, LuisaDataset, LuisaSeg, WindowLoader
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
WARM = 5 if GPU else 1  # steps before the clock starts
LEVEL = 3

Batch = dict[str, Any]
Step = Callable[[Batch], object]


class UNet(nn.Module):
    """A UNet with a timm encoder, of the same size as in segmentation_models_pytorch (which is not required)."""

    encoder: Any  # timm has no types

    def __init__(self, encoder: str, channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = timm.create_model(encoder, features_only=True, in_chans=channels)
        width, *skips = reversed(self.encoder.feature_info.channels())
        self.blocks = nn.ModuleList()
        for skip, out in zip((*skips, 0), (256, 128, 64, 32, 16), strict=True):
            self.blocks.append(nn.Sequential(*_convolution(width + skip, out), *_convolution(out, out)))
            width = out
        self.head = nn.Conv2d(width, classes, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Image ``(n, channel, y, x)`` → logits ``(n, class, y, x)``."""
        x, *skips = reversed(self.encoder(image))
        for block, skip in zip(self.blocks, (*skips, None), strict=True):
            x = F.interpolate(x, (image if skip is None else skip).shape[-2:])
            x = block(x if skip is None else torch.cat([x, skip], 1))
        return self.head(x)  # type: ignore[no-any-return]


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)


def to_device(dataset: LuisaDataset, batch: Batch) -> Batch:
    """Copy a batch to the device without waiting, and normalise it there if necessary."""
    moved = {k: v.to(DEVICE, non_blocking=True) for k, v in batch.items() if isinstance(v, Tensor)}
    return dataset.finish(moved)


def training(net: nn.Module, target: str) -> Step:
    """A training step: bf16 and channels-last on a GPU, AdamW."""
    net = net.to(DEVICE).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step(batch: Batch) -> None:
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=GPU):
            loss = F.cross_entropy(net(image), batch[target], ignore_index=IGNORE_INDEX)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def batches(dataset: LuisaDataset, batch_size: int) -> Iterator[Batch]:
    """Random batches from the project's loader, endlessly."""
    sampler = RandomSampler(dataset, replacement=True, num_samples=10**9)
    return iter(WindowLoader(dataset, batch_size, sampler))


def rate(source: Iterator[Batch], step: Step, seconds: float) -> float:
    """Images per second."""
    for _ in range(WARM):
        step(next(source))
    synchronize()
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        batch = next(source)
        step(batch)
        images += len(batch["image"])
    synchronize()
    return images / (time.perf_counter() - start)


def synchronize() -> None:
    """Wait for the device."""
    if GPU:
        torch.cuda.synchronize()


def measure(kind: type[LuisaDataset], root: Path, batch_size: int, network: str, seconds: float) -> dict[str, float]:
    """One round with windows and a UNet, or chips and a classifier."""
    options: dict[str, Any] = {"sensors": "sentinel2", "level": LEVEL}
    on_device, on_host = (kind(root, normalize=how, **options) for how in ("device", True))
    channels = on_device.in_channels["sentinel2"]
    if kind is LuisaSeg:
        step = training(UNet(network, channels, on_device.num_classes), "mask")
    else:
        step = training(timm.create_model(network, in_chans=channels, num_classes=on_device.num_classes), "label")
    resident = to_device(on_device, next(batches(on_device, batch_size)))
    return {
        "delivered_device": rate(batches(on_device, batch_size), lambda b: to_device(on_device, b), seconds),
        "delivered_host": rate(batches(on_host, batch_size), lambda b: to_device(on_host, b), seconds),
        "resident": rate(repeat(resident), step, seconds),
        "fed": rate(batches(on_device, batch_size), lambda b: step(to_device(on_device, b)), seconds),
    }


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Run all rounds; print the table and the JSON line."""
    networks = ("resnet34", "resnet50") if GPU else ("test_resnet", "test_resnet")
    contestants = {
        "windows": (LuisaSeg, arguments.batch_size, networks[0]),
        "chips": (LuisaCls, 4 * arguments.batch_size, networks[1]),
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, (kind, batch_size, network) in contestants.items():
            rounds[name].append(measure(kind, root, batch_size, network, arguments.seconds))
    line: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if GPU else "cpu",
        "processors": len(os.sched_getaffinity(0)),
        "networks": {"windows": f"UNet on {networks[0]}", "chips": networks[1]},
    }
    print(f"{'images/s':8} {'':17} {'median':>9} {'min':>9} {'max':>9}")
    for name, results in rounds.items():
        middle = {}
        for what in results[0]:
            values = [result[what] for result in results]
            middle[what] = statistics.median(values)
            print(f"{name:8} {what:17} {middle[what]:9.0f} {min(values):9.0f} {max(values):9.0f}")
        line[name] = {what: round(value, 1) for what, value in middle.items()} | {
            "delivered_vs_resident": round(middle["delivered_device"] / middle["resident"], 3),
            "fed_vs_resident": round(middle["fed"] / middle["resident"], 3),
        }
    print(json.dumps(line))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a release with Sentinel-2 of 2018; by default one is made")
    parser.add_argument("--tiles", type=int, default=64 if GPU else 1, help="tiles of the release that is made")
    parser.add_argument(
        "--batch-size", type=int, default=64 if GPU else 4, help="windows per batch; chips: 4 times that"
    )
    parser.add_argument("--seconds", type=float, default=3.0 if GPU else 0.5, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3 if GPU else 1)
    arguments = parser.parse_args()
    if not GPU:
        print("no GPU: device = cpu")
    torch.backends.cudnn.benchmark = True
    if arguments.root is not None:
        run(arguments.root, arguments)
    elif importlib.util.find_spec("zarr") is None:
        raise SystemExit(
            "device.py: zarr is not installed, so no release can be made; give an existing one with --root"
        )
    else:
        from benchmarks import release

        with tempfile.TemporaryDirectory() as folder:
            release.make(Path(folder) / "release", arguments.tiles)
            run(Path(folder) / "release", arguments)


if __name__ == "__main__":
    try:
        main()
    except LulcbenchError as error:
        raise SystemExit(f"device.py: {error}") from error
