"""Sample sizes, allocation, and the file of a design."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lulcbench.errors import LulcbenchError, UnsupportedFormatError
from lulcbench.evaluation.areas import Survey
from lulcbench.evaluation.design import Allocation, Design, Kind, Stratum, allocate, allocate_for, sample_size

AREAS, EXPECTED = [0.02, 0.015, 0.32, 0.645], [0.7, 0.6, 0.9, 0.95]


def test_the_sample_size_reaches_its_target() -> None:
    """The expected standard error of the optimal allocation is the target; others need more points."""
    n = sample_size(AREAS, EXPECTED, 0.01)
    assert n == 641  # Olofsson et al. 2014, section 5.1.1
    points = allocate(n, AREAS, Allocation.OPTIMAL, EXPECTED)
    variance = np.sum(np.square(AREAS) * np.multiply(EXPECTED, np.subtract(1, EXPECTED)) / points)
    assert np.sqrt(variance) == pytest.approx(0.01, rel=1e-3)
    equal = allocate(n, AREAS, Allocation.EQUAL)
    assert np.sum(np.square(AREAS) * np.multiply(EXPECTED, np.subtract(1, EXPECTED)) / equal) > variance


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20),
    st.integers(0, 40),
    st.integers(0, 2000),
    st.sampled_from(Allocation),
)
def test_every_allocation_is_complete(areas: list[float], minimum: int, more: int, method: Allocation) -> None:
    n = max(minimum, 2) * len(areas) + more
    points = allocate(n, areas, method, [0.8] * len(areas), minimum)
    assert points.sum() == n
    assert (points >= max(minimum, 2)).all()


@given(
    st.lists(st.tuples(st.floats(1e-3, 1e3), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(0, 40),
    st.floats(0, 1),
    st.sampled_from(Allocation),
    st.sampled_from([0.8, 1.0]),
)
def test_no_stratum_has_more_points_than_pixels(
    strata: list[tuple[float, int]], minimum: int, share: float, method: Allocation, expected: float
) -> None:
    areas, pixels = (list(column) for column in zip(*strata, strict=True))
    least = np.minimum(max(minimum, 2), pixels)
    n = int(least.sum() + share * (sum(pixels) - least.sum()))
    points = allocate(n, areas, method, [expected] * len(areas), minimum, pixels)
    assert points.sum() == n
    assert (points >= least).all()
    assert (points <= pixels).all()


def test_equal_and_optimal_allocation() -> None:
    assert allocate(10, [1, 2, 3], Allocation.EQUAL).tolist() == [4, 3, 3]
    # Deviations of .5 and .3 in strata of equal size.
    assert allocate(80, [1, 1], Allocation.OPTIMAL, [0.5, 0.9]).tolist() == [50, 30]
    assert allocate(80, [1, 3], Allocation.OPTIMAL, [1.0, 1.0]).tolist() == [20, 60]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_size([1, 2], [0.8, 1.2], 0.01), "not between 0 and 1"),
        (lambda: sample_size([1, 2], [0.8, 0.8], 0.0), "not a target"),
        (lambda: sample_size([1, 2], [0.8, 0.8], 1e-5), "takes 1,600,000,000 points"),
        (lambda: sample_size([1, 0], [0.8, 0.8], 0.01), "positive areas"),
        (lambda: allocate(10, [1, 1, 1], minimum=4), "10 points are fewer than 4 in each of 3 strata"),
        (lambda: allocate(10, [1, 1], Allocation.OPTIMAL), "requires expected accuracies"),
    ],
)
def test_impossible_designs_are_refused(call: object, message: str) -> None:
    with pytest.raises(LulcbenchError, match=message):
        call()  # type: ignore[operator]


def design(**changes: object) -> Design:
    strata = (Stratum(code=311, pixels=100, area=1e6, points=10), Stratum(code=512, pixels=50, area=5e5, points=5))
    values = {"kind": Kind.STRATIFIED, "map": "map.tif", "map_digest": "0" * 64, "strata": strata, "seed": 1}
    return Design.model_validate(values | changes)


def test_a_design_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = design(allocation=Allocation.EQUAL, target_se=0.01, level=3)
    written.save(tmp_path / "d.json")
    assert Design.load(tmp_path / "d.json") == written
    assert written.points == 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strata": []}, "strata"),
        ({"kind": "quota"}, "kind"),
        ({"strata": [{"code": 1, "pixels": 0, "area": 1, "points": 1}]}, "pixels"),
        ({"strata": [{"code": 1, "pixels": 1, "area": 1, "points": 1}] * 2}, "same code"),
        ({"more": 1}, "more"),
    ],
)
def test_damaged_designs_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "d.json"
    path.write_text(json.dumps(design().model_dump(mode="json") | change))
    with pytest.raises(LulcbenchError, match=f"damaged: .*{message}"):
        Design.load(path)


def test_other_formats_and_missing_designs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    with pytest.raises(LulcbenchError, match="is missing"):
        Design.load(path)
    path.write_text('{"format": "lulcbench-design/9"}')
    with pytest.raises(UnsupportedFormatError, match="lulcbench-design/9"):
        Design.load(path)


def test_a_designed_sample_reaches_the_standard_error_that_it_was_made_for() -> None:
    n = sample_size(AREAS, EXPECTED, 0.01)
    points = allocate(n, AREAS, Allocation.OPTIMAL, EXPECTED, minimum=30)
    rng = np.random.default_rng(0)
    mapped = np.repeat(np.arange(4), points)
    right = rng.random(n) < np.array(EXPECTED)[mapped]
    survey = Survey.stratified(np.where(right, mapped, (mapped + 1) % 4), mapped, 4, mapped, AREAS)
    assert survey.accuracy().overall.se == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("method", list(Allocation))
@pytest.mark.parametrize("minimum", [2, 100])
def test_the_target_is_reached_by_every_allocation(method: Allocation, minimum: int) -> None:
    """Cochran 1977, eq. 5.7, with the points that each stratum gets; and hardly with fewer points."""
    shares, variance = np.array(AREAS) / np.sum(AREAS), np.array(EXPECTED) * (1 - np.array(EXPECTED))

    def se(points: np.ndarray) -> float:
        return float(np.sqrt((shares**2 * variance / points).sum()))

    points = allocate_for(0.01, AREAS, method, EXPECTED, minimum)
    assert points.min() >= minimum
    assert se(points) <= 0.01
    assert se(allocate(int(points.sum()) - 4, AREAS, method, EXPECTED, minimum)) > 0.01


def test_a_target_beyond_the_pixels_is_refused() -> None:
    with pytest.raises(LulcbenchError, match="60 points, all pixels, do not reach"):
        allocate_for(0.05, [1, 5], Allocation.PROPORTIONAL, [0.5, 0.5], available=[10, 50])
