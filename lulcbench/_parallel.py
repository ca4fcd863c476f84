"""Running many independent jobs: in processes of this machine, or on a dask cluster."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

from lulcbench.errors import LulcbenchError

CONNECT = 30  # seconds to wait for a dask scheduler


@contextmanager
def executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Workers for ``each`` and ``in_order``.

    Args:
        workers: number of processes; None takes one per core, 1 runs everything in this process.
        scheduler: address of a dask scheduler to use instead of processes.

    Raises:
        LulcbenchError: dask is not installed, the scheduler cannot be reached, or a job killed several workers.
    """
    workers = workers or len(os.sched_getaffinity(0))
    if scheduler:
        with _dask(scheduler) as pool:
            yield pool
    elif workers == 1:
        yield None
    else:
        # Spawned, because GDAL and TensorStore threads do not survive a fork.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker) as pool:
            yield pool


@contextmanager
def _dask(scheduler: str) -> Iterator[Executor]:
    """Workers of a dask cluster. Jobs of a worker that dies are done by others, a few times.

    Raises:
        LulcbenchError: the scheduler cannot be reached, or a job killed several workers.
    """
    try:
        from distributed import Client
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise LulcbenchError(
            "dask.distributed is not installed.", "pip install distributed, or do without --scheduler."
        ) from error
    try:
        # Not the default of this process: after a failure, xarray would compute with it, and wait for ever.
        client = Client(scheduler, timeout=CONNECT, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise LulcbenchError(
            f"The dask scheduler {scheduler} cannot be reached: {error}.",
            "Check --scheduler, such as tcp://10.0.0.5:8786, and that the cluster runs.",
        ) from error
    with client, client.as_current():
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


def slots(pool: Executor | None, workers: int) -> int:
    """How many jobs run at a time: ``workers``, or the threads that a dask cluster has now."""
    if pool is None or isinstance(pool, ProcessPoolExecutor | ThreadPoolExecutor):
        return workers
    from distributed import Client

    return sum(Client.current().nthreads().values())  # type: ignore[no-untyped-call]


def _prepare_worker() -> None:
    """End this worker without taking its libraries down, and also when its parent dies.

    TensorStore, GDAL and ONNX Runtime have threads of their own, which can wait for one another while the interpreter
    ends; the parent would then wait for this worker for ever. A killed parent cannot stop it, and its results are lost.
    """
    atexit.register(os._exit, 0)
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
    with _cancelled_at_end(futures):
        for future in as_completed(futures):
            yield future.result()


def in_order[Job, Result](
    pool: Executor | None, function: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
) -> Iterator[Result]:
    """Results of jobs in the order of the jobs; memory holds ``ahead`` of them at most.

    Raises:
        LulcbenchError: a worker died, usually because memory ran out.
    """
    if pool is None:
        yield from map(function, jobs)
        return
    waiting: deque[Future[Result]] = deque()
    with _cancelled_at_end(waiting):
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _cancelled_at_end(futures: Iterable[Future[Any]]) -> Iterator[None]:
    """Cancel the jobs that have not begun at the end, and explain the death of a worker.

    Raises:
        LulcbenchError: a worker died.
    """
    try:
        yield
    except BrokenProcessPool as error:
        raise _died() from error
    finally:
        for future in futures:
            future.cancel()


def _died() -> LulcbenchError:
    return LulcbenchError(
        "A worker process died, usually because memory ran out.",
        "Run again with fewer --workers; what is finished is kept.",
    )
