"""What may stand beside what: years, scorer versions, models that saw the labels, and what a reader gets by default."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from leaderboard.ranking.table import version_order
from leaderboard.store import ledger
from leaderboard.store.db import Database, Result
from leaderboard.store.records import replay
from leaderboard.web import pages
from leaderboard.web.board import Board
from lulcbench.errors import LulcbenchError
from lulcbench.predictions.format import task_of
from tests.leaderboard.harness import Service, make_entry

Put = Callable[..., str]
MODELS = re.compile(r'<th scope="row"><a href="/submissions/[0-9a-f]{20}">([^<]*)</a>')


def variant(
    results: dict[str, Any], number: int, years: tuple[int, ...] = (2018,), scorer: str = "", **card: Any
) -> ledger.Entry:
    """An entry as if it were of other years (two make a change, more a series) or of another scorer version."""
    entry = make_entry(results, number, **card)
    task = task_of(years)
    changes = {"years": list(years), "task": task, "scorer_version": scorer or entry.scores["scorer_version"]}
    return entry.model_copy(update={"task": task, "scores": entry.scores | changes})


@pytest.fixture
def put(service: Service, results: dict[str, Any]) -> Put:
    numbers = iter(range(1, 100))

    def one(**changes: Any) -> str:
        entry = ledger.write(service.settings.ledger, variant(results, next(numbers), **changes))
        replay(service.db, service.settings)
        return entry.submission

    return one


def models(service: Service, path: str) -> list[str]:
    return MODELS.findall(service.client.get(path).text)


def test_each_year_is_a_table_of_its_own(service: Service, put: Put) -> None:
    old = put(name="Of 2012", years=(2012,))
    new = put(name="Of 2018", kind="poor")
    assert [(row["model"], row["years"]) for row in service.rows()] == [("Of 2018", "2018")]
    assert [(row["model"], row["years"]) for row in service.rows(years="2012")] == [("Of 2012", "2012")]
    assert models(service, "/") == models(service, "/history") == ["Of 2018"]
    assert models(service, "/?years=2012") == models(service, "/history?years=2012") == ["Of 2012"]
    table = list(csv.DictReader(io.StringIO(service.client.get("/api/v1/leaderboard?format=csv&years=2012").text)))
    assert [row["years"] for row in table] == ["2012"]
    assert "segmentation 2012, test split" in service.client.get("/?years=2012").text
    assert "segmentation 2012, test split" in service.client.get(f"/submissions/{old}").text
    answer = service.client.get(f"/compare?id={old}&id={new}")
    assert answer.status_code == 422
    assert "years" in answer.text
    url = f"/api/v1/submissions/{new}/supersede"
    refused = service.client.post(url, json={"by": old}, headers=service.headers())
    assert refused.status_code == 409
    assert "years" in refused.json()["what"]


def test_one_change_submission_does_not_turn_the_front_page(service: Service, put: Put) -> None:
    put(name="Map")
    change = put(name="Change", years=(2012, 2018))
    assert models(service, "/") == models(service, "/history") == ["Map"]
    for query in ("task=change", "years=2012-2018", "task=change&years=2018"):
        assert models(service, f"/?{query}") == ["Change"], query
    assert "change 2012→2018" in service.client.get("/?task=change").text
    assert service.rows(task="change")[0]["years"] == "2012-2018"
    first = f"{1:020x}"
    service.client.post(f"/api/v1/submissions/{first}/withdraw", headers=service.headers())
    assert models(service, "/") == ["Change"]  # there is nothing else
    assert service.rows()[0]["submission"] == change


def test_a_series_of_years_is_a_table_of_its_own(service: Service, put: Put) -> None:
    put(name="Change", years=(2012, 2018))
    series = put(name="Series", years=(2006, 2012, 2018))
    assert models(service, "/") == ["Change"]  # segmentation, change, series: the first that there is
    for query in ("task=series", "years=2006-2012-2018", "task=series&years=2012-2018"):
        assert models(service, f"/?{query}") == ["Series"], query
        assert service.rows(**dict(part.split("=") for part in query.split("&")))[0]["submission"] == series
    assert "series 2006→2012→2018" in service.client.get("/?task=series").text
    assert service.client.get("/api/v1/leaderboard?years=2006-2012-").status_code == 422
    long = "-".join(map(str, range(1900, 2000)))
    put(name="Century", years=tuple(range(1900, 2000)))
    assert models(service, f"/?years={long}") == ["Century"]
    assert service.client.get(f"/api/v1/leaderboard?years={long}-2000").status_code == 422


def test_a_simulated_release_does_not_push_a_real_one_off_the_front_page(
    service: Service, put: Put, results: dict[str, Any]
) -> None:
    real = {"simulated": False, "release": "real-1.0.0", "release_digest": "1" * 64}
    entry = make_entry(results, 99, name="Real").model_copy(update=real)
    ledger.write(
        service.settings.ledger, entry.model_copy(update={"submitted_at": entry.submitted_at.replace(year=2025)})
    )
    put(name="Simulated, and newer")
    assert models(service, "/") == ["Real"]
    assert len(re.findall("<option[^>]*>(?:real|tiny)-", service.client.get("/").text)) == 2


def test_a_dot_of_the_history_stands_out_only_if_it_led(service: Service, put: Put) -> None:
    put(name="Same name")
    put(name="Same name", kind="poor")
    page = service.client.get("/history").text
    assert page.count('class="dot s0"') == page.count('class="dot faint"') == 1


def test_scores_of_two_scorer_versions_do_not_meet(service: Service, put: Put) -> None:
    assert version_order("1.10.0") > version_order("1.9.0")
    old = put(name="Old", scorer="0.9.0")
    older = put(name="Older", scorer="0.10.0")
    new = put(name="New", kind="poor")
    assert [row["model"] for row in service.rows()] == ["New"]
    page = service.client.get("/").text
    assert MODELS.findall(page) == ["New"]
    assert "2 results of another scorer version not shown" in page
    assert f"scorer {service.rows()[0]['scorer_version']}" in page
    assert models(service, "/?scorer=0.9.0") == models(service, "/history?scorer=0.9.0") == ["Old"]
    assert service.client.get("/api/v1/leaderboard").json()["hidden"]["other_scorer_versions"] == 2
    for one in (old, older):
        assert service.client.get(f"/compare?id={one}&id={new}").status_code == 422
    service.client.post(f"/api/v1/submissions/{new}/withdraw", headers=service.headers())
    assert models(service, "/") == ["Older"]  # 0.10 is newer than 0.9


@pytest.mark.slow
def test_a_model_that_saw_the_labels_is_never_the_best(service: Service, put: Put) -> None:
    put(name="Honest", kind="poor")
    put(name="Saw them", saw_scored_labels=True)
    put(name="Saw others", saw_scored_labels=True, sensors=["sentinel2"])
    page = service.client.get("/").text
    assert MODELS.findall(page) == ["Honest"]
    assert "2 results of models that saw labels" in page
    assert models(service, "/history") == ["Honest"]
    assert service.client.get("/api/v1/leaderboard").json()["hidden"]["saw_scored_labels"] == 2
    for query in ("saw_labels=true", "saw_labels=true&sort=miou&order=asc", "saw_labels=true&sort=date"):
        page = service.client.get(f"/?{query}").text
        assert MODELS.findall(page)[0] == "Honest"
        assert len(MODELS.findall(page)) == 3
        assert page.count('<strong class="badge">saw the scored labels') == 2
        assert page.count('title="not ranked') == 2
        assert 'id="h-best"' not in page  # only one sensor set is left to be best of
    assert models(service, "/history?saw_labels=true") == ["Honest"]


def test_where_a_best_score_is_named_its_trust_tier_is_too(service: Service, put: Put) -> None:
    put(name="One")
    put(name="Two", sensors=["sentinel2"])
    best = service.client.get("/").text.split('id="h-best"')[1].split("</section>")[0]
    assert best.count('class="tier rescored"') == 2
    assert service.client.get("/history").text.count('class="tier rescored"') == 1


def test_the_migration_fills_the_years_of_old_rows(service: Service, put: Put) -> None:
    ids = {put(): "2018", put(years=(2012,)): "2012", put(years=(2012, 2018)): "2012-2018"}
    check_migration(service, ids)


def check_migration(service: Service, ids: dict[str, str]) -> None:
    """Takes the schema back to where it knew no years, and up again; also used on PostgreSQL."""

    def downgrade() -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(ledger.__file__).parent / "migrations"))
        with service.db.engine.begin() as connection:
            config.attributes |= {"connection": connection, "ledger": service.settings.ledger}
            command.downgrade(config, "0001")
            columns = list(connection.exec_driver_sql("SELECT * FROM result").keys())
            assert "years" not in columns

    downgrade()
    service.db.upgrade(service.settings.ledger)
    with service.db.read() as session:
        assert {one.submission_id: one.years for one in session.query(Result)} == ids
    downgrade()
    (lost,) = service.settings.ledger.glob(f"*/{min(ids)}.json")
    content = lost.read_bytes()
    lost.unlink()
    again = Database(service.settings.url)
    with pytest.raises(LulcbenchError, match="Restore the ledger"):
        again.upgrade(service.settings.ledger)
    lost.write_bytes(content)
    again.upgrade(service.settings.ledger)  # what failed left nothing behind
    again.close()


def test_the_same_choice_is_rendered_once(
    service: Service, put: Put, monkeypatch: pytest.MonkeyPatch, results: dict[str, Any]
) -> None:
    one, two = put(), put(kind="poor")
    board = Board(service.db, service.settings.model_copy(update={"cache_s": 60}))
    monkeypatch.setattr(service.client.app.state, "board", board)  # type: ignore[attr-defined]
    made: list[str] = []
    for name in ("table_html", "compare_html", "history_html"):
        real = getattr(pages, name)
        monkeypatch.setattr(pages, name, lambda *given, name=name, real=real: made.append(name) or real(*given))
    for query in ("", "?x=1", "?x=2&level=4", "?level=4&q=", "?level=3&level=4"):
        assert service.client.get(f"/{query}").status_code == 200
        assert service.client.get(f"/history{query}").status_code == 200
    pair = f"id={one}&id={two}"
    for query in (pair, f"{pair}&{pair}", f"{pair}&id={two}&level=4", f"x=1&{pair}"):
        assert service.client.get(f"/compare?{query}").status_code == 200
    assert sorted(made) == ["compare_html", "history_html", "table_html"]
    for path in ("/compare", "/api/v1/compare"):
        many = "&".join(f"id={number:020x}" for number in range(1000))
        answer = service.client.get(f"{path}?{many}")
        assert answer.status_code == 422
        assert "1000 submissions" in answer.text
    assert service.client.get("/?sort=anything").status_code == 422
    assert json.loads(service.client.get(f"/api/v1/compare?{pair}&{pair}").text)["against"] == one
