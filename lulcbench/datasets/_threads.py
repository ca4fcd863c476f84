"""Threads for work on batches that releases the interpreter lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def in_parallel(work: Callable[[range], None], n: int) -> None:
    """Call ``work`` with consecutive parts of ``range(n)``, on as many threads as torch uses.

    This is one per processor, and a single one in a worker of a DataLoader.
    """
    threads = min(torch.get_num_threads(), n)
    if threads <= 1:
        work(range(n))
    else:
        list(_pool(os.getpid(), threads).map(work, (range(k, n, threads) for k in range(threads))))


@cache
def _pool(pid: int, threads: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork, hence a pool for each process."""
    return ThreadPoolExecutor(threads, "lulcbench")
