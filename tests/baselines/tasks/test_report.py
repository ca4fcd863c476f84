"""What reports and model cards state of the data that a model has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.predicting.submission import submission
from baselines.tasks.segmentation import PREDICTIONS, SCORES
from baselines.train import train
from lulcbench.evaluation.scoring import score
from lulcbench.release import Release


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_reports_and_cards_say_whether_the_split_was_used_in_training(
    split: str, release_root: Path, tmp_path: Path
) -> None:
    data = {"kind": "luisa-seg", "root": str(release_root), "sensors": "landsat", "history": [6]}
    config = Config.parse(
        {"name": "one", "data": data, "model": {"kind": "majority"}, "predict": {"split": split, "calibrate": False}}
    )
    trained = train(Experiment.open(config), tmp_path)
    trained.task.predict(trained, tmp_path / "one")
    scores = score(tmp_path / "one" / PREDICTIONS, release_root)
    (tmp_path / "one" / SCORES).write_text(scores.model_dump_json())
    summary = trained.task.report(trained.config, tmp_path / "one").summary
    assert f"{split} tiles of 4.8 × 4.8 km, {'used' if split == 'train' else 'not used'} in training" in summary
    assert "landsat 2012 and 2018, 4 seasons" in summary
    card = submission(trained, Release.open(release_root))
    assert card.saw_scored_labels == (split != "test")
