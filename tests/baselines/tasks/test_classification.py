"""Patch classification: figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.data.eurosat import CLASSES
from baselines.tasks.classification import score
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX


def test_scores_by_hand() -> None:
    p = np.eye(10, dtype=np.float32)[[0, 0, 1, 2, 2]]
    scores = score(p, np.array([0, 1, 1, 2, 255]), CLASSES)
    assert scores["patches"] == 4
    assert scores["overall_accuracy"] == 0.75
    assert scores["confused"] == [{"label": "Forest", "predicted": "AnnualCrop", "patches": 1}]
    assert scores["class_accuracy"]["Forest"] == 0.5
    assert scores["class_accuracy"]["River"] is None
    with pytest.raises(LulcbenchError, match="No patch"):
        score(p, np.full(5, IGNORE_INDEX), CLASSES)
