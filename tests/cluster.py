"""A dask cluster of two worker processes on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed import LocalCluster, Nanny
from distributed.core import Status


@contextmanager
def two_workers(folder: Path) -> Iterator[LocalCluster]:
    """Each worker is watched by a nanny that starts it again when it was killed."""
    settings = {"temporary-directory": str(folder), "distributed.scheduler.allowed-failures": 2}
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set(settings),
    ):
        # Dask asks for a route to the internet to learn its own address.
        patch.setattr("distributed.utils._get_ip", lambda *_, **__: "127.0.0.1")
        with LocalCluster(
            2, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp", host="127.0.0.1"
        ) as made:
            yield made
            # Dask fails if it is closed while a nanny starts a worker.
            made.wait_for_workers(2, timeout=60)
            deadline = time.monotonic() + 60
            while not all(is_running(nanny) for nanny in made.workers.values()) and time.monotonic() < deadline:
                time.sleep(0.05)


def is_running(nanny: Nanny) -> bool:
    return nanny.process is not None and nanny.process.status == Status.running
