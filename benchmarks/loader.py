"""The loaders of lulcbench compared with other ways of reading the same windows.

usage: .venv-bench/bin/python benchmarks/loader.py [--tiles 128] [--rounds 5]      (make bench-env first)

Every method delivers batches of 64 windows of 12 × 120 × 120 in random order as normalised float32, from the page
cache, over whole epochs. The clock starts after the number of batches that workers prefetch, so that the steady rate is
measured; the time to the first batch (start of workers, opening files) is reported separately. Peers store no labels,
so ours does not read them either, except in the line "with_labels". Peers that support worker processes run without
workers and with one per processor, and the better result counts. Rounds interleave the methods, so that other load on
the machine affects all of them; the processor time per window, over all processes, depends less on it. The last line is
one JSON object; ``vs_x`` is our windows/s over that of x, ``processor_vs_x`` is the processor time of x over ours.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import RandomSampler

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import peers, release
from benchmarks.peers import BATCH, Epoch
from lulcbench.datasets import LuisaDataset, LuisaSeg, WindowLoader
from lulcbench.sensors import REFLECTANCE

OURS = {"ours", "with_labels"}
PROCESSORS = len(os.sched_getaffinity(0))
WARM = 1 + 2 * PROCESSORS  # batches before the clock starts: torch's workers prepare two each


class Run(NamedTuple):
    """One epoch: windows/s after warm-up, seconds to the first batch, processor seconds per window."""

    rate: float
    first: float
    processor: float


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="comma-separated peers; by default all")
    options = parser.parse_args()
    peers.quiet()
    with tempfile.TemporaryDirectory() as folder:
        contestants, disk = write(Path(folder), options.tiles, set(filter(None, options.only.split(","))))
        print(f"{options.tiles * 16} windows, {PROCESSORS} processors, torch {torch.get_num_threads()} threads")
        results = race(contestants, options.rounds)
        report(results, disk)


def write(folder: Path, tiles: int, only: set[str]) -> tuple[dict[str, Epoch], dict[str, int]]:
    """Write the data of all methods; returns their epochs, and their sizes on disk in bytes."""
    release.make(folder / "ours", tiles)
    ours = LuisaDataset(folder / "ours", window=1200)
    store = LuisaDataset(folder / "ours", window=1200, normalize="device")
    windows = np.empty((len(store), *store[0]["image"].shape), np.uint16)
    for first in range(0, len(store), BATCH):
        windows[first : first + BATCH] = store.read(range(first, first + BATCH))["image"].numpy()
    stats = ours.release.manifest.sensor("sentinel2").statistics
    assert stats is not None  # the release has a train split
    mean = ((torch.tensor(stats.mean) - REFLECTANCE.offset) / REFLECTANCE.scale).float().view(-1, 1, 1)
    std = (torch.tensor(stats.std) / REFLECTANCE.scale).float().view(-1, 1, 1)

    def normalised(build: Callable[[], Epoch]) -> Epoch:
        """Convert and normalise the uint16 batches of a peer."""
        epoch = build()
        return lambda workers: (batch.to(torch.float32).sub_(mean).div_(std) for batch in epoch(workers))

    def make(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    samples = peers.ZarrSamples(folder / "ours/sentinel2_2018", 4)
    builders = {
        "geotiff": lambda: peers.loader(peers.GeoTiffs(make("geotiff"), windows)),
        "zarr_sample": lambda: peers.loader(samples),
        "zarr_batch": lambda: peers.zarr_batches(samples),
        "webdataset": lambda: peers.webdataset(make("webdataset"), windows),
        "litdata": lambda: peers.litdata(make("litdata"), windows),
        "streaming": lambda: peers.streaming(make("streaming"), windows),
        "lmdb": lambda: peers.loader(peers.Lmdb(make("lmdb"), windows)),
        "memory": lambda: memory(torch.from_numpy(windows)),
    }
    contestants = {"ours": our_epoch(ours), "with_labels": our_epoch(LuisaSeg(folder / "ours", window=1200))}
    contestants |= {name: normalised(build) for name, build in builders.items() if not only or name in only}
    disk = {name: size(folder / name) for name in contestants if (folder / name).is_dir()}
    return contestants, disk


def our_epoch(dataset: LuisaDataset) -> Epoch:
    """Epochs of the project's loader, without worker processes."""

    def epoch(workers: int) -> Iterator[torch.Tensor]:
        for batch in WindowLoader(dataset, BATCH, RandomSampler(dataset), drop_last=True):
            yield batch["image"]

    return epoch


def memory(windows: torch.Tensor) -> Epoch:
    """Epochs of windows gathered from one array in memory."""

    def epoch(workers: int) -> Iterator[torch.Tensor]:
        order = torch.randperm(len(windows))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            yield windows[order[first : first + BATCH]]

    return epoch


def race(contestants: dict[str, Epoch], rounds: int) -> dict[str, dict[int, list[Run]]]:
    """Measurements of all rounds, by method and number of workers."""
    results: dict[str, dict[int, list[Run]]] = {name: {} for name in contestants}
    serial = {"ours", "with_labels", "memory", "zarr_batch"}
    for _ in range(rounds):
        for name, epoch in contestants.items():
            for workers in (0,) if name in serial else (0, PROCESSORS):
                results[name].setdefault(workers, []).append(measure(epoch, workers))
    return results


def measure(epoch: Epoch, workers: int) -> Run:
    """Measure one epoch."""
    start, used = time.perf_counter(), processor_time()
    batches = epoch(workers)
    count = 0
    for i, batch in enumerate(batches):
        assert batch.shape[1:] == (12, 120, 120)
        count += len(batch)
        if i == 0:
            first = time.perf_counter()
        if i == WARM - 1:
            warm, before = time.perf_counter(), count
    end = time.perf_counter()
    del batches  # ends the workers, so that their processor time is counted
    return Run((count - before) / (end - warm), first - start, (processor_time() - used) / count)


def processor_time() -> float:
    """Seconds of processor time of this process and its finished child processes."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def size(folder: Path) -> int:
    """Size of a folder in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def report(results: dict[str, dict[int, list[Run]]], disk: dict[str, int]) -> None:
    """Print the table and the JSON line."""
    best, processor = {}, {}
    print(f"{'':12} {'windows/s':>10} {'min':>8} {'max':>8} {'first s':>8} {'cpu ms':>8} {'workers':>8} {'MB':>7}")
    for name, by_workers in results.items():
        workers = max(by_workers, key=lambda n: statistics.median(run.rate for run in by_workers[n]))
        runs = by_workers[workers]
        best[name] = statistics.median(run.rate for run in runs)
        processor[name] = statistics.median(run.processor for run in runs)
        first = statistics.median(run.first for run in runs)
        low, high = min(run.rate for run in runs), max(run.rate for run in runs)
        megabytes = f"{disk[name] / 1e6:7.0f}" if name in disk else "      -"
        cpu = processor[name] * 1e3
        print(f"{name:12} {best[name]:10.0f} {low:8.0f} {high:8.0f} {first:8.3f} {cpu:8.3f} {workers:8} {megabytes}")
    line = {f"vs_{name}": round(best["ours"] / rate, 3) for name, rate in best.items() if name not in OURS}
    line["windows_per_s"] = round(best["ours"])
    line |= {
        f"processor_vs_{name}": round(used / processor["ours"], 3)
        for name, used in processor.items()
        if name not in OURS
    }
    if "lmdb" in disk:
        line["disk_vs_lmdb"] = round(disk["ours"] / disk["lmdb"], 3)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
