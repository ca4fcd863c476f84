"""Yearly maps of the classes of a legend subset, from the labels of a map to scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import accuracy_score, f1_score, log_loss

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.export import export
from baselines.run import Trained, load_run
from baselines.tasks.series import Mapper, SeriesTask
from baselines.tasks.subset_series import SubsetSeries
from baselines.train import train
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.grid import Tile
from lulcbench.maps import MapOptions, map_release
from lulcbench.release import Release, Row
from tests.baselines.series.world import ARABLE, FOREST, YEARS, config

if TYPE_CHECKING:
    from baselines.data.series import SeriesData

SUBSET = 'title = "Trees and fields"\n[classes]\nwater = [5]\nfields = [2]\ntrees = [311]\n'


@pytest.fixture(scope="module")
def settings(series_root: Path, series_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    path = tmp_path_factory.mktemp("subset") / "trees.toml"
    path.write_text(SUBSET)
    found = config(series_root, series_cache).model_dump()
    del found["data"]["level"]
    return Config.parse(found | {"data": found["data"] | {"subset": str(path)}})


@pytest.fixture(scope="module")
def trained(settings: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    out = tmp_path_factory.mktemp("runs")
    run = train(Experiment.open(settings), out)
    return run, out / settings.name


def test_samples_and_scores_are_of_the_study_classes(trained: tuple[Trained, Path], tmp_path: Path) -> None:
    run, folder = trained
    info = run.about.info
    assert (info.classes, info.level) == (("water", "fields", "trees"), None)
    assert info.absent == ("water",)
    assert info.subset == {"water": (5,), "fields": (2,), "trees": (311,)}
    loaded = load_run(folder)
    assert isinstance(loaded.task, SubsetSeries)
    path = loaded.task.predict(loaded, tmp_path)
    content = np.load(path)
    assert content["years"].tolist() == list(YEARS)
    release = Release.open(run.config.data.options["steps"].reader.release.root)
    rows = release.manifest.rows("test")
    labels = np.stack([release.labels("test", year, list(rows)) for year in YEARS], axis=1)
    truth = np.select([labels == ARABLE, labels == FOREST], [1, 2], -1)
    assert (truth >= 0).all()
    assert content["classes"].shape == truth.shape
    classes, p = content["classes"], np.moveaxis(content["p"], 2, -1).reshape(-1, 3).astype(np.float64)
    assert (classes.ravel() == p.argmax(1)).all()
    scores = loaded.task.score(run.config, tmp_path)
    assert scores["overall_accuracy"] > 0.95
    assert scores["overall_accuracy"] == pytest.approx(accuracy_score(truth.ravel(), classes.ravel()))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth.ravel(), classes.ravel(), average="macro", labels=[1, 2]))
    assert scores["log_loss"] == pytest.approx(
        log_loss(truth.ravel(), p / p.sum(1, keepdims=True), labels=[0, 1, 2]), rel=1e-3
    )
    assert scores["year_agreement"] == pytest.approx((classes[:, 1:] == classes[:, :-1]).mean())
    change, found = (part[:, 1:] != part[:, :-1] for part in (truth, classes))
    assert change.any()
    assert scores["flicker_ratio"] == pytest.approx(found.sum() / change.sum())
    counts = loaded.task.count(run.config, tmp_path)
    assert counts.unit == "spatial blocks"
    assert set(counts.sums) == {(name, 0) for name in ("classes", "calibration", "series", "agreement")}
    table = counts.sums["agreement", 0].sum(0)
    assert table[0, 2].tolist() == np.bincount(truth[:, 0].ravel(), minlength=3).tolist()
    (shown,) = loaded.task.report(run.config, tmp_path).tables.values()
    assert shown["overall_accuracy"] == scores["overall_accuracy"]
    ((_, panels),) = loaded.task.pictures(run.config, tmp_path, 1)
    assert [panel.title for panel in panels] == ["2018", "2019", "2020", "changes"]


def test_maps_are_smoothed_in_the_study_classes(trained: tuple[Trained, Path], tmp_path: Path) -> None:
    run, trained_in = trained
    changes = {}
    for name, options in {
        "raw": {},
        "still": {"smoothing": "viterbi", "stay": (0.999999,)},
        "val": {"smoothing": "forward-backward", "stay": "val"},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        predicting = run.config.replace(predict=options)
        run.task.predict(load_run(trained_in, predicting), folder)
        classes = np.load(folder / "classes.npz")["classes"]
        assert (classes > 0).all()  # no pixel becomes water, which training does not have
        changes[name] = int((classes[:, 1:] != classes[:, :-1]).sum())
        assert run.task.score(predicting, folder)["near_change_recall"] == pytest.approx(1, abs=0.2) or name == "still"
    assert changes["still"] < changes["raw"]
    assert changes["val"] <= changes["raw"]


def test_years_without_labels_are_mapped_and_not_scored(
    trained: tuple[Trained, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real releases have labels of few years."""
    run, trained_in = trained
    config = run.config.replace(predict={"years": (2019,)})
    run.task.predict(load_run(trained_in, config), tmp_path)
    assert run.task.score(config, tmp_path)["overall_accuracy"] > 0.95
    monkeypatch.setattr("baselines.tasks.series.label_years", lambda *_: [2018, 2020])
    with pytest.raises(NotAvailableError, match="no auto labels of 2019 in its test split"):
        run.task.score(config, tmp_path)
    report = run.task.report(config, tmp_path)
    assert not report.tables
    assert "The test split has no labels of 2019" in report.summary
    whole = SeriesTask(run.task.config, run.about.info)
    assert "The test split has no labels of 2019" in whole.report(config, tmp_path).summary


def test_the_digest_follows_the_classes(settings: Config, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text(SUBSET.replace("[311]", "[31]"))
    other = settings.replace(data={"subset": str(path)})
    assert other.data.digest() != settings.data.digest()
    path.write_text(SUBSET)
    assert other.data.digest() == settings.data.digest()
    content = settings.data.model_dump() | {"level": 3}
    with pytest.raises(LulcbenchError, match="level and subset both choose the classes"):
        Config.parse({"name": "x", "data": content, "model": {"kind": "lstm"}})


def test_a_class_without_labels_in_the_train_split_is_reported_by_name(settings: Config, tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text('title = "None"\n[classes]\nwater = [5]\nwetlands = [4]\n')
    with pytest.raises(LulcbenchError, match="no labelled cell"):
        Experiment.open(settings.replace(data={"subset": str(path)}))


def test_pixel_models_learn_the_study_classes(settings: Config, tmp_path: Path) -> None:
    forest = Config.parse(
        settings.model_dump() | {"model": {"kind": "forest", "trees": 5, "samples": 200}, "train": {}}
    )
    run = train(Experiment.open(forest), tmp_path)
    run.task.predict(run, tmp_path)
    assert run.task.score(forest, tmp_path)["overall_accuracy"] > 0.95


@pytest.mark.slow
def test_a_map_has_the_study_classes(trained: tuple[Trained, Path], series_root: Path, tmp_path: Path) -> None:
    run, _ = trained
    folder = export(run, tmp_path / "model").folder
    result = map_release(folder, series_root, tmp_path / "map", MapOptions((2019,)))
    with xr.open_zarr(result.folder, group="2019/0", consolidated=False, mask_and_scale=False) as opened:
        stored = opened.load()
    data = cast("SeriesData", run.config.data)
    release, mapper = Release.open(series_root), Mapper(run, data.reader())
    row = release.manifest.rows("test").start
    left, bottom, right, top = Tile.from_id(release.tiles("test").ids[0]).bounds
    own = stored.sel(x=slice(left, right), y=slice(top, bottom))
    p = mapper.probabilities("test", Row(row))[YEARS.index(2019)]
    assert (own.classes.to_numpy() == p.argmax(0) + 1).mean() > 0.999
