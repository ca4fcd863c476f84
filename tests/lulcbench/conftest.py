"""Fixtures of the tests that download, and of those that read predictions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.label_release import make_release, smooth_codes
from builders.stages.publish import publish
from lulcbench.legend import legend
from lulcbench.predictions import PredictionWriter
from lulcbench.release import Manifest
from tests.lulcbench.fake_hub import FakeHub

PREDICTED_TILES = 3


@pytest.fixture(scope="session")
def published_once() -> dict[str, Any]:
    """What the hub holds once the small release is published; the first test that asks for it publishes."""
    return {}


@pytest.fixture
def published(hub: FakeHub, published_once: dict[str, Any], release_root: Path) -> FakeHub:
    """The hub with the small release on it, as lulcbench/tiny."""
    if not published_once:
        version = Manifest.load(release_root).version
        assert publish(release_root, "hf://lulcbench/tiny") == f"hf://lulcbench/tiny@v{version}"
        published_once.update(copy.deepcopy(hub.content()))
    vars(hub).update(copy.deepcopy(published_once))
    return hub


@pytest.fixture(scope="session")
def predicted_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of three tiles of labels."""
    folder = tmp_path_factory.mktemp("predicted") / "release"
    make_release(folder, {2018: smooth_codes(PREDICTED_TILES, seed=1)})
    return folder


@pytest.fixture(scope="session")
def probabilities() -> np.ndarray:
    """Class probabilities of its tiles: float64 ``(tile, class, y, x)``."""
    values = np.random.default_rng(0).dirichlet(np.full(46, 0.2), (PREDICTED_TILES, 96, 96)).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values)


@pytest.fixture(scope="session")
def good_file(predicted_root: Path, probabilities: np.ndarray) -> Path:
    """An honest file with probabilities."""
    path = predicted_root.parent / "good.zip"
    codes = legend().decode(probabilities.argmax(axis=1), 4)
    with PredictionWriter(path, predicted_root, "test", 2018, probabilities=True) as writer:
        for row in (2, 0, 1):  # any order
            writer.write(writer.info.tiles[row], codes[row], probabilities[row])
    return path


@pytest.fixture(scope="session")
def plain_file(predicted_root: Path) -> Path:
    """An honest file without probabilities."""
    path = predicted_root.parent / "plain.zip"
    with PredictionWriter(path, predicted_root, "test", 2018) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, np.full((96, 96), 3110))
    return path
