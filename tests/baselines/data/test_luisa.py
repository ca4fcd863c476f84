"""Settings of releases: part of the train tiles, moving windows, and predictions of another release."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.run import load_run
from baselines.train import train
from lulcbench.errors import LulcbenchError
from lulcbench.predictions import Predictions
from lulcbench.release import Manifest


def config(root: Path, **data: Any) -> Config:
    section = {"kind": "luisa-seg", "root": str(root), "level": 2} | data
    return Config.parse({"name": "a", "data": section, "model": {"kind": "majority"}})


def test_stride_phase_and_fraction_are_those_of_training_alone(release_root: Path) -> None:
    data = Experiment.open(config(release_root, window=1200, stride=600, phase="random", fraction=0.1)).data
    train_set, val = data.datasets["train"], data.datasets["val"]
    assert (len(train_set.tiles), len(train_set)) == (1, 49)
    assert len(val) == 16 * len(val.tiles) > 0
    assert (train_set.windows.phase, val.windows.phase) == ("random", "fixed")
    first = train_set.locate(range(49)).offsets.copy()
    train_set.set_epoch(1)
    assert (train_set.locate(range(49)).offsets != first).any()


def test_frequencies_are_those_of_the_labels_that_are_trained_on(release_root: Path) -> None:
    few, all_tiles = (Experiment.open(config(release_root, fraction=f)) for f in (0.1, 1.0))
    assert few.info.frequencies != all_tiles.info.frequencies
    for experiment in (few, all_tiles):
        labels = np.concatenate([b["mask"][:, 1].numpy().ravel() for b in experiment.data.loader("train")])
        counts = np.bincount(labels[labels != 255], minlength=14)
        np.testing.assert_allclose(experiment.info.frequencies, counts / counts.sum(), atol=1e-6)
        assert len(experiment.info.absent) == (counts == 0).sum()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [('"name":"summer"', '"name":"monsoon"', "no season 'summer'"), ('"name":"red"', '"name":"blush"', "'red'")],
    ids=["season", "band"],
)
def test_a_release_without_a_season_or_band_of_the_model_is_refused(
    release_root: Path, tmp_path: Path, old: str, new: str, says: str
) -> None:
    run = Config.parse(config(release_root).model_dump() | {"model": {"kind": "forest", "trees": 3, "samples": 500}})
    train(Experiment.open(run), tmp_path)
    other = Path(shutil.copytree(release_root, tmp_path / "other"))
    manifest = json.loads((other / "release.json").read_text())
    del manifest["digest"]
    text = json.dumps(manifest, separators=(",", ":"))
    assert old in text
    changed = json.loads(text.replace(old, new))
    digest = Manifest.model_validate(changed).digest
    (other / "release.json").write_text(json.dumps(changed | {"digest": digest}))
    loaded = load_run(tmp_path / run.name, run.replace(predict={"root": str(other)}))
    with pytest.raises(LulcbenchError, match=says):
        loaded.task.predict(loaded, tmp_path / "predicted")
    assert not (tmp_path / "predicted" / "predictions.zip").exists()


def test_another_release_is_predicted_with_the_statistics_of_the_training_data(
    release_root: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(release_root, tmp_path / "other"))
    manifest = json.loads((other / "release.json").read_text())
    for sensor in manifest["sensors"].values():
        sensor["statistics"]["mean"] = [value + 1 for value in sensor["statistics"]["mean"]]
    del manifest["digest"]
    changed = Manifest.model_validate(manifest)
    (other / "release.json").write_text(json.dumps(manifest | {"digest": changed.digest}))
    forest = {"kind": "forest", "trees": 3, "samples": 500}
    run = Config.parse(config(release_root).model_dump() | {"model": forest})
    trained = train(Experiment.open(run), tmp_path)
    moved = replace(trained, config=run.replace(data={"root": str(other)}))
    with pytest.raises(LulcbenchError, match=r"set predict\.root to predict another one"):
        moved.task.predict(moved, tmp_path / "refused")
    codes = []
    for root in (None, str(other)):
        predicting = run.replace(predict={"root": root})
        loaded = load_run(tmp_path / "a", predicting)
        folder = tmp_path / f"predicted-{root is None}"
        loaded.task.predict(loaded, folder)
        with Predictions.open(folder / "predictions.zip", root or release_root) as predictions:
            codes.append(predictions.codes(0))
        assert loaded.task.score(predicting, folder) == trained.task.score(predicting, folder)
        card = (folder / "submission.toml").read_text()
        assert ("release with digest" in card) == (root is not None)
    assert np.array_equal(*codes)
