"""Rows of the same predictions: which of them a table shows, and that no filter brings out another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.store import ledger
from leaderboard.store.records import replay
from tests.leaderboard.harness import Service, make_entry

Put = Callable[..., str]


@pytest.fixture
def put(service: Service, results: dict[str, Any]) -> Put:
    """Puts a result of one predictions file on the board, each a day later than the one before."""
    numbers = iter(range(1, 100))

    def one(tier: str = "rescored", team: str = "Ours", sha256: str = "5" * 64, **card: Any) -> str:
        entry = make_entry(results, next(numbers), team=team, **card)
        changes = {"tier": tier, "sha256": sha256} | ({"blocks": None} if tier == "reported" else {})
        ledger.write(service.settings.ledger, entry.model_copy(update=changes))
        replay(service.db, service.settings)
        return entry.submission

    return one


def shown(service: Service, **choice: Any) -> list[str]:
    return [row["submission"] for row in service.rows(**choice)]


@pytest.mark.parametrize("first", [True, False])
def test_a_card_that_states_that_the_labels_were_seen_counts_for_every_copy(
    service: Service, put: Put, first: bool
) -> None:
    earlier, later = put(saw_scored_labels=first), put(saw_scored_labels=not first)
    assert shown(service) == []
    assert shown(service, saw_labels=True) == [earlier]
    assert service.rows(saw_labels=True)[0]["saw_scored_labels"] is True
    assert "1 result of a model that saw labels" in service.client.get("/").text
    for submission in (earlier, later):
        other = put(sha256="6" * 64)
        page = service.client.get(f"/compare?id={submission}&id={other}").text
        assert page.count("saw the scored labels") == 1
    assert service.client.get("/teams?name=Ours").text.count("saw the scored labels") == 2


def test_a_self_reported_copy_does_not_hide_what_the_board_has_scored(service: Service, put: Put) -> None:
    put("reported", team="Theirs")
    scored = put()
    assert shown(service) == [scored]
    assert shown(service, tier="reported") == []
    reproduced = put("reproduced", team="Theirs")
    assert shown(service) == [reproduced]
    assert "sent 3 times" in service.client.get("/").text


def test_a_self_reported_row_cannot_take_the_rank_of_another_team(service: Service, put: Put) -> None:
    ours = put()
    put("reported", team="Theirs", saw_scored_labels=True)
    assert shown(service) == [ours]
    put("reported", team="Ours", saw_scored_labels=True)
    assert shown(service) == []


def test_a_filter_does_not_bring_out_a_copy(service: Service, put: Put) -> None:
    first = put(name="First")
    put(name="Second", sensors=["sentinel1"])
    assert shown(service) == shown(service, q="first") == [first]
    assert shown(service, q="second") == shown(service, sensor="sentinel1") == []


def test_of_copies_a_superseded_one_comes_last(service: Service, put: Put) -> None:
    first, second = put(), put()
    service.client.post(
        f"/api/v1/submissions/{first}/supersede", json={"by": second}, headers=service.headers()
    ).raise_for_status()
    assert shown(service) == shown(service, superseded=True) == [second]
