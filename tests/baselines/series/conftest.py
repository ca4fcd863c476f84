"""A release of dated imagery, built once."""

from pathlib import Path

import pytest

from tests.baselines.series import world


@pytest.fixture(scope="session")
def series_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.build(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="session")
def series_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("steps")
