"""Servers with faults, and the composites that builds from them must have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.readers import access, opening, servers
from builders.recipe import load
from builders.workspace import workspace
from tests.builders.stages.faulty import Faulty, build, make, pixels


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, patient: None) -> Iterator[None]:
    """Short waits, and no open file of an earlier test."""
    monkeypatch.setitem(access.HTTP, "GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setitem(access.HTTP, "GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setattr(servers, "SLOW", 1.5)
    opening._kept.cache_clear()
    yield
    opening._kept.cache_clear()


@pytest.fixture
def server() -> type[Faulty]:
    return type("Server", (Faulty,), {"faults": [], "reads": 0, "etags": {}})


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A world with noise, and the composites of its scenes."""
    folder = tmp_path_factory.mktemp("made")
    make(folder / "world")
    space = workspace(folder / "out")
    return folder / "world", pixels(build(load(folder / "world" / "recipe.toml", space.scenes), space))


@pytest.fixture
def local(made: tuple[Path, dict[str, str]], tmp_path: Path) -> dict[str, str]:
    """Composites of the scenes on disk, of which the test has a copy."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return made[1]
