"""The pixel ensemble: its features, its folds, and what is read from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skops.io import dumps, load

from baselines.config import Config
from baselines.data import Input
from baselines.experiment import Experiment
from baselines.models.spectra import IndexFeatures
from baselines.models.stack import TRUSTED, Stack, StackPredictor, member_probabilities
from baselines.run import Trained, load_run
from baselines.train import train
from lulcbench.errors import LulcbenchError
from lulcbench.seasons import Season

SMALL = {"kind": "stack", "samples": 1500, "folds": 2, "trees": 5, "rounds": 3, "leaves": 4, "hidden": 8, "epochs": 3}


def config(root: Path, **model: object) -> Config:
    data = {"kind": "luisa-seg", "root": str(root), "level": 2, "window": 1200}
    return Config.parse({"name": "stack", "data": data, "model": SMALL | model})


@pytest.fixture(scope="module")
def stack(release_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    out = tmp_path_factory.mktemp("stack")
    return train(Experiment.open(config(release_root)), out), out / "stack"


def test_features_are_spectra_their_indices_and_ranges() -> None:
    bands = ("green", "red", "nir08", "swir16", "swir22")
    channels = tuple(f"{season}:{band}" for season in ("spring", "summer") for band in bands)
    features = IndexFeatures({"landsat": Input(channels=channels, mean=(0.1,) * 10, std=(0.05,) * 10, resolution=30)})
    reflectance = np.array([[0.08, 0.05, 0.4, 0.2, 0.1, 0.08, 0.1, 0.3, 0.2, 0.1]])
    pixels = ((reflectance - 0.1) / 0.05).astype(np.float32)
    pixels[0, 6] = 0  # red is missing in summer
    values = dict(zip(features.names, features.of(pixels)[0], strict=True))
    assert len(values) == 10 + 8 + 4
    assert values["landsat:spring:ndvi"] == pytest.approx((0.4 - 0.05) / (0.4 + 0.05), abs=1e-5)
    assert values["landsat:summer:ndvi"] == 0
    assert values["landsat:ndvi range"] == 0  # of one season
    assert values["landsat:summer:ndmi"] == pytest.approx((0.3 - 0.2) / (0.3 + 0.2), abs=1e-5)
    assert values["landsat:ndmi range"] == pytest.approx((0.2 / 0.6) - (0.1 / 0.5), abs=1e-5)
    assert np.array_equal(features.of(np.zeros((2, 10), np.float32)), np.zeros((2, 22)))
    assert IndexFeatures({"planet": Input(channels=("x:red",), mean=(0.1,), std=(1.0,), resolution=3)}).names == [
        "planet:x:red"
    ]


def test_trends_are_lines_through_the_years_with_data() -> None:
    seasons = (Season(name="spring", start="03-20", end="06-20"), Season(name="summer", start="06-25", end="09-12"))
    bands, history = ("red", "nir08"), (6, 2)
    channels = tuple(f"{y}{s.name}:{band}" for y in ("-6:", "-2:", "") for s in seasons for band in bands)
    features = IndexFeatures(
        {"landsat": Input(channels=channels, mean=(0.2,) * 12, std=(0.1,) * 12, resolution=30, seasons=seasons,
                          history=history)}
    )  # fmt: skip
    rng = np.random.default_rng(1)
    reflectance = rng.uniform(0.05, 0.5, (40, 3, 2, 2))  # pixel, year, season, band
    known = rng.random((40, 3, 2, 2)) < 0.8
    pixels = np.where(known, (reflectance - 0.2) / 0.1, 0).astype(np.float32)
    computed = dict(zip(features.names, features.of(pixels.reshape(40, -1)).T, strict=True))
    assert len(features.names) == 12 + 6 + 1 + 4 + 2
    ndvi = (reflectance[..., 1] - reflectance[..., 0]) / reflectance.sum(-1)
    series = {f"{s.name}:{band}": ((reflectance[:, :, k, b] - 0.2) / 0.1, known[:, :, k, b])
              for k, s in enumerate(seasons) for b, band in enumerate(bands)}  # fmt: skip
    series |= {f"{s.name}:ndvi": (ndvi[:, :, k], known[:, :, k].all(-1)) for k, s in enumerate(seasons)}
    for name, (values, seen) in series.items():
        lines = [
            6 * np.polyfit(np.array([-6, -2, 0])[there], row[there], 1)[0] if there.sum() > 1 else 0
            for row, there in zip(values, seen, strict=True)
        ]
        np.testing.assert_allclose(computed[f"landsat:{name} trend"], lines, atol=1e-4)
    own = np.where(known[:, 2].all(-1), ndvi[:, 2], np.nan)
    both = np.isfinite(own).all(1)
    np.testing.assert_allclose(computed["landsat:ndvi range"][both], np.ptp(own[both], axis=1), atol=1e-5)


def test_an_ensemble_comes_back_as_it_was_and_its_spread_is_that_of_its_members(stack: tuple[Trained, Path]) -> None:
    trained, folder = stack
    predictor = trained.predictor
    assert isinstance(predictor, StackPredictor)
    images = Experiment.open(trained.config).data.datasets["val"].read([0, 1])["image"]
    p = predictor(images)
    assert p.shape == (2, 14, 40, 40)
    torch.testing.assert_close(p.sum(1), torch.ones(2, 40, 40))
    assert torch.equal(load_run(folder).predictor(images), p)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, images.shape[1]).numpy()
    x = predictor.features.of(pixels)
    members = np.stack([member_probabilities(m, x, 14) for m in predictor.members.values()])
    spread = predictor.spread(images).permute(0, 2, 3, 1).reshape(-1, 14).numpy()
    np.testing.assert_allclose(spread, members.std(0), atol=1e-6)
    stacked = predictor.regression.predict_proba(members.transpose(1, 0, 2).reshape(len(x), -1))
    np.testing.assert_allclose(
        p.permute(0, 2, 3, 1).reshape(-1, 14).numpy()[:, predictor.regression.classes_], stacked, atol=1e-6
    )
    trained.task.predict(trained, folder)
    assert 0 < trained.task.score(trained.config, folder)["overall_accuracy"] <= 1


def test_members_are_stacked_on_blocks_that_they_have_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 50)
    x, y = rng.normal(size=(200, 3)).astype(np.float32), rng.integers(0, 2, 200)
    x[:, 2] = groups  # features tell the block
    fitted = []

    class Memory:
        classes_ = np.array([0, 1])

        def fit(self, x: np.ndarray, y: np.ndarray) -> Memory:
            self.blocks = set(x[:, 2].tolist())
            fitted.append(self.blocks)
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            assert not self.blocks & set(x[:, 2].tolist())
            return np.full((len(x), 2), 0.5)

    monkeypatch.setattr(Stack, "_member", lambda self, name, seed: Memory())
    regression = Stack(folds=4)._stack(x, y, groups, 2, 0)
    assert len(fitted) == 4 * 3
    assert all(len(blocks) == 3 for blocks in fitted)
    assert regression.coef_.shape[1] == 3 * 2


def test_one_member_may_be_used_alone_and_one_block_cannot_be_stacked(
    release_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(release_root, use="boosting")
    trained = train(Experiment.open(run), tmp_path)
    assert list(trained.predictor.members) == ["boosting"]
    monkeypatch.setattr(type(run.data), "units", lambda self, dataset: ("spatial blocks", ["one"] * len(dataset)))
    with pytest.raises(LulcbenchError, match="cannot be stacked"):
        train(Experiment.open(config(release_root)), tmp_path / "one")


def test_damaged_ensembles_are_refused(stack: tuple[Trained, Path], tmp_path: Path) -> None:
    trained, folder = stack
    file = StackPredictor.file

    def says(change: str) -> str:
        content = load(folder / file, trusted=list(TRUSTED))
        members = content["members"]
        if change == "child":
            members["boosting"]._predictors[0][0].nodes["left"][0] = 0
        elif change == "feature":
            members["boosting"]._predictors[0][0].nodes["feature_idx"][0] = 999
        elif change == "members":
            del members["network"]
        elif change == "order":
            members["network"], members["forest"] = members["forest"], members["network"]
        elif change == "regression":
            content["regression"].coef_ = content["regression"].coef_[:, :5]
        (tmp_path / file).write_bytes(dumps(content))
        with pytest.raises(LulcbenchError, match="is damaged") as error:
            trained.config.model.load(tmp_path, trained.config, trained.task)
        return str(error.value)

    assert "invalid child" in says("child")
    assert "invalid feature" in says("feature")
    assert "other members" in says("members")
    assert "is a MLPClassifier" in says("order")
    assert "other members" in says("regression")
    (tmp_path / file).write_bytes((folder / file).read_bytes()[:500])
    with pytest.raises(LulcbenchError, match="is damaged"):
        trained.config.model.load(tmp_path, trained.config, trained.task)
