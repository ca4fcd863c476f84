"""How certain a score is: intervals on the pages, in words where they are rough, and what the paired test compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.store import ledger
from leaderboard.store.records import replay
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


def shown(interval: dict[str, float]) -> str:
    return f"{interval['low']:.3f}–{interval['high']:.3f}"


def test_a_submission_shows_every_interval_that_it_has(service: Service, put: Put, results: dict[str, Any]) -> None:
    interval = {"low": 0.123, "high": 0.987}
    change = {"level": 4, "pixels": 9, "changed": 3, "predicted_changed": 3, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    change |= {"iou": 0.4, "accuracy": 0.6, "from_to_f1": None, "transitions": [], "intervals": {"f1": interval}}
    page = service.client.get(f"/submissions/{put(change=[change])}").text
    scores = results["good"]["scores"]
    for part in scores["levels"].values():
        assert set(part["intervals"]) >= {"miou", "log_loss", "brier", "ece"}
        assert all(shown(part["intervals"][name]) in page for name in part["intervals"])
    assert shown(scores["hierarchical"]["intervals"]["f1"]) in page
    assert shown(scores["hierarchical"]["intervals"]["mistake_severity"]) in page
    assert "0.123–0.987" in page
    assert "Brier score" in page


def test_intervals_over_few_blocks_are_called_rough(service: Service, put: Put, results: dict[str, Any]) -> None:
    assert results["good"]["scores"]["blocks"] == 2
    one, two = put(), put("poor")
    assert ROUGH in service.client.get(f"/submissions/{one}").text
    page = service.client.get(f"/compare?id={one}&id={two}").text
    assert ROUGH in page
    assert "2 spatial blocks: the <strong>intervals are rough</strong>" in page
    assert "Over fewer than ten blocks intervals are" in service.client.get("/about").text
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


def test_results_of_the_first_scorer_still_show_and_compare(
    service: Service, put: Put, results: dict[str, Any]
) -> None:
    """Ledger entries are immutable: theirs have neither intervals of the hierarchical scores nor counts for them."""
    tree = {k: v for k, v in results["good"]["scores"]["hierarchical"].items() if k != "intervals"}
    counts = {k: v for k, v in results["good"]["blocks"].items() if k != "hierarchy"}
    one, two = (put(counts=counts, hierarchical=tree) for _ in range(2))
    assert f"{tree['f1']:.3f}" in service.client.get(f"/submissions/{one}").text
    (test,) = service.client.get(f"/api/v1/compare?id={one}&id={two}").json()["tests"]
    assert {row["metric"] for row in test["differences"]} >= {"miou", "brier"}
    assert not any(row["metric"] == "hierarchical_f1" for row in test["differences"])
