"""Segmentation of a legend subset, from the config to scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.run import Trained, load_run
from baselines.tasks.subset import PREDICTIONS
from baselines.train import train
from lulcbench.datasets import LuisaSeg
from lulcbench.errors import LulcbenchError
from lulcbench.legend import LEVELS, legend


def config(root: Path, **sections: object) -> Config:
    data = {"kind": "luisa-seg", "root": str(root), "sensors": "sentinel2", "subset": "settlement"}
    model = {"kind": "forest", "trees": 5, "samples": 2000}
    return Config.parse({"name": "subset", "data": data, "model": model} | sections)


@pytest.fixture(scope="module")
def trained(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    out = tmp_path_factory.mktemp("subset")
    run = train(Experiment.open(config(release_root)), out)
    run.task.predict(run, out / "subset")
    return run, out / "subset"


def test_scores_are_those_of_the_pixels_of_the_study_classes(trained: tuple[Trained, Path], release_root: Path) -> None:
    run, folder = trained
    assert load_run(folder).task.subset.names == ("residential", "industrial", "forest")
    dataset = LuisaSeg(release_root, "test", "sentinel2", level=4, window=4800, mask_resolution="label")
    truth = np.stack([sample["mask"].numpy() for sample in dataset])  # type: ignore[attr-defined]
    codes = legend().decode(truth, 4)
    third = legend().remap(codes, 3)
    classes = np.full(codes.shape, 255)
    classes[(third == 111) | (third == 112)] = 0
    classes[third == 121] = 1
    classes[legend().remap(codes, 2) == 31] = 2
    p = np.load(folder / PREDICTIONS)["p"]
    known = classes != 255
    predicted = p.argmax(1)[known]
    scores = run.task.score(run.config, folder)
    assert scores["overall_accuracy"] == pytest.approx((predicted == classes[known]).mean())
    iou = [
        ((predicted == c) & (classes[known] == c)).sum() / ((predicted == c) | (classes[known] == c)).sum()
        for c in range(3)
        if (classes[known] == c).any()
    ]
    assert scores["miou"] == pytest.approx(np.mean(iou))
    counts = run.task.count(run.config, folder)
    assert counts.unit == "spatial blocks"
    assert len(counts.units) == 2
    assert counts.sums["classes", 0][:, 1].sum() == known.sum()
    assert counts.classes == {0: ("residential", "industrial", "forest")}
    (table,) = run.task.report(run.config, folder).tables.values()
    assert table["miou"] == scores["miou"]
    pictures = list(run.task.pictures(run.config, folder, 2))
    assert len(pictures) == 2
    assert [panel.title for panel in pictures[0][1]][-2:] == ["label", "prediction"]


def test_labels_of_any_level_count_where_they_determine_the_class(trained: tuple[Trained, Path]) -> None:
    run, _ = trained
    codes = np.array([[[1111, 112, 11, 1, 0], [31, 3, 3110, 1210, 2110]]], np.uint16)
    mask = torch.from_numpy(np.stack([legend().encode(codes, level) for level in LEVELS], 1))
    # Urban fabric has urban vegetation too, which is of no class.
    assert run.task.truth({"mask": mask})[0].tolist() == [[0, 0, 255, 255, 255], [2, 255, 2, 1, 255]]


@pytest.mark.slow
def test_a_network_learns_the_study_classes(release_root: Path, tmp_path: Path) -> None:
    run = config(
        release_root,
        model={"kind": "unet", "encoder": "resnet18", "depth": 3, "decoder_channels": [8, 8, 8]},
        task={"class_balance": 0.5, "dice": 0.2},
        train={"steps": 2, "batch_size": 2},
        threads=1,
    )
    trained = train(Experiment.open(run), tmp_path)
    assert sum(trained.about.info.frequencies) == pytest.approx(1)
    trained.task.predict(trained, tmp_path / "subset")
    assert 0 <= trained.task.score(run, tmp_path / "subset")["miou"] <= 1


def test_what_does_not_fit_a_subset_is_refused(trained: tuple[Trained, Path], release_root: Path) -> None:
    run, folder = trained
    data = run.config.data.model_dump()
    with pytest.raises(LulcbenchError, match="level and subset both choose the classes"):
        config(release_root, data=data | {"level": 2})
    with pytest.raises(LulcbenchError, match="requires LUISA levels"):
        config(release_root, task={"kind": "segmentation-edges"})
    with pytest.raises(LulcbenchError, match="no legend subset 'cities'"):
        Experiment.open(config(release_root, data=data | {"subset": "cities"}))
    content = (folder / PREDICTIONS).read_bytes()
    (folder / PREDICTIONS).write_bytes(content[:1000])
    with pytest.raises(LulcbenchError, match="is damaged"):
        run.task.score(run.config, folder)
    (folder / PREDICTIONS).write_bytes(content)


def test_a_model_of_other_classes_is_refused(release_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('title = "Two"\n[classes]\nbuilt-up = [11, 12]\nforest = [31]\n')
    run = config(release_root)
    run = run.replace(data={"subset": str(path)})
    trained = train(Experiment.open(run), tmp_path)
    assert trained.about.data_digest == run.data.digest()
    path.write_text(path.read_text().replace("[11, 12]", "[11]"))  # the same names
    loaded = load_run(tmp_path / run.name, run)
    with pytest.raises(LulcbenchError, match="was trained on other data"):
        loaded.task.predict(loaded, tmp_path / run.name)
    assert not (tmp_path / run.name / PREDICTIONS).exists()


def test_frequencies_count_labels_of_any_level(release_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = config(release_root)
    dataset = Experiment.open(run).data.datasets["train"]
    rng = np.random.default_rng(0)
    # As of CORINE, whose classes end at level 3, beside some of level 4; 1 is of no class of the subset.
    codes = rng.choice([112, 111, 1111, 1210, 121, 31, 3110, 1, 211, 0], (len(dataset.tiles), 96, 96))

    def fractions(year: int, level: int) -> np.ndarray:
        indices = legend().encode(codes.astype(np.uint16), level).reshape(len(codes), -1)
        return np.stack([(indices == i).mean(1) for i in range(len(legend().codes(level)))], 1)

    monkeypatch.setattr(dataset, "class_fractions", fractions)
    of = ([112, 111, 1111], [1210, 121], [31, 3110])
    expected = np.array([np.isin(codes, members).sum() for members in of])
    np.testing.assert_allclose(run.data.describe(dataset).frequencies, expected / expected.sum(), rtol=1e-12)
