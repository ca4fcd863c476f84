"""The models that networks are compared with: fitted, kept and loaded as networks are."""

from __future__ import annotations

import os
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from baselines.cli import app
from baselines.config import Config
from baselines.difficulty import forest_scores
from baselines.experiment import Experiment
from baselines.measure import add, measure
from baselines.models.forest import ForestPredictor
from baselines.models.majority import MajorityPredictor
from baselines.models.spectra import PixelSample, nearest, spectra
from baselines.reports.tables import render
from baselines.run import Trained, load_run
from baselines.train import train
from lulcbench._files import hash_file
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import Release

FOREST = {"kind": "forest", "trees": 9, "samples": 4000, "min_leaf": 1}


def config_of(data: dict, model: dict) -> Config:
    return Config.parse({"name": model["kind"], "data": data, "model": model})


@pytest.fixture(scope="module")
def forest(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    out = tmp_path_factory.mktemp("forest")
    config = config_of({"kind": "luisa-seg", "root": str(release_root)}, FOREST)
    return train(Experiment.open(config), out), out / "forest"


def test_a_forest_predicts_the_same_with_any_number_of_processors(
    forest: tuple[Trained, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Votes of trees that finish in another order would add up to another sum, and ties to another class."""
    trained, _ = forest
    digests = set()
    for processors in (1, 2, 5):
        monkeypatch.setattr(os, "cpu_count", lambda n=processors: n)
        digests.add(hash_file(trained.task.predict(trained, tmp_path)))
    assert len(digests) == 1


def test_a_forest_comes_back_as_it_was_and_damage_is_found(forest: tuple[Trained, Path], tmp_path: Path) -> None:
    trained, folder = forest
    predictor = trained.predictor
    assert isinstance(predictor, ForestPredictor)
    images = torch.randn(1, 24, 8, 8, generator=torch.Generator().manual_seed(0))
    p = predictor(images)
    assert p.shape == (1, 46, 8, 8)
    torch.testing.assert_close(p.sum(1), torch.ones(1, 8, 8))
    assert torch.equal(load_run(folder).predictor(images), p)

    def refused(change: str, match: str) -> None:
        damaged = ForestPredictor(deepcopy(predictor.forest), predictor.classes)  # the forest itself is shared
        tree = damaged.forest.estimators_[3].tree_
        state = tree.__getstate__()
        nodes = state["nodes"].copy()  # what the state holds is the memory of the tree
        inner = np.flatnonzero(nodes["left_child"] >= 0)
        nodes[change][inner[-1]] = {"feature": 24, "left_child": inner[-1], "right_child": 10**6}[change]
        tree.__setstate__(state | {"nodes": nodes})
        damaged.save(tmp_path)
        with pytest.raises(LulcbenchError, match=match):
            trained.config.model.load(tmp_path, trained.config, trained.task)

    refused("feature", "an invalid channel")
    refused("left_child", "an invalid child")
    refused("right_child", "an invalid child")
    path = tmp_path / ForestPredictor.file
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LulcbenchError, match="is damaged"):
        trained.config.model.load(tmp_path, trained.config, trained.task)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", '{"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}')
    with pytest.raises(LulcbenchError, match="is damaged"):
        trained.config.model.load(tmp_path, trained.config, trained.task)


def test_the_majority_are_the_classes_that_the_manifest_counts(release_root: Path, tmp_path: Path) -> None:
    config = config_of({"kind": "luisa-seg", "root": str(release_root), "level": 2}, {"kind": "majority"})
    trained = train(Experiment.open(config), tmp_path)
    counts = dict.fromkeys(legend().codes(2), 0)
    for code, count in Release.open(release_root).manifest.labels["luisa"].class_counts[2018].items():
        if code and legend().ancestor(code, 2):
            counts[legend().ancestor(code, 2)] += count
    expected = np.array(list(counts.values())) / sum(counts.values())
    assert isinstance(trained.predictor, MajorityPredictor)
    np.testing.assert_allclose(trained.predictor.frequencies, expected, rtol=1e-6)
    path = tmp_path / "majority" / MajorityPredictor.file
    path.write_bytes(b"none")
    with pytest.raises(LulcbenchError, match="is damaged"):
        load_run(tmp_path / "majority")


def test_the_majority_of_patches_is_a_reference_like_any_other(eurosat_root: Path, tmp_path: Path) -> None:
    config = config_of({"kind": "eurosat", "root": str(eurosat_root)}, {"kind": "majority"})
    result = measure(config, 0, tmp_path)
    assert result["overall_accuracy"] == pytest.approx(0.1)  # ten classes, equally many of each
    assert result["log_loss"] == pytest.approx(np.log(10), rel=1e-5)
    assert (result["learning_curve"], result["parameters"]["total"]) == ([], 0)
    add(config, [result], tmp_path)
    from baselines.measure import read

    assert "| majority class | **10.00 %** | 1 | 0 core-minutes" in render([read("majority", tmp_path)])


def test_pixels_have_the_label_that_their_centre_is_in() -> None:
    labels = np.arange(96 * 96).reshape(1, 96, 96)
    fine = nearest(labels, 160)
    for i in range(160):
        assert fine[0, i, 0] // 96 == (i * 30 + 15) // 50
        assert fine[0, 0, i] == (i * 30 + 15) // 50
    assert (nearest(labels, 96) == labels).all()


def test_spectra_are_averaged_by_area_without_nodata() -> None:
    image = torch.zeros(1, 2, 6, 6)
    image[0, 0] = 3.0
    image[0, 0, 0, 0] = 0  # nodata
    image[0, 1, :2, :2] = torch.tensor([[1.0, 2.0], [0.0, 6.0]])
    pixels = spectra(image, 3)
    assert pixels.shape == (1, 3, 3, 2)
    assert (pixels[..., 0] == 3).all()
    assert pixels[0, 0, 0, 1] == pytest.approx(3)  # of 1, 2 and 6
    assert (pixels[0, 1:, 1:, 1] == 0).all()
    both = spectra({"a": image, "b": image})
    np.testing.assert_array_equal(both, np.concatenate([spectra(image)] * 2, -1))


def test_pixels_are_drawn_evenly_and_never_where_labels_are_unknown() -> None:
    sample = PixelSample(100, 4, seed=0)
    labels = np.full((4, 10, 10), IGNORE_INDEX)
    labels[:3, :5] = np.arange(3)[:, None, None]
    labels[3, 0, :7] = 3
    sample.add(np.repeat(labels[..., None], 2, -1).astype(np.float32), labels)
    pixels, classes = sample.drawn
    assert np.bincount(classes).tolist() == [25, 25, 25, 7]
    assert (pixels == classes[:, None]).all()


def test_forest_scores_every_level() -> None:
    classes = np.repeat(np.arange(46), 6)
    pixels = np.repeat(np.arange(46, dtype=np.float32), 6)[:, None]
    assert forest_scores(pixels, classes, pixels, classes) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}


@pytest.mark.slow
def test_the_difficulty_command_measures_a_release(release_root: Path) -> None:
    arguments = ["difficulty", str(release_root), "--pixels", "2000", "--tolerance"]
    far, near = (CliRunner().invoke(app, [*arguments, tolerance]) for tolerance in ("0", "1"))
    assert (far.exit_code, near.exit_code) == (1, 0)
    levels = [line.split() for line in near.stdout.splitlines()[1:]]
    assert [int(level) for level, *_ in levels] == [1, 2, 3, 4]
    assert all(0 < float(score) < 1 for _, score, *_ in levels)
    assert [published for *_, published in levels] == ["0.83", "0.63", "0.49", "–"]
