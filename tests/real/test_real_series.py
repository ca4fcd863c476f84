"""Time series of real places."""

from pathlib import Path

import pytest

from benchmarks.real_series import germany, netherlands, romania

pytestmark = pytest.mark.real


def test_the_clearing_of_2017_is_found_with_its_year(real_data: Path) -> None:
    found = romania(real_data)
    assert found["fell"] == 101
    assert found["found"][2017] > 30
    assert sum(found["found"].values()) == found["found"][2017]
    assert found["found_uncalibrated"][2017] < 5  # votes of trees do not outweigh the transition probability
    assert found["found_unsmoothed"][2017] > 80
    assert sum(found["elsewhere"].values()) < sum(found["elsewhere_unsmoothed"].values()) / 5
    assert found["fall_elsewhere"] > 0.05  # what else is called loss is less green, too


def test_dated_points_are_classified_in_years_and_regions_left_out(real_data: Path) -> None:
    found = netherlands(real_data)
    assert found["points"] == 171
    for group in ("year", "region"):
        for model in ("forest", "boosting"):
            assert found[f"{model}_{group}_left_out"] > found[f"majority_{group}_left_out"] + 0.1


def test_a_region_left_out_is_classified_above_the_majority_class(real_data: Path) -> None:
    found = germany(real_data)
    assert found["forest_region_left_out"] > found["majority_region_left_out"] + 0.3
