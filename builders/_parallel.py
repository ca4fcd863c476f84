"""Running many independent jobs: in processes of this machine, or on a dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection

from lulcbench.errors import LulcbenchError

CONNECT = 30  # seconds to wait for a dask scheduler


@contextmanager
def executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Workers for ``each``.

    Args:
        workers: number of processes; None takes one per core, 1 runs everything in this process.
        scheduler: address of a dask scheduler to use instead of processes.
    """
    workers = workers or len(os.sched_getaffinity(0))
    if scheduler:
        with _dask(scheduler) as pool:
            yield pool
    elif workers == 1:
        yield None
    else:
        # Spawned, because GDAL and TensorStore threads do not survive a fork.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
            yield pool


@contextmanager
def _dask(scheduler: str) -> Iterator[Executor]:
    """Workers of a dask cluster. Jobs of a worker that dies are done by others, a few times.

    Raises:
        LulcbenchError: the scheduler cannot be reached, or a job killed several workers.
    """
    from distributed import Client
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        client = Client(scheduler, timeout=CONNECT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise LulcbenchError(
            f"The dask scheduler {scheduler} cannot be reached: {error}.",
            "Check --scheduler, such as tcp://10.0.0.5:8786, and that the cluster runs.",
        ) from error
    with client:
        try:
            yield client.get_executor()  # type: ignore[no-untyped-call]
        except KilledWorker as error:
            count = error.allowed_failures + 1
            raise LulcbenchError(
                f"A job killed {count} workers of the dask cluster, usually because memory ran out.",
                "Give workers more memory or fewer threads, and run again; what is finished is kept.",
            ) from error
        except (CommClosedError, CancelledError) as error:
            raise LulcbenchError(
                f"The connection to the dask scheduler {scheduler} broke: {error or type(error).__name__}.",
                "Start the cluster again and run again; what is finished is kept.",
            ) from error


def _end_with_parent() -> None:
    """End this worker when its parent dies: a killed parent cannot stop it, and its results are lost."""
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
