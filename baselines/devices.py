"""Devices, threads and memory of a run, and their description in results."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError

Images = Tensor | dict[str, Tensor]  # (b, channel, y, x), or a dict of these by sensor


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def map_images(images: Images, change: Callable[[Tensor], Tensor]) -> Images:
    """Apply a function to the images of every sensor.

    Example:
        >>> map_images({"landsat": torch.zeros(1, 2)}, torch.Tensor.sum)
        {'landsat': tensor(0.)}
    """
    return {k: change(v) for k, v in images.items()} if isinstance(images, dict) else change(images)


def first_image(images: Images) -> Tensor:
    """The images of the first sensor; dense outputs have their pixels."""
    return next(iter(images.values())) if isinstance(images, dict) else images


def to_device(batch: Sample, device: torch.device) -> Sample:
    """Move all tensors of a batch to a device."""

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: move(item) for key, item in value.items()}
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    return {key: move(value) for key, value in batch.items()}


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Set the number of threads of torch within a ``with`` block; None leaves it unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def memory_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn out-of-memory errors of GPU or processor into an error with a remedy.

    Raises:
        LulcbenchError: memory ran out; ``what`` names the setting that needs it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        raise LulcbenchError(f"Memory ran out with {what}.", remedy) from error


def wait_for_all() -> None:
    """Block until all processes of a run have called this function."""
    if distributed.is_available() and distributed.is_initialized():
        on_gpu = distributed.get_backend() == "nccl"
        distributed.barrier(device_ids=[torch.cuda.current_device()] if on_gpu else None)


def hardware() -> dict[str, Any]:
    """Names of processor and GPU (None if there is none), and the number of threads."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": _processor(), "threads": torch.get_num_threads(), "gpu": gpu}


def _processor() -> str:
    """Name of the processor; on Linux, ``platform`` returns only its architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
