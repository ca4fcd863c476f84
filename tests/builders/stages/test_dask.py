"""A dask cluster of processes: its builds are those of this process, also when a worker is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from builders.stages import _jobs, materialize, pack, plan, search
from lulcbench import _parallel
from lulcbench._parallel import each, executor
from lulcbench.errors import LulcbenchError
from tests import loopback
from tests.builders import world
from tests.cluster import two_workers

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # dask wants a port for a dashboard


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with two_workers(tmp_path / "dask") as made:
        yield made


@pytest.mark.slow
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
        pytest.raises(
            LulcbenchError, match=r"(?s)The dask scheduler .* cannot be reached.*Check --scheduler"
        ) as caught,
        executor(1, address),
    ):
        pass
    # Its traceback keeps the client alive, which must not compute what others compute with dask.
    assert caught.tb is not None
    with pytest.raises(ValueError, match="No client"):
        Client.current()
