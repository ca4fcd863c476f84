"""Pages of submissions are made from their ledger files once, and the memory for pages has a limit in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from leaderboard.ranking.table import Snapshot
from leaderboard.store import standing
from leaderboard.store.db import Result
from leaderboard.web import board, entries, views
from leaderboard.web.board import Board
from leaderboard.web.entries import Entries
from leaderboard.web.render import Page
from tests.leaderboard.harness import Service

Fill = Callable[..., list[str]]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the ledger files that pages have read."""
    paths: list[str] = []
    original = views.ledger.read

    def note(path: Any) -> Any:
        paths.append(path.stem)
        return original(path)

    monkeypatch.setattr(views.ledger, "read", note)
    return paths


@pytest.mark.parametrize(
    "address",
    ["/submissions/{}", "/submissions/{}/confusion-4.csv", "/submissions/{}/ledger.json", "/api/v1/submissions/{}"],
    ids=["page", "confusion", "ledger", "api"],
)
def test_a_ledger_file_is_read_again_only_if_it_changes(
    service: Service, fill: Fill, read: list[str], address: str
) -> None:
    (one,) = fill({})
    url = address.format(one)
    read.clear()
    first = service.client.get(url)
    assert [service.client.get(url).content for _ in range(3)] == [first.content] * 3
    assert first.status_code == 200
    assert read == [one]
    (path,) = service.settings.ledger.glob(f"*/{one}.json")
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    damaged = service.client.get(url)
    assert damaged.status_code == 503 or damaged.json()["scores"] is None
    path.write_bytes(content)
    assert service.client.get(url).content == first.content


def test_a_page_of_a_submission_follows_its_state(service: Service, fill: Fill) -> None:
    one, two = fill({}, {})
    url, api = f"/submissions/{one}", f"/api/v1/submissions/{one}"
    assert "Re-scored" in service.client.get(url).text
    assert service.client.get(api).json()["tier"] == "rescored"
    standing.set_tier(service.db, service.settings, "operator", one, "reproduced", "a test")
    assert "Reproduced" in service.client.get(url).text
    assert service.client.get(api).json()["tier"] == "reproduced"
    standing.supersede(service.db, service.settings, standing.OPERATOR, one, two)
    assert "Superseded by" in service.client.get(url).text
    assert service.client.get(api).json()["superseded_by"] == two
    standing.withdraw(service.db, service.settings, standing.OPERATOR, one)
    assert "was withdrawn" in service.client.get(url).text
    assert service.client.get(f"{url}/ledger.json").status_code == 404


def test_kept_pages_of_submissions_have_a_limit_in_bytes(
    service: Service, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MAX_BYTES", 2500)
    names = fill({}, {}, {})
    with service.db.read() as session:
        results = [session.get(Result, name) for name in names]
    made: list[str] = []

    def page(number: int, state: int = 0) -> None:
        result = results[number]
        assert result is not None

        def make() -> Page:
            made.append(result.submission_id)
            return Page.of("x" * 1000, compress=False)

        asyncio.run(kept.page("page", result, state, make))

    kept = Entries(service.settings)
    for number in (0, 1, 0, 1, 0, 2, 0, 1):
        page(number)
    assert made == [names[number] for number in (0, 1, 2, 1)]
    page(1, state=1)
    page(0)
    assert len(made) == 5  # the newer page of a result replaces the older one, and takes no further room


def test_cached_pages_of_the_board_have_a_limit_in_bytes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "MAX_CACHED_BYTES", 2500)
    cached = Board(service.db, service.settings.model_copy(update={"cache_s": 600}))

    def make(_: Snapshot) -> Page:
        return Page.of("x" * 1000, compress=False)

    for key in "abc":
        cached.page(key, make)
    assert cached.peek("a") is None
    assert cached.peek("b") is not None
    assert cached.peek("c") is not None


def test_filters_that_every_row_passes_are_one_page_of_the_interface(service: Service, fill: Fill) -> None:
    fill({}, {"parameters": 30_000_000})
    service.client.app.state.board = Board(  # type: ignore[attr-defined]
        service.db, service.settings.model_copy(update={"cache_s": 600})
    )
    cached = service.client.app.state.board  # type: ignore[attr-defined]
    for largest in (30, 31, 1e9, 1e9 + 1):
        assert len(service.rows(max_parameters=largest, since="2020-01-01")) == 2
    assert cached.peek("/api/leaderboard?json&") is not None
    assert len(service.rows(max_parameters=29)) == 1
    page = cached.peek("/api/leaderboard?json&max_parameters=29.0")
    assert page is not None
    assert page.compressed is None  # it is never sent compressed
