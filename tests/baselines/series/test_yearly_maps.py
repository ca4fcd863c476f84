"""Maps of every year of the small world: how they are smoothed, and what years and networks without evidence give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.experiment import Experiment
from baselines.run import load_run
from baselines.series.smoothing import Smoothing
from baselines.tasks.series import SMOOTHING, Mapper, SeriesTask
from baselines.train import train
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import evaluate
from lulcbench.release import Row
from tests.baselines.series.world import config


def test_maps_are_smoothed_by_what_suits_other_splits(series_root: Path, series_cache: Path, tmp_path: Path) -> None:
    settings = config(series_root, series_cache)
    train(Experiment.open(settings), tmp_path)
    ratios = {}
    for smoothing, stay in (
        (None, "val"),
        ("forward-backward", (0.9,) * 4),
        ("viterbi", "val"),
        ("viterbi", (0.9,) * 4),
    ):
        predicting = settings.replace(predict={"smoothing": smoothing, "stay": stay})
        loaded = load_run(tmp_path / "series", predicting)
        folder = tmp_path / f"{smoothing}-{stay}"
        folder.mkdir()
        loaded.task.predict(loaded, folder)
        counts = loaded.task.count(predicting, folder)
        values = evaluate(Family.SERIES, counts.sums["series", 1].sum(0))
        ratios[smoothing, stay] = float(values["flicker_ratio"])
        assert float(values["near_change_recall"]) > 0.9
        assert (folder / SMOOTHING).exists() is (smoothing is not None)
    assert max(ratios.values()) == ratios[None, "val"]
    chosen = json.loads((tmp_path / "viterbi-val" / SMOOTHING).read_text())
    assert chosen["chosen"] == "val"
    assert len(chosen["stay"]) == 1

    old_map = load_run(tmp_path / "series", settings.replace(predict={"smoothing": "viterbi", "stay": "labels"}))
    with pytest.raises(LulcbenchError, match="Up to 2018, the train split has labels of 2018: two years are needed"):
        old_map.task.predict(old_map, tmp_path)


def test_smoothing_is_chosen_by_the_gap_of_the_labels_and_used_with_that_of_the_maps(
    series_root: Path, series_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(series_root, series_cache)
    train(Experiment.open(settings), tmp_path)
    gaps = []

    def watch(trained: object, mapper: Mapper, smoothing: Smoothing, source: str) -> Smoothing:
        gaps.append((mapper.reader.years, smoothing.gap))
        return smoothing.with_stay([0.9])

    monkeypatch.setattr(SeriesTask, "_chosen", staticmethod(watch))
    predicting = settings.replace(predict={"smoothing": "viterbi", "stay": "val", "years": (2018, 2020)})
    loaded = load_run(tmp_path / "series", predicting)
    used = loaded.task._smoothing(loaded)
    assert gaps == [((2018, 2019, 2020), 1)]
    assert (used.gap, used.stay) == (2, (0.9,))


def test_a_year_without_a_clear_date_is_no_evidence(
    series_root: Path, series_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(series_root, series_cache)
    trained = train(Experiment.open(settings), tmp_path)
    mapper = Mapper(trained, settings.data.reader())
    row = Row(mapper.reader.release.manifest.rows("test").start)
    whole, read = mapper.probabilities("test", row), mapper.reader.tile

    def clouded(*arguments: Any) -> np.ndarray:
        values = read(*arguments).copy()
        values[: 10 * 96, 1] = np.nan
        return values

    monkeypatch.setattr(mapper.reader, "tile", clouded)
    p = mapper.probabilities("test", row)
    frequencies = np.array(trained.about.info.frequencies, np.float32)
    np.testing.assert_allclose(p[1][:, :10], np.broadcast_to(frequencies[:, None, None], (5, 10, 96)), rtol=1e-5)
    np.testing.assert_array_equal(p[1][:, 10:], whole[1][:, 10:])
    np.testing.assert_array_equal(p[[0, 2]], whole[[0, 2]])


def test_networks_of_single_years_are_trained_with_the_statistics_that_they_predict_with(
    series_root: Path, series_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(series_root, series_cache, model={"by_year": True}, train={"epochs": 1})
    experiment, opened = Experiment.open(settings), []
    original = Experiment.open.__func__

    def watch(cls: type[Experiment], *arguments: Any, **options: Any) -> Experiment:
        opened.append(original(cls, *arguments, **options))
        return opened[-1]

    monkeypatch.setattr(Experiment, "open", classmethod(watch))
    train(experiment, tmp_path)
    assert len(opened) == 3
    assert all(part.info.inputs == experiment.info.inputs for part in opened)


def test_networks_of_single_years_take_no_years_of_training(
    series_root: Path, series_cache: Path, tmp_path: Path
) -> None:
    """Networks of years that were to be left out would have been trained and used."""
    settings = config(series_root, series_cache, model={"by_year": True}, data={"train_years": (2018, 2019)})
    with pytest.raises(LulcbenchError, match=r"data\.train_years would have no effect"):
        train(Experiment.open(settings), tmp_path)
