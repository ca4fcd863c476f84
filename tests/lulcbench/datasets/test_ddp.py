from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lulcbench import LuisaSeg
from tests.lulcbench.datasets.ddp_script import WINDOW


@pytest.mark.slow
def test_two_processes_share_the_samples(release_root: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("ddp_script.py")
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "NODE_RANK")}
    command = [sys.executable, str(script), str(release_root), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["weight"] == second["weight"]

    def windows(split: str) -> list[tuple[float, ...]]:
        dataset = LuisaSeg(release_root, split, sensors="landsat", window=WINDOW)
        return sorted(map(tuple, dataset.read(range(len(dataset)))["bounds"].tolist()))

    tested = [tuple(bounds) for bounds in first["test"] + second["test"]]
    assert sorted(tested) == windows("test")  # each once: no padding
    assert len(first["val"]) == len(second["val"])  # equally many steps
    assert {tuple(bounds) for bounds in first["val"] + second["val"]} == set(windows("val"))
    trained = [tuple(bounds) for bounds in first["train"] + second["train"]]
    assert len(trained) == len(set(trained)) == 16
    assert set(trained) <= set(windows("train"))
