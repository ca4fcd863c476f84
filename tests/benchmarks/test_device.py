"""The benchmark of delivery to the device runs anywhere; its figures are of no interest here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"
TINY = ["--seconds", "0.01", "--batch-size", "2", "--rounds", "2"]


@pytest.mark.slow
def test_it_says_whether_the_loader_is_the_bottleneck(release_root: Path) -> None:
    command = [sys.executable, "-W", "error", str(SCRIPT), "--root", str(release_root), *TINY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["device"] == "cpu" or "no GPU" not in done.stdout
    for kind in ("windows", "chips"):
        rates = result[kind]
        assert min(rates.values()) > 0
        ratio = rates["delivered_device"] / rates["resident"]
        assert abs(rates["delivered_vs_resident"] - ratio) <= 0.02 * ratio


@pytest.mark.slow
def test_without_zarr_it_asks_for_a_release() -> None:
    run = f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    code = f"import runpy, sys; sys.modules['zarr'] = None; sys.argv = ['device.py']; {run}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "existing one with --root" in done.stderr
