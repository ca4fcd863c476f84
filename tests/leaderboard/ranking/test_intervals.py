"""How certain a score is: intervals on the pages, in words where they are rough, and what the paired test compares."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.store import ledger
from leaderboard.store.records import replay
from lulcbench.evaluation.metrics import METRICS
from tests.leaderboard.harness import Service, make_entry

Put = Callable[..., str]
ROUGH = "Intervals over so few spatial blocks (2) are rough."


@pytest.fixture
def put(service: Service, results: dict[str, Any]) -> Put:
    """Puts a result on the board, with some of its scores, or its block counts, changed."""
    numbers = iter(range(1, 100))

    def one(kind: str = "good", counts: dict[str, Any] | None = None, **scores: Any) -> str:
        entry = make_entry(results, next(numbers), kind)
        changed = {"scores": entry.scores | scores, "blocks": counts or entry.blocks}
        ledger.write(service.settings.ledger, entry.model_copy(update=changed))
        replay(service.db, service.settings)
        return entry.submission

    return one


def test_a_submission_shows_every_figure_with_its_interval(service: Service, put: Put, results: dict[str, Any]) -> None:
    levels = json.loads(json.dumps(results["good"]["scores"]["levels"]))
    changes = {"change_f1": {"value": 0.5, "low": 0.123, "high": 0.987}, "change_from_to_f1": {"value": 0.456}}
    levels["4"]["metrics"] |= changes
    levels["4"]["change"] = {"pixels": 9_876_543, "changed": 3, "predicted_changed": 3, "transitions": []}
    page = service.client.get(f"/submissions/{put(levels=levels)}").text
    for level in levels.values():
        for name, estimate in level["metrics"].items():
            assert f">{METRICS[name].label}</th>" in page
            assert f">{estimate['value']:.3f}<" in page
            if estimate.get("low") is not None:
                assert f"{estimate['low']:.3f}–{estimate['high']:.3f}" in page
    assert {"miou", "hierarchical_f1", "mistake_severity", "log_loss", "brier", "ece"} <= set(levels["4"]["metrics"])
    assert "Change recall" not in page  # there is none
    assert "9,876,543" in page


def test_intervals_are_of_one_method_whatever_an_older_entry_states(
    service: Service, put: Put, results: dict[str, Any]
) -> None:
    levels = json.loads(json.dumps(results["good"]["scores"]["levels"]))
    right = levels["4"]["metrics"]["miou"]
    levels["4"]["metrics"]["miou"] = right | {"low": right["value"] - 1e-4, "high": right["value"] + 1e-4}
    narrow = put(levels=levels)
    (row,) = service.rows(level=4)
    assert (row["miou_low"], row["miou_high"]) == pytest.approx((right["low"], right["high"]))
    assert f"{right['low']:.3f}–{right['high']:.3f}" in service.client.get(f"/submissions/{narrow}").text
    other = put(levels=levels, scorer_version="1.9.0")  # of which this version cannot know the method
    (row,) = service.rows(level=4, scorer="1.9.0")
    assert row["submission"] == other
    assert row["miou_high"] - row["miou_low"] == pytest.approx(2e-4)


def test_intervals_over_few_blocks_are_called_rough(service: Service, put: Put, results: dict[str, Any]) -> None:
    assert results["good"]["scores"]["blocks"] == 2
    one, two = put(), put("poor")
    assert ROUGH in service.client.get(f"/submissions/{one}").text
    page = service.client.get(f"/compare?id={one}&id={two}").text
    assert ROUGH in page
    assert "2 spatial blocks with labelled pixels: the <strong>intervals are rough</strong>" in page
    assert "With fewer than ten blocks intervals are" in service.client.get("/about").text
    single, plenty = (service.client.get(f"/submissions/{put(blocks=blocks)}").text for blocks in (1, 10))
    assert "There is no interval over a single spatial block." in single
    assert "rough" not in plenty
    assert "no interval" not in plenty


def test_hierarchical_scores_and_brier_are_compared(service: Service, put: Put) -> None:
    one, two = put(), put()
    for level, there in ((4, True), (3, False)):
        (test,) = service.client.get(f"/api/v1/compare?id={one}&id={two}&level={level}").json()["tests"]
        metrics = {row["metric"] for row in test["differences"]}
        assert {"miou", "brier", "log_loss"} <= metrics
        assert ({"hierarchical_f1", "mistake_severity"} <= metrics) == there
    put("poor")
    rows = service.rows(level=4, sort="mistake_severity")
    assert [row["mistake_severity"] for row in rows] == sorted(row["mistake_severity"] for row in rows)
    for row in rows:
        assert row["hierarchical_f1_low"] <= row["hierarchical_f1"] <= row["hierarchical_f1_high"]
        assert 1 <= row["mistake_severity_low"] <= row["mistake_severity"]
    assert service.rows(level=4, sort="brier")[0]["brier"] > 0
    assert service.rows(level=3)[0]["hierarchical_f1"] is None
    for sort, there in (("miou", False), ("mistake_severity", True)):
        assert (">Mistake severity" in service.client.get(f"/?sort={sort}").text) == there
