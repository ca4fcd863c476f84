"""A column of the table is added in one place."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator

import pytest

from leaderboard.ranking.columns import COLUMNS, Column
from leaderboard.web import render
from tests.leaderboard.harness import Service


@pytest.fixture
def compute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Column]:
    """A column of the model card that the table does not have."""
    column = Column(
        "compute", "Compute", "compute", lambda row: row.card.get("compute"), text=lambda row: row.card["compute"]
    )
    monkeypatch.setitem(COLUMNS, "compute", column)
    render.environment.cache_clear()
    yield column
    render.environment.cache_clear()


def test_a_listed_column_is_on_pages_in_files_and_sorted_by(
    service: Service, fill: Callable[..., list[str]], compute: Column
) -> None:
    ids = fill({"compute": "2 h"}, {"compute": "1 h"}, {"compute": "3 h"})
    by_id = dict(zip(ids, ("2 h", "1 h", "3 h"), strict=True))
    rows = service.client.get("/api/v1/leaderboard?sort=compute&order=asc").json()["rows"]
    assert [row["compute"] for row in rows] == ["1 h", "2 h", "3 h"]
    assert all(by_id[row["submission"]] == row["compute"] for row in rows)
    table = csv.DictReader(service.client.get("/api/v1/leaderboard?format=csv&sort=compute").text.splitlines())
    assert [row["compute"] for row in table] == ["1 h", "2 h", "3 h"]
    page = service.client.get("/?sort=compute&order=desc").text
    assert page.index("3 h") < page.index("2 h") < page.index("1 h")
    assert 'data-label="Compute"' in page
    compared = service.client.get(f"/compare?id={ids[0]}&id={ids[1]}").text
    assert '<th scope="row">Compute</th>' in compared


def test_a_column_that_is_not_listed_is_refused(service: Service) -> None:
    assert service.client.get("/?sort=compute").status_code == 422
