"""A map that workers of a dask cluster predict."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from distributed import Client
from typer.testing import CliRunner

from lulcbench.cli import app
from lulcbench.errors import LulcbenchError
from lulcbench.maps import MapModel, map_release
from lulcbench.maps.lattice import Lattice
from lulcbench.maps.pool import Work
from lulcbench.release import Release
from tests.builders.stages.kill import tree
from tests.cluster import two_workers
from tests.lulcbench.maps.kill import PART

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore::UserWarning")  # dask wants a port for a dashboard
def test_a_map_by_a_cluster_has_the_same_bytes_although_a_worker_is_killed(
    overlapping_part: Path, exported, release_root: Path, tmp_path: Path
) -> None:
    with two_workers(tmp_path / "dask") as cluster:
        address = cluster.scheduler_address
        with Client(address) as client:
            before = set(client.run(os.getpid).values())
        assert len(before) == 2
        killed: list[int] = []

        def kill(done: int, total: int) -> None:
            if not killed:
                killed.append(min(before))
                os.kill(killed[0], signal.SIGKILL)

        out = tmp_path / "map"
        map_release(exported("unet"), release_root, out, PART, scheduler=address, progress=kill)
        assert killed
        assert tree(out) == tree(overlapping_part)
        with Client(address) as client:
            client.wait_for_workers(2)
            assert killed[0] not in client.run(os.getpid).values()


def test_a_worker_that_finds_another_model_is_refused(exported, release_root: Path, tmp_path: Path) -> None:
    shutil.copytree(exported("majority"), tmp_path / "model")
    model = MapModel.open(tmp_path / "model")
    work = Work.of(model, Release.open(release_root), Lattice(30, 0, 0), None)
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(exported("forest"), tmp_path / "model")
    with pytest.raises(LulcbenchError, match=r"(?s)does not find the model of this map.*shared file system"):
        work((2018, (-218, 302)))


def test_the_command_names_a_scheduler_that_does_not_answer(exported, release_root: Path, tmp_path: Path) -> None:
    arguments = ["map", str(exported("majority")), "--root", str(release_root), "--out", str(tmp_path / "map")]
    result = CliRunner().invoke(app, [*arguments, "--scheduler", "nonsense:1:x"])
    assert isinstance(result.exception, LulcbenchError)
    assert "The dask scheduler nonsense:1:x cannot be reached" in str(result.exception)
