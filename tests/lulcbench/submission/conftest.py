"""Predictions with their scores, and a card of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.evaluation.scores import Scores
from lulcbench.evaluation.scoring import score
from lulcbench.predictions import PredictionWriter
from lulcbench.submission.card import CARD_EXAMPLE


@pytest.fixture(scope="session")
def submission(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores]:
    folder = tmp_path_factory.mktemp("submission")
    make_release(folder / "release", {2018: smooth_codes(2, seed=0)})
    path = folder / "p.zip"
    with PredictionWriter(path, folder / "release", "test", 2018) as writer:
        for tile in writer.info.tiles:
            writer.write(tile, np.full((96, 96), 3110))
    return path, score(path, folder / "release")


@pytest.fixture
def card_file(tmp_path: Path) -> Path:
    path = tmp_path / "card.toml"
    path.write_text(CARD_EXAMPLE)
    return path
