"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data (see CONTRIBUTING.md); tests that need it skip where it is absent."""
    folder = os.environ.get("LULCBENCH_REAL_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("LULCBENCH_REAL_DATA names no folder with real data")
    return Path(folder)
