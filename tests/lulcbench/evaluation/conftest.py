"""A map and its truth, shared by tests of samples and areas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.lulcbench.evaluation.drawn_maps import land, write


@pytest.fixture(scope="session")
def maps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """A map and its truth, of two dates: the first third of the rows is what changes."""
    folder = tmp_path_factory.mktemp("maps")
    truth = land(0)
    codes = truth.copy()
    codes[:, ::7] = np.roll(truth, 40, axis=1)[:, ::7]
    later = codes.copy()
    later[:200, :350] = 211
    return write(folder / "a.tif", codes), write(folder / "b.tif", later), truth, codes
