"""What the blocks of a split can tell apart, worst regions, cost and ensembles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from leaderboard.ranking.resolution import smallest_difference
from leaderboard.ranking.summary import summarise
from lulcbench.evaluation.comparison import BlockCounts
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.intervals import paired, t_quantile
from lulcbench.evaluation.metrics import RANKING, evaluate
from tests.leaderboard.harness import CARD, Service


def counts(rng: np.random.Generator, blocks: int, accuracy: float) -> np.ndarray:
    """Correct, label and predicted pixels of three classes in each block."""
    right = np.clip(rng.normal(accuracy, 0.04, (blocks, 1)) + rng.normal(0, 0.02, (blocks, 3)), 0, 1)
    labels = rng.integers(800, 1200, (blocks, 3))
    correct = np.round(right * labels)
    return np.stack([correct, labels, labels + rng.integers(-50, 50, (blocks, 3))], axis=1)


def test_the_jackknife_agrees_with_the_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    a, b = counts(rng, 20, 0.8), counts(rng, 20, 0.75)

    def statistic(sums: np.ndarray) -> dict[str, np.ndarray]:
        return {RANKING: evaluate(Family.CLASSES, sums)[RANKING]}

    _, low, high, _ = paired(a, b, statistic)[RANKING]
    without = [statistic(c.sum(axis=0) - c)[RANKING] for c in (a, b)]
    assert smallest_difference(*without) == pytest.approx((high - low) / 2, rel=0.15)


def test_blocks_without_labels_do_not_count(results: dict[str, Any]) -> None:
    entry = results["good"]
    sums = entry["blocks"]["sums"]
    more = {level: blocks + [np.zeros_like(blocks[0]).tolist()] * 6 for level, blocks in sums[Family.CLASSES].items()}
    padded = entry["blocks"] | {"sums": sums | {Family.CLASSES: more}}
    blocks = entry["blocks"] | {"sums": sums}
    found = [summarise(entry["scores"], CARD, one)["without_blocks"] for one in (blocks, padded)]
    assert found[0]
    assert found[0] == found[1]


def test_a_mean_over_blocks_has_the_interval_of_the_paired_t_test() -> None:
    difference = np.array([0.1, 0.02, 0.05, -0.01, 0.07])
    total = difference.sum()
    without = (total - difference) / 4  # means of the others
    expected = t_quantile(4) * difference.std(ddof=1) / np.sqrt(5)
    assert smallest_difference(without, np.zeros(5)) == pytest.approx(expected)


def test_a_summary_keeps_scores_without_each_block_and_the_worst_region(results: dict[str, Any]) -> None:
    entry = results["good"]
    found = summarise(entry["scores"], CARD, entry["blocks"])
    blocks = BlockCounts.read(entry["blocks"])
    for level, values in found["without_blocks"].items():
        sums = np.array(blocks.sums[Family.CLASSES][int(level)], float)
        assert values == [
            pytest.approx(float(evaluate(Family.CLASSES, np.delete(sums, i, 0).sum(0))[RANKING]))
            for i in range(len(sums))
        ]
    for level, (name, value) in found["worst_region"].items():
        regions = {r["name"]: r["metrics"][RANKING]["value"] for r in entry["scores"]["levels"][level]["regions"]}
        assert value == min(regions.values()) == regions[name]
    assert summarise(entry["scores"], CARD)["without_blocks"] == {}


def test_the_table_states_its_resolution_and_marks_ties(service: Service, fill: Callable[..., list[str]]) -> None:
    good, same, poor = fill({}, {}, {"kind": "poor"})
    answer = service.client.get("/api/v1/leaderboard?level=1").json()
    ranks = {row["submission"]: row["tied_ranks"] for row in answer["rows"]}
    assert answer["resolution"]["metric"] == RANKING
    assert answer["resolution"]["blocks"] == 2
    assert ranks[good] == ranks[same]
    assert ranks[good][0] == 1
    page = service.client.get("/?level=1").text
    assert "<em>resolution floor</em>" in page
    assert f"tied 1–{ranks[good][1]}" in page
    assert "tied" not in service.client.get("/?level=1&sort=date").text.partition("<tbody>")[2]
    assert poor in ranks
    assert "resolution floor" in service.client.get("/about").text


def test_cost_and_ensembles_are_shown(service: Service, fill: Callable[..., list[str]]) -> None:
    slow, fast, silent = fill(
        {"training_hours": 3.0, "device": "1 x H200", "members": 5}, {"training_hours": 0.25, "device": "CPU"}, {}
    )
    rows = service.rows(sort="training", order="asc")
    assert [row["submission"] for row in rows] == [fast, slow, silent]
    assert [(row["training_hours"], row["device"], row["members"]) for row in rows] == [
        (0.25, "CPU", 1),
        (3.0, "1 x H200", 5),
        (None, None, 1),
    ]
    page = service.client.get("/").text
    assert "ensemble of 5" in page
    assert page.count("ensemble of") == 1
    assert "15.0 min" in page
    assert "3.0 h" in page
