"""The steps, networks and maps of the multi-year study on a small world whose change is known."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.config import Config
from baselines.experiment import Experiment
from baselines.predicting.unit_counts import AGREEMENT
from baselines.run import load_run
from baselines.series.nets import PixelSeries
from baselines.series.pool import SeriesReader
from baselines.studies.command import run as run_study
from baselines.train import train
from baselines.training.history import HISTORY
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS, evaluate
from lulcbench.legend import legend
from lulcbench.predictions import Predictions
from lulcbench.release import Release, Row
from tests.baselines.series import world
from tests.baselines.series.world import config

NETWORKS = ("lstm", "tempcnn", "ltae", "transformer")


def test_cells_of_a_tile_are_the_series_of_its_clear_pixels(series_root: Path) -> None:
    release = Release.open(series_root)
    reader = SeriesReader(release, "landsat", world.YEARS, every=90)
    row = Row(release.manifest.rows("test").start)
    values = reader.tile("test", row)
    assert values.shape == (96 * 96, 3, 4, 3)
    assert reader.channels[:3] == ("d045:red", "d045:nir08", "d045:NDVI")
    labels = release.labels("test", 2019, [row])[0].ravel()
    ndvi = values[:, 1, :, 2]
    assert np.nanmedian(ndvi[labels == world.FOREST], axis=0).min() > 0.75
    arable = np.nanmedian(ndvi[labels == world.ARABLE], axis=0)
    assert arable[1] > 0.6
    assert arable[3] < 0.2


def test_samples_of_train_and_val_are_of_different_blocks(series_root: Path, series_cache: Path) -> None:
    experiment = Experiment.open(config(series_root, series_cache))
    sets = experiment.data.datasets
    assert not set(sets["train"].blocks) & set(sets["val"].blocks)
    assert len(sets["train"]) == 3 * 200
    assert len(sets["val"]) == 3 * 60
    sample = sets["train"][0]
    assert sample["image"].shape == (4 * 3, 1, 1)
    assert sample["mask"].shape == (4, 1, 1)
    single = Experiment.open(config(series_root, series_cache, data={"train_years": (2019,)}))
    assert len(single.data.datasets["train"]) == 200
    assert {path.name.partition("-")[0] for path in series_cache.iterdir()} >= {"pool", "samples", "pseudo"}


@pytest.mark.slow
@pytest.mark.parametrize("by_year", [False, True])
def test_maps_of_every_year_find_the_known_change(
    series_root: Path, series_cache: Path, tmp_path: Path, by_year: bool
) -> None:
    settings = config(series_root, series_cache, model={"by_year": by_year})
    trained = train(Experiment.open(settings), tmp_path)
    folder = tmp_path / "series"
    loaded = load_run(folder)
    loaded.task.predict(loaded, folder)
    counts = loaded.task.count(settings, folder)
    values = {}
    for family in {metric.family for metric in METRICS.values() if metric.family.by_block}:
        if (family.value, 1) in counts.sums:
            values |= {k: float(v) for k, v in evaluate(family, counts.sums[family.value, 1].sum(0)).items()}
    assert values["overall_accuracy"] > 0.95
    assert values["near_change_recall"] > 0.9
    assert values["near_change_precision"] > 0.8
    assert 0.8 < values["flicker_ratio"] < 1.3
    assert values["changed_accuracy"] > 0.9
    table = counts.sums[AGREEMENT, 1].sum(0)
    forest = (
        legend().names(1).index("Forest and semi-natural areas")
        if "Forest and semi-natural areas" in legend().names(1)
        else 2
    )
    labels = table[:, 3, forest] / table[:, 2, forest]
    assert labels[0] == 1
    assert labels[1] < 0.85  # a fifth of the forest is felled in 2020
    assert table[1, 1, forest] / table[1, 0, forest] == pytest.approx(labels[1], abs=0.05)
    with Predictions.open(folder / "predictions.zip", series_root) as predictions:
        assert predictions.info.task == "series"
        assert predictions.info.years == list(world.YEARS)
    assert len(next(loaded.task.pictures(settings, folder, 1))[1]) == 4
    assert "Level 1" in next(iter(loaded.task.report(settings, folder).tables))
    if by_year:
        with pytest.raises(LulcbenchError, match="no network for 2017"):
            loaded.predictor.for_year(2017)
        with pytest.raises(LulcbenchError, match="one network per year"):
            trained.predictor(torch.zeros(1, 12, 1, 1))
    else:
        assert loaded.predictor.for_year(2017) is loaded.predictor


def test_a_year_that_no_step_has_seen_is_mapped(series_root: Path, series_cache: Path, tmp_path: Path) -> None:
    data, predict = {"years": (2018, 2019)}, {"years": (2020,)}
    settings = config(series_root, series_cache, data=data, predict=predict)
    before = set(series_cache.iterdir())
    train(Experiment.open(settings), tmp_path)
    loaded = load_run(tmp_path / "series")
    loaded.task.predict(loaded, tmp_path)
    with Predictions.open(tmp_path / "predictions.zip", series_root) as predictions:
        assert predictions.info.years == [2020]
    counts = loaded.task.count(settings, tmp_path)
    found = evaluate(Family.CLASSES, counts.sums[Family.CLASSES.value, 1].sum(0))
    assert float(found["overall_accuracy"]) > 0.95
    assert loaded.task.score(settings, tmp_path)["overall_accuracy"] > 0.95
    made = {path.name.partition("-")[0] for path in set(series_cache.iterdir()) - before}
    assert "pool" in made  # of two years
    with pytest.raises(LulcbenchError, match=r"predict\.years is for maps of several years"):
        Config.parse(
            {
                "name": "other",
                "data": {"kind": "luisa-seg", "root": str(series_root)},
                "model": {"kind": "majority"},
                "predict": {"years": [2020]},
            }
        )


@pytest.mark.slow
def test_two_processes_train_a_network_as_one_does(series_root: Path, tmp_path: Path) -> None:
    """The engine over processes, which both make the steps, in a cache that is empty at first.

    No dropout, which would differ between them, and no batch norm, since halves of a batch are normalised apart.
    """
    settings = {"epochs": 2, "clip": 1.0, "ema": 0.5, "patience": 3}
    one = config(series_root, tmp_path / "first").replace(model={"dropout": 0.0}, train=settings)
    train(Experiment.open(one), tmp_path / "one")
    (tmp_path / "two.toml").write_text(
        f"""
name = "series"
threads = 1
[data]
kind = "series"
root = "{series_root.as_posix()}"
cache = "{(tmp_path / "second").as_posix()}"
sensor = "landsat"
every = 90
level = 1
most = 60
samples = {{ clusters = 10, dominance = 1.0 }}
pseudo = {{ train = 200, val = 60, trees = 10 }}
[model]
kind = "lstm"
hidden = 16
dropout = 0.0
[train]
epochs = 2
batch_size = 16
lr = 0.01
clip = 1.0
ema = 0.5
patience = 3
devices = 2
[augment]
dihedral = false
"""
    )
    command = [sys.executable, "-m", "baselines", "train", str(tmp_path / "two.toml"), "--out", str(tmp_path / "two")]
    made = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert made.returncode == 0, made.stderr[-3000:]
    tables = [csv.DictReader((tmp_path / n / "series" / HISTORY).read_text().splitlines()) for n in ("one", "two")]
    rows = list(zip(*tables, strict=True))
    assert len(rows) == 2
    for first, second in rows:
        for key in ("train_loss", "val_loss", "val_accuracy"):
            assert float(first[key]) == pytest.approx(float(second[key]), rel=2e-3), key


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_mask_missing_steps_and_take_any_number(kind: str) -> None:
    from baselines.data import Input
    from baselines.models import MODELS

    torch.manual_seed(0)
    days = [15, 75, 135, 195, 255]
    channels = tuple(f"d{day:03}:{band}" for day in days for band in ("red", "nir"))
    inputs = {"landsat": Input(channels=channels, mean=(0.0,) * 10, std=(1.0,) * 10, resolution=30)}
    net = MODELS.parse({"kind": kind}).build(inputs, 3).eval()
    image = torch.randn(2, 10, 4, 3)
    with torch.no_grad():
        out = net(image)
        assert out.shape == (2, 3, 4, 3)
        torch.testing.assert_close(net(image[:, :, 1:2, 2:])[..., 0, 0], out[..., 1, 2])  # pixels are independent
        gap = image.clone()
        gap[:, 4:6] = 0
        assert not torch.allclose(net(gap), out)
        assert net(torch.zeros_like(image)).isfinite().all()
        fewer = PixelSeries(net.net, days[:3], 2).eval()
        assert fewer(image[:, :6]).isfinite().all()
        if kind in ("ltae", "transformer"):  # masked steps have no influence at all
            torch.testing.assert_close(
                PixelSeries(net.net, [*days[:2], *days[3:]], 2)(gap[:, [0, 1, 2, 3, 6, 7, 8, 9]]), net(gap)
            )


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_are_the_same_as_onnx_graphs(kind: str) -> None:
    import onnxruntime

    from baselines.data import Input
    from baselines.exporting.graphs import network_graph
    from baselines.models import MODELS

    torch.manual_seed(0)
    channels = tuple(f"d{day:03}:{band}" for day in (45, 135, 225) for band in ("red", "nir"))
    inputs = {"landsat": Input(channels=channels, mean=(0.0,) * 6, std=(1.0,) * 6, resolution=30)}
    net = MODELS.parse({"kind": kind}).build(inputs, 3).eval()
    graph = network_graph(net, lambda outputs: outputs.softmax(1), inputs)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for shape in ((1, 6, 5, 7), (3, 6, 2, 2)):
        image = torch.randn(shape)
        image[:, 2:4, 0] = 0
        with torch.no_grad():
            expected = net(image).softmax(1).numpy()
        np.testing.assert_allclose(session.run(None, {"landsat": image.numpy()})[0], expected, atol=1e-5)


@pytest.mark.slow
def test_per_pixel_models_take_series(series_root: Path, series_cache: Path, tmp_path: Path) -> None:
    settings = config(series_root, series_cache).model_dump() | {
        "name": "trees",
        "model": {"kind": "stack", "use": "boosting", "samples": 300, "rounds": 5},
    }
    trained = train(Experiment.open(Config.parse(settings)), tmp_path)
    trained.task.predict(trained, tmp_path / "trees")
    assert trained.task.score(trained.config, tmp_path / "trees")["overall_accuracy"] > 0.95


@pytest.mark.slow
def test_the_study_is_one_command_and_resumes(
    series_root: Path, series_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[3] / "baselines" / "studies" / "multi-year.toml").read_text()
    base = config(series_root, series_cache)
    small = [
        f"data={{kind='series', root={json.dumps(str(series_root))}, sensor='landsat', every=90, level=1, most=60, "
        f"cache={json.dumps(str(series_cache))}, samples={{clusters=10, dominance=1.0}}, "
        "pseudo={train=200, val=60, trees=10}}",
        "train.epochs=2",
        "train.batch_size=32",
        "train.lr=0.01",
        "model.hidden=16",
    ]
    start, end = text.index("set = ["), text.index("metrics = [")
    text = text[:start] + f"set = {json.dumps(small)}\n" + text[end:]
    text = re.sub(r"^seeds = .*$", "seeds = [0]", text, flags=re.MULTILINE)
    (tmp_path / "small.toml").write_text(text.replace("level = 2", "level = 1"))
    page, complete = run_study(str(tmp_path / "small.toml"), tmp_path / "out")
    assert complete
    results = json.loads((page.parent / "study.json").read_text())
    assert set(results["scores"]) == {
        f"lstm.{run}/{kind}" for run in ("multi-year", "single-year") for kind in ("raw", "smooth")
    }
    row = results["scores"]["lstm.multi-year/raw"]
    assert row["levels"]["1"]["near_change_recall"]["mean"] > 0.8
    assert 0.3 < row["training"]["samples_kept"]["mean"] <= 1
    assert results["problems"] == []
    html = page.read_text()
    for title in ("Agreement between years by class", "Maps and their changes", "Learning curves"):
        assert title in html
    outcomes = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/outcome.json")}
    assert len(outcomes) == 2
    run_study(str(tmp_path / "small.toml"), tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in outcomes} == outcomes
    assert base.data.spatial is False


def test_bad_settings_are_refused(series_root: Path, series_cache: Path) -> None:
    with pytest.raises(LulcbenchError, match=r"single pixels: set augment\.dihedral"):
        config(series_root, series_cache, augment={"dihedral": True})
    for years in ((2020, 2018), (2018, 2018)):
        with pytest.raises(LulcbenchError, match=r"predict\.years must be in ascending order"):
            config(series_root, series_cache, predict={"years": years})
    smoothed = {"split": "val", "smoothing": "viterbi"}
    with pytest.raises(LulcbenchError, match=r'predict\.stay = "val" would choose the smoothing by the labels that'):
        config(series_root, series_cache, predict=smoothed)
    assert config(series_root, series_cache, predict=smoothed | {"stay": (0.9,)}).predict.split == "val"
    assert config(series_root, series_cache, predict=smoothed | {"root": "elsewhere"}).predict.split == "val"
    with pytest.raises(LulcbenchError, match="train_years names 2017"):
        config(series_root, series_cache, data={"train_years": (2017,)})
    with pytest.raises(LulcbenchError, match="no dated imagery of 2017"):
        Experiment.open(config(series_root, series_cache, data={"years": (2017, 2018)}))
    with pytest.raises(LulcbenchError, match=r"labels are of 2020, newer than the imagery \(2018, 2019\)"):
        Experiment.open(config(series_root, series_cache, data={"years": (2018, 2019), "label_year": 2020}))
    with pytest.raises(LulcbenchError, match="no band 'blue'"):
        Experiment.open(config(series_root, series_cache, data={"bands": ("blue",)}))
