"""Fixtures of the documentation's tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Shell


@pytest.fixture
def folder(release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a clone after ``make demo``, with the tests' release as the simulated one."""
    clone = tmp_path / "clone"
    (clone / "demo").mkdir(parents=True)
    (clone / "demo" / "luisa-sim").symlink_to(release_root)
    for package in ("baselines", "builders", "leaderboard", "lulcbench"):
        (clone / package).symlink_to(ROOT / package)
    monkeypatch.chdir(clone)
    monkeypatch.setenv("MPLBACKEND", "agg")
    return clone


@pytest.fixture
def shell(folder: Path) -> Iterator[Shell]:
    bin_folder = Path(sys.executable).parent
    shell = Shell(folder, os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "COLUMNS": "120"})
    yield shell
    shell.stop()
