"""Reading shards directly from an object store with 20 ms latency; time to start, and memory.

usage: python benchmarks/remote.py [--tiles 16] [--latency 0.02]

A file server on loopback waits before every answer. The output is one JSON object: time to the first batch and rate
over an epoch of 1,200 m windows, from the server and from disk, processor time for importing the package, and resident
memory after the first, third, tenth and thirtieth epoch (the first two fill buffers and caches).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import release
from benchmarks.files import FileServer
from lulcbench.datasets import LuisaSeg

BATCH = 64


def serve(folder: str, latency: float, ports: multiprocessing.Queue[int]) -> None:
    """Run the server in a separate process, so that it does not share the interpreter of the reader."""
    server = FileServer(Path(folder), latency)
    ports.put(server.server_port)
    server.serve_forever()


def main() -> None:
    """Run the benchmark and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.02)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        release.make(Path(folder, "ours"), options.tiles)
        ports: multiprocessing.Queue[int] = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(folder, options.latency, ports), daemon=True)
        server.start()
        port = ports.get()
        result: dict[str, float] = {"latency_ms": options.latency * 1e3}
        for name, root in (("disk", f"{folder}/ours"), ("remote", f"http://127.0.0.1:{port}/ours")):
            start = time.perf_counter()
            dataset = LuisaSeg(root)
            dataset.read(range(BATCH))
            result[f"{name}_first_batch_s"] = round(time.perf_counter() - start, 3)
            result[f"{name}_windows_per_s"] = round(len(dataset) / epoch(dataset))
        server.terminate()
        local = LuisaSeg(f"{folder}/ours")
        epoch(local)
        result["memory_after_1_epoch_mb"] = resident()
        for done, goal in ((1, 3), (3, 10), (10, 30)):
            for _ in range(done, goal):
                epoch(local)
            result[f"memory_after_{goal}_epochs_mb"] = resident()
    for what in ("lulcbench", "lulcbench.datasets"):
        code = f"import time; t = time.process_time(); import {what}; print(time.process_time() - t)"
        used = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]  # noqa: S603 (the code above)
        result[f"import_{what}_processor_s"] = round(min(used), 3)
    print(json.dumps(result))


def epoch(dataset: LuisaSeg) -> float:
    """Read all windows in random order; returns the time in seconds."""
    start = time.perf_counter()
    order = torch.randperm(len(dataset)).numpy()
    for first in range(0, len(order), BATCH):
        dataset.read(order[first : first + BATCH])
    return time.perf_counter() - start


def resident() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6)


if __name__ == "__main__":
    main()
