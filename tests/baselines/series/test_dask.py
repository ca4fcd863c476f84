"""Steps on a dask cluster of processes: the results are those of this process, also when a worker is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from baselines.config import Config
from baselines.data.series import SeriesData
from baselines.series import pool as pools
from baselines.series import pseudo
from tests.cluster import two_workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # dask wants a port for a dashboard
]


def test_the_scheduler_is_kept_by_copies_and_not_stored() -> None:
    data = {"kind": "series", "root": "data", "scheduler": "tcp://10.0.0.5:8786"}
    config = Config.parse({"name": "a", "data": data, "model": {"kind": "lstm"}, "augment": {"dihedral": False}})
    assert config.replace(seed=3, data={"level": 1}).data.scheduler == "tcp://10.0.0.5:8786"
    assert "8786" not in config.model_dump_json()
    assert config.same_as(config.replace(data={"scheduler": None}).model_dump(mode="json"))


def test_samples_and_pseudo_labels_survive_the_death_of_a_worker(
    series_root: Path, series_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL after the first tile has arrived."""
    monkeypatch.setattr(pseudo, "_PART", 500)
    settings = {"root": str(series_root), "sensor": "landsat", "every": 90, "level": 1, "most": 60}
    settings |= {"samples": {"clusters": 10, "dominance": 1.0}, "pseudo": {"train": 200, "val": 60, "trees": 10}}
    here = SeriesData.model_validate(settings | {"cache": str(series_cache)})._steps()
    with two_workers(tmp_path / "dask") as cluster:
        with Client(cluster.scheduler_address) as client:
            before = set(client.run(os.getpid).values())
        killed: list[int] = []
        real = pools.in_order

        def in_order(*arguments):
            for result in real(*arguments):
                if not killed:
                    killed.append(min(before))
                    os.kill(killed[0], signal.SIGKILL)
                yield result

        monkeypatch.setattr(pools, "in_order", in_order)
        config = SeriesData.model_validate(
            settings | {"cache": str(tmp_path / "cache"), "scheduler": cluster.scheduler_address}
        )
        there = config._steps()
        pool, labels = there.pool("train"), there.pseudo_labels("train")
    assert killed
    expected = here.pool("train")
    for name in ("values", "labels", "polygons", "blocks"):
        np.testing.assert_array_equal(getattr(pool, name), getattr(expected, name))
    for name in ("labels", "confidence"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(here.pseudo_labels("train"), name))
