"""Running many independent jobs: in processes of this machine, or on a dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from lulcbench.errors import LulcbenchError


@contextmanager
def executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Workers for ``each``.

    Args:
        workers: processes; None takes one a core, 1 runs everything in this process.
        scheduler: address of a dask scheduler to use in place of processes.
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
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            yield pool


def each[Job, Result](
    pool: Executor | None, function: Callable[[Job], Result], jobs: Sequence[Job]
) -> Iterator[Result]:
    """Results of all jobs, as they come. The first error cancels what has not begun.

    Raises:
        LulcbenchError: a worker died, usually for want of memory.
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
