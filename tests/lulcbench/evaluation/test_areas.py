"""Accuracy and area from samples: published examples, independent computations, and surveys with a known truth."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import special, stats

from benchmarks import surveys
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.areas import Survey
from lulcbench.evaluation.assisted_areas import prediction_powered, ratio_areas
from lulcbench.evaluation.intervals import t_quantiles

# Olofsson et al. 2014, tables 8 and 9: deforestation, forest gain, stable forest, stable non-forest.
OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
OLOFSSON_PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
# Stehman 2014, table 2: ten pixels in each of four strata of 40,000, 30,000, 20,000 and 10,000 pixels.
STEHMAN_MAP = "AAAAAAABBBABBBBBBBBBBBCCCCCCBBDDDDDDDDDD"
STEHMAN_REFERENCE = "AAAAACBABCABBBBBAABBCCCCCDDBBADDDDDDDCCB"
STEHMAN_SIZES = [40_000, 30_000, 20_000, 10_000]


def points_of(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reference and map classes of the points that a matrix counts."""
    mapped, reference = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    return reference, mapped


def stehman() -> Survey:
    reference, mapped = (["ABCD".index(name) for name in names] for names in (STEHMAN_REFERENCE, STEHMAN_MAP))
    return Survey.stratified(reference, mapped, 4, np.repeat(np.arange(4), 10), STEHMAN_SIZES)


def test_the_example_of_olofsson() -> None:
    reference, mapped = points_of(OLOFSSON)
    hectares = OLOFSSON_PIXELS * 0.09
    accuracy = Survey.stratified(reference, mapped, 4, mapped, hectares).accuracy()
    area = accuracy.area * hectares.sum()
    assert area.value.round().tolist() == [21_158, 11_686, 285_770, 581_386]
    assert area.margin.round().tolist() == [6_158, 3_756, 15_510, 16_282]
    assert accuracy.user.value.round(3).tolist() == [0.88, 0.733, 0.927, 0.963]
    # The paper prints .935 for stable forest; its own matrix gives 0.93451.
    assert accuracy.producer.value == pytest.approx([0.749, 0.847, 0.935, 0.962], abs=6e-4)
    assert round(float(accuracy.overall.value), 4) == 0.9465
    assert round(float(accuracy.overall.margin), 4) == 0.0185
    assert accuracy.matrix.sum() == pytest.approx(1)
    assert accuracy.points.tolist() == OLOFSSON.sum(axis=0).tolist()


def test_the_example_of_stehman() -> None:
    """The figures of pages 4932 to 4936.

    The standard error of the producer's accuracy of B is 0.114 in print, where the variance within stratum D is 0; from
    the published sample it is 0.1 (one pixel of D is B), which gives 0.117, as other implementations also find.
    """
    accuracy = stehman().accuracy()
    assert accuracy.area.value == pytest.approx([0.35, 0.34, 0.2, 0.11])
    assert accuracy.area.se[[0, 2]].round(3).tolist() == [0.082, 0.064]
    assert (round(float(accuracy.overall.value), 2), round(float(accuracy.overall.se), 3)) == (0.63, 0.085)
    assert (round(accuracy.user.value[1], 3), round(accuracy.user.se[1], 3)) == (0.574, 0.125)
    assert (round(accuracy.producer.value[1], 3), round(accuracy.producer.se[1], 3)) == (0.794, 0.117)
    assert accuracy.matrix[1, 2] == pytest.approx(0.08)


def test_standard_errors_are_those_of_resampled_surveys() -> None:
    """Of all figures, in samples of two thousand points per stratum, where the linearisation is exact."""
    survey, times = stehman(), 200
    rng = np.random.default_rng(0)
    figures = []
    for _ in range(1500):
        drawn = rng.integers(0, 10, (4, 10 * times)) + 10 * np.arange(4)[:, None]
        cells = survey.mapped[drawn.ravel()] * 4 + survey.reference[drawn.ravel()]
        matrix = np.bincount(cells, weights=survey.weight[drawn.ravel()], minlength=16).reshape(4, 4) / times
        right, mapped, reference = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        figures.append([right / mapped, right / reference, 2 * right / (mapped + reference), reference / 1e5])
    errors = np.std(figures, axis=0) * np.sqrt(times * 10 / 9)
    accuracy = survey.accuracy()
    found = [accuracy.user.se, accuracy.producer.se, accuracy.f1.se, accuracy.area.se]
    assert np.array(found) == pytest.approx(errors, rel=0.06)


def test_a_simple_random_sample_has_binomial_errors() -> None:
    reference, mapped = points_of(OLOFSSON)
    accuracy = Survey.simple_random(reference, mapped, 4).accuracy()
    p, n = OLOFSSON.sum(axis=0) / OLOFSSON.sum(), OLOFSSON.sum()
    assert accuracy.area.value == pytest.approx(p)
    assert accuracy.area.se == pytest.approx(np.sqrt(p * (1 - p) / (n - 1)))
    assert accuracy.effective == pytest.approx(OLOFSSON.sum(axis=0))


def test_post_stratification_by_the_map() -> None:
    """The estimates of stratification, with the variance of Cochran 1977, eq. 5A.42."""
    reference, mapped = points_of(OLOFSSON)
    n, sizes = OLOFSSON.sum(), OLOFSSON.sum(axis=1)
    shares = OLOFSSON_PIXELS / OLOFSSON_PIXELS.sum()
    found = Survey.simple_random(reference, mapped, 4).post_stratified(OLOFSSON_PIXELS).accuracy().area
    assert found.value == pytest.approx(shares @ (OLOFSSON / sizes[:, None]))
    # Conditional on the numbers of points in the strata (Holt & Smith 1979), to first order in 1 / n.
    within = (OLOFSSON / sizes[:, None]) * (1 - OLOFSSON / sizes[:, None])
    assert found.se == pytest.approx(np.sqrt((shares**2 / sizes) @ within), rel=0.02)
    assert n == 640


def test_pixels_of_different_area_count_by_area() -> None:
    """Of two strata with equal totals, in one of which the pixels of one class are three times as large."""
    survey = Survey.stratified([0, 1, 0, 1], [0, 0, 1, 1], 2, [0, 0, 1, 1], [10.0, 10.0], [3.0, 1.0, 1.0, 1.0])
    assert survey.accuracy().area.value == pytest.approx([(7.5 + 5) / 20, (2.5 + 5) / 20])
    assert survey.weight.sum() == pytest.approx(20)


def test_clusters_are_the_units_of_the_variance() -> None:
    """Clusters of equal points count once; the standard error is that of their means."""
    rng = np.random.default_rng(1)
    right = rng.random(40) < 0.7
    cluster = np.repeat(np.arange(40), 5)
    survey = Survey.weighted(np.zeros(200, int), np.where(right, 0, 1)[cluster], 2, np.ones(200), cluster=cluster)
    assert survey.accuracy().overall.se == pytest.approx(stats.sem(right))
    # The bootstrap of Rao & Wu 1988, computed here, has the same standard error for ratios, too.
    mapped = rng.integers(0, 2, 200)
    reference = np.where(rng.random(200) < 0.8, mapped, 1 - mapped)
    accuracy = Survey.weighted(reference, mapped, 2, np.ones(200), cluster=cluster).accuracy()
    times = rng.multinomial(39, np.full(40, 1 / 40), size=4000) * 40 / 39
    hits = np.bincount(cluster, weights=(reference == 1) & (mapped == 1))
    own = np.bincount(cluster, weights=reference == 1)
    assert accuracy.producer.se[1] == pytest.approx(np.std((times @ hits) / (times @ own)), rel=0.1)


def test_two_phases_add_the_variance_of_the_sizes_of_strata() -> None:
    reference, mapped = points_of(OLOFSSON)
    sizes = OLOFSSON_PIXELS / OLOFSSON_PIXELS.sum()
    weight = (sizes / OLOFSSON.sum(axis=1))[mapped]
    known = Survey.weighted(reference, mapped, 4, weight, mapped).accuracy().area
    estimated = Survey.weighted(reference, mapped, 4, weight, mapped, first_phase=5000).accuracy().area
    by_stratum = OLOFSSON / OLOFSSON.sum(axis=1)[:, None]
    between = sizes @ (by_stratum - known.value) ** 2 / 5000
    assert estimated.se**2 == pytest.approx(known.se**2 + between)


def test_perfect_agreement_still_has_intervals() -> None:
    accuracy = Survey.simple_random([0] * 30 + [1] * 30, [0] * 30 + [1] * 30, 2).accuracy()
    # The logit of 30.5 / 31 with half a point of each kind, computed here.
    p = 30.5 / 31
    t = stats.t.ppf(0.975, 59)
    sampled = 60 / 59 * (30 * (1 - p) ** 2 - 60 * (0.5 * (1 - p)) ** 2)
    sd = np.sqrt(sampled + 0.5 * ((1 - p) ** 2 + p**2)) / 31
    assert accuracy.user.low == pytest.approx([special.expit(special.logit(p) - t * sd / (p * (1 - p)))] * 2)
    assert accuracy.user.low[0] < stats.binomtest(30, 30).proportion_ci(method="exact").low < accuracy.user.value[0]
    assert accuracy.user.high.tolist() == [1, 1]
    absent = Survey.simple_random([0, 0, 0], [0, 0, 0], 2).accuracy()
    assert np.isnan([absent.user.value[1], absent.producer.value[1], absent.user.low[1]]).all()


def test_half_of_the_points_right_is_not_a_special_case() -> None:
    survey = Survey.simple_random([0] * 15 + [1] * 15 + [1] * 30, [0] * 30 + [1] * 30, 2)
    assert survey.variance(np.repeat([1.0, -1.0], 30)[:, None])[1] == pytest.approx(59)
    user = survey.accuracy().user
    exact = stats.binomtest(15, 30).proportion_ci(method="exact")
    assert (user.low[0], user.high[0]) == pytest.approx((exact.low, exact.high), abs=0.03)


def test_no_interval_comes_from_a_single_point_or_cluster() -> None:
    accuracy = Survey.simple_random([0, 0, 0, 1], [0, 0, 1, 1], 2).accuracy()
    assert accuracy.producer.value[1] == 1
    assert np.isnan([accuracy.producer.low[1], accuracy.producer.high[1]]).all()
    assert np.isfinite([accuracy.user.low[1], accuracy.user.high[1], accuracy.area.low[1]]).all()
    clustered = Survey.weighted([0, 0, 1, 1], [0, 0, 1, 1], 2, np.ones(4), cluster=[0, 0, 1, 1]).accuracy()
    assert np.isnan(clustered.user.low).all()


def test_ratio_estimates_scale_the_area_of_the_map() -> None:
    reference, mapped = points_of(np.array([[40, 10], [0, 50]]))
    areas = ratio_areas(Survey.simple_random(reference, mapped, 2), [600.0, 400.0])
    assert areas.value == pytest.approx([600 * 40 / 50, 400 * 60 / 50])
    assert (areas.low < areas.value).all()


def test_predictions_that_are_the_truth_leave_no_variance() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 10_000)
    at = rng.integers(0, 10_000, 300)
    one_hot = np.eye(3)[truth]
    survey = Survey.simple_random(truth[at], truth[at], 3)
    found = prediction_powered(survey, one_hot[at], one_hot.mean(axis=0))
    assert found.area.value == pytest.approx(one_hot.mean(axis=0))
    assert found.area.se == pytest.approx(np.zeros(3), abs=1e-12)
    noise = prediction_powered(survey, rng.random((300, 3)), [0.5] * 3)
    assert noise.tuning == pytest.approx(np.zeros(3), abs=0.2)
    assert noise.gain == pytest.approx(np.ones(3), abs=0.05)


@pytest.mark.parametrize("degrees", [2, 3, 5, 12, 30, 31, 100, 1e6])
def test_quantiles_agree_with_scipy(degrees: float) -> None:
    assert t_quantiles(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-5)


@cache
def land() -> surveys.Country:
    return surveys.country(bounds=(4_344_000, 3_129_600, 4_363_200, 3_139_200))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "lowest"),
    [
        ("simple random", 0.88),
        ("post-stratified", 0.88),
        ("clusters", 0.88),
        ("stratified by the map", 0.88),
    ],
)
def test_intervals_of_simulated_surveys_contain_the_truth(design: str, lowest: float) -> None:
    """In 100 surveys of 1,000 points; ``benchmarks/surveys.py`` has the figures of a thousand surveys."""
    shares = surveys.coverage(land(), surveys.designs(land(), 1000)[design], 100)
    every = np.concatenate(list(shares.values()))
    assert np.isfinite(every).sum() >= 9
    assert np.nanmin(every) > lowest
    assert 0.92 < np.nanmedian(every) < 0.985


def test_predictions_are_worth_points() -> None:
    gain = surveys.gain(land(), 1000)
    assert np.median(gain) > 1.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": [1.0, -1.0, 1.0, 1.0]}, "not a positive number"),
        ({"weight": [1.0, np.nan, 1.0, 1.0]}, "not a positive number"),
        ({"stratum": [0, 0, 0, 1]}, r"stratum 1 \(numbered from 0\) has fewer than two points"),
        ({"cluster": [5, 5, 5, 5]}, "the sample has fewer than two clusters"),
        ({"cluster": [1, 1, 2, 2], "stratum": [0, 1, 1, 1]}, "points in several strata"),
    ],
)
def test_samples_without_a_variance_are_refused(arguments: dict[str, list[float]], message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        Survey.weighted([0, 1, 0, 1], [0, 1, 1, 1], 2, **{"weight": np.ones(4)} | arguments)


def test_strata_and_classes_without_points_are_refused() -> None:
    with pytest.raises(LulcbenchError, match=r"Strata without points: \[1\]"):
        Survey.stratified([0, 0], [0, 0], 2, [0, 0], [5.0, 5.0])
    with pytest.raises(LulcbenchError, match="has points but no area"):
        Survey.stratified([0, 0], [0, 0], 2, [1, 1], [5.0])
    survey = Survey.simple_random([0, 0, 1], [0, 0, 0], 2)
    with pytest.raises(LulcbenchError, match=r"Map classes without points: \[1\]"):
        survey.post_stratified([5.0, 5.0])
    with pytest.raises(LulcbenchError, match="a map class without area"):
        survey.post_stratified([0.0, 0.0])
    with pytest.raises(LulcbenchError, match="fewer than two points"):
        Survey.simple_random([0], [0], 1)
