"""The list of metrics: each is what it says it is, and what cannot be listed is refused."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from benchmarks.label_release import make_release, smooth_codes
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS, RANKING, evaluate, register, shown_in
from lulcbench.evaluation.scores import Scores
from lulcbench.evaluation.scoring import score
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.predictions import Predictions, PredictionWriter

YEARS = (2012, 2018)


@dataclass(frozen=True)
class Case:
    """Scores of change with probabilities, and the pixels that they are of: ``(tile, year, 96, 96)``."""

    scores: Scores
    labels: np.ndarray
    codes: np.ndarray
    probabilities: np.ndarray  # (tile, year, 46, 96, 96), as the file has them


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("metrics")
    rng = np.random.default_rng(1)
    before = smooth_codes(2, seed=1)
    after = np.where(rng.random(before.shape) < 0.2, smooth_codes(2, seed=2), before)
    labels = np.stack([before, after], axis=1)
    labels[rng.random(labels.shape) < 0.05] = 0
    labels[labels == 1121] = 112
    make_release(folder / "release", {year: labels[:, i] for i, year in enumerate(YEARS)}, blocks=["B1", "B2"])
    logits = rng.normal(size=(2, 2, 46, 96, 96)).astype(np.float32)
    liked = legend().encode(np.where(np.isin(labels, legend().codes(4)), labels, 3110), 4)[:, :, None].astype(np.intp)
    np.put_along_axis(logits, liked, np.take_along_axis(logits, liked, 2) + 2, axis=2)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    codes = legend().decode(probabilities.argmax(axis=2).astype(np.uint8), 4)
    with PredictionWriter(folder / "p.zip", folder / "release", "test", YEARS, probabilities=True) as writer:
        for row, tile in enumerate(writer.info.tiles):
            writer.write(tile, codes[row], probabilities[row])
    with Predictions.open(folder / "p.zip", folder / "release") as stored:
        values = np.array([[stored.probabilities(row, year) for year in (0, 1)] for row in (0, 1)])
    return Case(score(folder / "p.zip", folder / "release"), labels, codes, values)


def data(case: Case, family: Family, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction of every evaluated pixel, as scikit-learn wants them for a family."""
    truth, guess = legend().encode(case.labels, level), legend().encode(case.codes, level)
    known = truth != IGNORE_INDEX
    if family is Family.CLASSES:
        return truth[known], guess[known]
    if family is Family.CHANGE:
        both = known.all(axis=1)
        return (truth[:, 0] != truth[:, 1])[both], (guess[:, 0] != guess[:, 1])[both]
    parents = legend().parents(4, level)
    values = case.probabilities.astype(np.float64).transpose(0, 1, 3, 4, 2)[known]
    summed = np.stack([values[:, parents == i].sum(axis=1) for i in range(parents.max() + 1)], axis=1)
    return truth[known], summed / summed.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.sklearn])
def test_a_metric_is_the_one_of_scikit_learn_that_it_names(case: Case, name: str, level: int) -> None:
    metric = METRICS[name]
    truth, guess = data(case, metric.family, level)
    call = ast.parse(str(metric.sklearn), mode="eval").body
    assert isinstance(call, ast.Call)
    assert isinstance(call.func, ast.Name)
    names = {"labels": np.unique(truth), "classes": range(len(legend().codes(level)))}
    options: dict[str, Any] = {
        str(option.arg): names[option.value.id]
        if isinstance(option.value, ast.Name)
        else ast.literal_eval(option.value)
        for option in call.keywords
    }
    assert case.scores.levels[level][name] == pytest.approx(
        getattr(sk, call.func.id)(truth, guess, **options), rel=1e-5
    )


def test_every_metric_is_given_and_lies_in_its_range(case: Case) -> None:
    assert list(case.scores.levels[4].metrics) == list(METRICS)
    for level in case.scores.levels.values():
        for name, estimate in level.metrics.items():
            ends = [estimate.value, *(end for end in (estimate.low, estimate.high) if end is not None)]
            assert all(METRICS[name].low <= end <= METRICS[name].high for end in ends), name


def test_a_name_that_is_not_a_metric_is_an_error(case: Case) -> None:
    with pytest.raises(KeyError, match="mIoU"):
        case.scores.levels[4]["mIoU"]


def test_a_metric_of_no_pixels_is_undefined() -> None:
    shapes = {"classes": (3, 46), "hierarchy": (5,), "calibration": (5, 15), "change": (5,), "transitions": (3, 46, 46),
              "series": (12,)}  # fmt: skip
    for family in Family:
        assert all(np.isnan(value) for value in evaluate(family, np.zeros(shapes[family])).values())


def test_what_a_page_needs_of_a_metric_is_there() -> None:
    assert RANKING in shown_in("board")
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
    for name, metric in METRICS.items():
        assert name == metric.name
        assert metric.label
        assert metric.description.endswith(".")
        assert metric.low < metric.high
        assert len(name) <= 32  # a query string of the board
    worse, better = (METRICS["log_loss"].better(a, b) for a, b in ((1.0, 0.5), (0.5, 1.0)))
    assert (worse, better) == (False, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "not a valid new name"),
        ({"name": "Kappa"}, "not a valid new name"),
        ({"name": "mean-iou"}, "not a valid new name"),
        ({"name": "new", "tables": frozenset({"front page"})}, "no table 'front page'"),
        ({"name": "new", "family": Family.CHANGE}, "only class counts"),
        ({"name": "new", "family": Family.TRANSITIONS, "tables": frozenset()}, "no counts by block"),
    ],
)
def test_a_metric_that_cannot_be_listed_is_refused(changes: dict[str, Any], message: str) -> None:
    before = list(METRICS)
    with pytest.raises(LulcbenchError, match=message):
        register(replace(METRICS["miou"], **changes))
    assert list(METRICS) == before
    assert not math.isnan(METRICS["miou"].high)
