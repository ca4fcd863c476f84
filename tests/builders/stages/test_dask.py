"""A dask cluster of processes: its builds are those of this process, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster, Nanny
from distributed.core import Status

from builders import _parallel
from builders._parallel import each, executor
from builders.stages import _jobs, materialize, pack, plan, search
from lulcbench.errors import LulcbenchError
from tests import loopback
from tests.builders import world

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # dask wants a port for a dashboard


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalCluster]:
    """Two worker processes, each watched by a nanny that starts it again."""
    # Dask asks for a route to the internet to learn its own address.
    monkeypatch.setattr("distributed.utils._get_ip", lambda *_, **__: "127.0.0.1")
    settings = {"temporary-directory": str(tmp_path / "dask"), "distributed.scheduler.allowed-failures": 2}
    with dask.config.set(settings), LocalCluster(
        2, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp", host="127.0.0.1"
    ) as made:  # fmt: skip
        yield made
        # Dask fails if it is closed while a nanny starts a worker.
        made.wait_for_workers(2, timeout=60)
        deadline = time.monotonic() + 60
        while not all(is_running(nanny) for nanny in made.workers.values()) and time.monotonic() < deadline:
            time.sleep(0.05)


def is_running(nanny: Nanny) -> bool:
    return nanny.process is not None and nanny.process.status == Status.running


def test_a_build_survives_the_death_of_a_worker(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL after the second of twelve jobs; the release is that of this process, byte by byte."""
    monkeypatch.setattr(_jobs, "GROUP", 160)  # one tile per job
    with Client(cluster.scheduler_address) as client:
        before = set(client.run(os.getpid).values())
        assert len(before) == 2
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if done >= 2 and not killed:
            killed.append(min(before))
            os.kill(killed[0], signal.SIGKILL)

    digests = []
    for name, scheduler, report in (("here", None, None), ("dask", cluster.scheduler_address, kill)):
        recipe, space = world.make(tmp_path / name)
        rows = plan.plan(recipe, space)
        scenes = search.search(recipe, space, rows)
        with executor(1, scheduler) as pool:
            notes = materialize.materialize(recipe, space, rows, scenes, pool, report)
            digests.append(pack.pack(recipe, space, rows, pool).digest)
        assert len(notes) == 6
    assert killed
    assert digests[0] == digests[1]
    with Client(cluster.scheduler_address) as client:
        client.wait_for_workers(2)
        after = set(client.run(os.getpid).values())
    assert killed[0] not in after
    assert os.getpid() not in after


def test_a_job_that_kills_every_worker_is_an_error_with_remedy(cluster: LocalCluster) -> None:
    with (
        pytest.raises(LulcbenchError, match=r"(?s)killed 3 workers of the dask cluster.*more memory or fewer threads"),
        executor(1, cluster.scheduler_address) as pool,
    ):
        list(each(pool, os._exit, [1]))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{port}", "nonsense:{port}:x"])
def test_a_scheduler_that_does_not_answer_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parallel, "CONNECT", 1)
    address = address.format(port=loopback.free_port())
    with (
        pytest.raises(LulcbenchError, match=r"(?s)The dask scheduler .* cannot be reached.*Check --scheduler"),
        executor(1, address),
    ):
        pass
