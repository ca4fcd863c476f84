"""Running many independent jobs: in processes of this machine, or on a dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection

from lulcbench.errors import LulcbenchError


@contextmanager
def executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Workers for ``each``.

    Args:
        workers: number of processes; None takes one per core, 1 runs everything in this process.
        scheduler: address of a dask scheduler to use instead of processes.
    """
    workers = workers or len(os.sched_getaffinity(0))
    if scheduler:
        from distributed import Client

        with Client(scheduler) as client:  # type: ignore[no-untyped-call]
            yield client.get_executor()
    elif workers == 1:
        yield None
    else:
        # Spawned, because GDAL and TensorStore threads do not survive a fork.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
            yield pool


def _end_with_parent() -> None:
    """End this worker when its parent dies: a killed parent cannot stop it, and nobody takes its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def wait() -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()


def each[Job, Result](
    pool: Executor | None, function: Callable[[Job], Result], jobs: Sequence[Job]
) -> Iterator[Result]:
    """Results of all jobs in the order of completion. The first error cancels the jobs that have not begun.

    Raises:
        LulcbenchError: a worker died, usually because memory ran out.
    """
    if pool is None:
        yield from map(function, jobs)
        return
    futures = [pool.submit(function, job) for job in jobs]
    try:
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise LulcbenchError(
            "A worker process died, usually because memory ran out.",
            "Run again with fewer --workers; what is finished is kept.",
        ) from error
    finally:
        for future in futures:
            future.cancel()
