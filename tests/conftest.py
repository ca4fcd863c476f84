"""Fixtures that all tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data (see CONTRIBUTING.md); tests that need it skip where it is absent."""
    folder = os.environ.get("LULCBENCH_REAL_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LULCBENCH_REAL_DATA names no folder with real data")
    return Path(folder)


@pytest.fixture(scope="session")
def release_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated release (8 tiles, Landsat 2012 and 2018, Sentinel-2 2018), built by the real builder.

    All tests share it: whoever alters something works on a copy.
    """
    root = tmp_path_factory.mktemp("tiny") / "release"
    recipe = Path(__file__).parent / "recipes" / "tiny.toml"
    command = [sys.executable, "-m", "builders", "build", str(recipe), "--out", str(root)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr[-3000:]
    return root
