"""Agreement of maps of several years, and the change that they show, against counting pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lulcbench import PredictionWriter, Release
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.class_maps import open_map
from lulcbench.evaluation.counts import count
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import evaluate
from lulcbench.evaluation.scoring import score
from lulcbench.evaluation.series import agreement_by_class, count_changes, series_sums, trend
from lulcbench.evaluation.trends import class_trends
from lulcbench.legend import legend
from lulcbench.predictions import Predictions

YEARS = (2015, 2016, 2018, 2019)
MAPS = arrays.arrays(np.int64, (4, 9), elements=st.integers(-1, 2))
GUESSES = arrays.arrays(np.int64, (4, 9), elements=st.integers(0, 2))


def counted(labels: np.ndarray, predicted: np.ndarray) -> dict[str, int]:
    """The definition in loops."""
    out = dict.fromkeys(
        ("pixels", "pairs", "agreeing", "label_changes", "predicted_changes", "found", "label_changes_near",
         "predicted_changes_near", "unchanged", "unchanged_correct", "changed", "changed_correct"), 0)  # fmt: skip
    for label, guess in zip(labels.T.tolist(), predicted.T.tolist(), strict=True):
        if min(label) < 0:
            continue
        out["pixels"] += 1
        stable = len(set(label)) == 1
        kind = "unchanged" if stable else "changed"
        out[kind] += len(YEARS)
        out[f"{kind}_correct"] += sum(a == b for a, b in zip(label, guess, strict=True))
        true = {YEARS[i] for i in range(3) if label[i] != label[i + 1]}
        mapped = {YEARS[i] for i in range(3) if guess[i] != guess[i + 1]}
        out["pairs"] += 3
        out["agreeing"] += 3 - len(mapped)
        out["label_changes"] += len(true)
        out["predicted_changes"] += len(mapped)
        out["found"] += len(true & mapped)
        out["label_changes_near"] += sum(any(abs(year - other) <= 1 for other in mapped) for year in true)
        out["predicted_changes_near"] += sum(any(abs(year - other) <= 1 for other in true) for year in mapped)
    return out


@given(MAPS, GUESSES)
def test_sums_are_those_of_counting_pixel_by_pixel(labels: np.ndarray, predicted: np.ndarray) -> None:
    sums = series_sums(labels, predicted, YEARS)
    assert {name: int(value) for name, value in sums._asdict().items()} == counted(labels, predicted)


def test_agreement_alone_rewards_maps_that_never_change() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (4, 1000))
    still = np.repeat(labels[:1], 4, axis=0)
    values = evaluate(Family.SERIES, np.array(series_sums(labels, still, YEARS)))
    assert values["year_agreement"] == 1
    assert values["near_change_recall"] == values["near_change_f1"] == values["flicker_ratio"] == 0
    right = evaluate(Family.SERIES, np.array(series_sums(labels, labels, YEARS)))
    assert right["near_change_f1"] == right["flicker_ratio"] == right["changed_accuracy"] == 1
    assert right["year_agreement"] < 0.5


def test_counts_by_stratum_are_those_of_the_labels_of_the_release(release_root: Path, tmp_path: Path) -> None:
    release = Release.open(release_root)
    rng = np.random.default_rng(1)
    codes = np.array(legend().codes(2))
    guesses = {}
    with PredictionWriter(tmp_path / "two.zip", release, "test", (2012, 2018), level=2) as writer:
        for tile in writer.info.tiles:
            guesses[tile] = rng.integers(0, len(codes), (2, 96, 96))
            writer.write(tile, codes[guesses[tile]])
    with Predictions.open(tmp_path / "two.zip", release) as predictions:
        counts = count(predictions)
    rows = release.manifest.rows("test")
    labels = np.stack([release.labels("test", year, rows) for year in (2012, 2018)], axis=1)
    for level in (1, 2):
        indices = legend().encode(labels, level).astype(np.int64)
        indices[indices == 255] = -1
        parents = legend().parents(2, level)
        mapped = parents[np.stack([guesses[tile] for tile in counts.tiles.ids])]
        expected = sum(np.array(series_sums(a, b, (2012, 2018))) for a, b in zip(indices, mapped, strict=True))
        np.testing.assert_array_equal(counts.series[level].sum(axis=0), expected)
    with pytest.raises(LulcbenchError, match=r"has the years \[2012, 2018\]\."):
        open_map(tmp_path / "two.zip", release=release)
    maps = [open_map(tmp_path / "two.zip", release=release, year=year) for year in (2012, 2018)]
    found = class_trends(maps, 1)
    tops = legend().parents(2, 1)[np.stack([guesses[tile] for tile in counts.tiles.ids], axis=1)]
    areas = {row.code: row.areas for row in found.classes}
    assert areas == {code: tuple((tops == i).sum(axis=(1, 2, 3)) * 2500.0) for i, code in enumerate(legend().codes(1))}
    assert found.changes == tuple(np.bincount((tops[0] != tops[1]).ravel()))
    for map_ in maps:
        map_.__exit__(None, None, None)
    scores = score(tmp_path / "two.zip", release)
    estimate = scores.levels[1].metrics["year_agreement"]
    assert estimate.low is not None
    assert estimate.low <= estimate.value <= (estimate.high or 0)


def test_tables_by_class_and_maps_of_changes() -> None:
    maps = np.array([[0, 0, 1, -1], [0, 1, 1, 0], [1, 1, 1, 0]])
    table = agreement_by_class(maps, 2)
    assert table.tolist() == [[[2, 1], [1, 1]], [[2, 2], [1, 2]]]
    assert count_changes(maps).tolist() == [1, 1, 0, 1]


def test_trends_are_those_of_scipy() -> None:
    from scipy.stats import linregress

    years, areas = [2000, 2005, 2006, 2012, 2018], [4.0, 6.0, 5.5, 9.0, 8.0]
    found, expected = trend(years, areas), linregress(years, areas)
    assert found.slope == pytest.approx(expected.slope)
    assert found.error == pytest.approx(expected.stderr)
    assert found.r2 == pytest.approx(expected.rvalue**2)
    with pytest.raises(LulcbenchError, match="two or more years"):
        trend([2000, 2000], [1.0, 2.0])


def test_maps_of_one_year_have_no_change() -> None:
    with pytest.raises(LulcbenchError, match="not of the same 1 years"):
        series_sums(np.zeros((1, 3), np.int64), np.zeros((1, 3), np.int64), (2018,))
