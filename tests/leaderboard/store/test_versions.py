"""Results of other scorer versions, older and newer: what they lack is absent, what is unknown here is kept.

``older`` holds a ledger as scorers 1.0 and 1.1 wrote it (level-2 predictions with probabilities of six tiles in three
blocks, of one year and of change), and the summaries that the database had of its entries then.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from leaderboard.export import export
from leaderboard.store import ledger
from leaderboard.store.db import Audit, Result
from leaderboard.store.records import prepare, replay
from leaderboard.web.app import create_app
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.comparison import BlockCounts
from lulcbench.evaluation.metrics import METRICS, register, unregister
from lulcbench.evaluation.scores import FORMAT, Scores
from lulcbench.submission.client import Client
from tests.leaderboard.harness import Service, make_entry
from tests.leaderboard.web.test_pages import Outline

OLDER = Path(__file__).parents[1] / "older"
MAPS, CHANGES = {"1.0.0": f"{1:020x}", "1.1.0": f"{4:020x}"}, {"1.0.0": f"{2:020x}", "1.1.0": f"{5:020x}"}
IDS = [*MAPS.values(), *CHANGES.values()]
VERSIONS = list(MAPS)


@pytest.fixture
def old(service: Service) -> Service:
    """The board, from the old ledger."""
    shutil.copytree(OLDER, service.settings.ledger, dirs_exist_ok=True, ignore=lambda _, names: {"summaries.json"})
    assert replay(service.db, service.settings) == 4
    return service


def entry(submission: str) -> ledger.Entry:
    (path,) = OLDER.glob(f"*/{submission}.json")
    return ledger.read(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_scores_of_an_older_scorer_are_read_as_it_gave_them(version: str) -> None:
    for submission in (MAPS[version], CHANGES[version]):
        stored = entry(submission).scores
        scores = Scores.read(stored)
        assert scores.scorer_version == version
        for level, part in scores.levels.items():
            was = stored["levels"][str(level)]
            for name in ("miou", "overall_accuracy", "balanced_accuracy", "macro_f1", "weighted_f1"):
                assert part[name] == was[name]
                estimate, interval = part.metrics[name], was["intervals"][name]
                assert (estimate.low, estimate.high) == (interval["low"], interval["high"])
            assert part["brier"] == was["calibration"]["brier"]
            assert [one.accuracy for one in part.reliability] == [
                one["accuracy"] for one in was["calibration"]["reliability"]
            ]
            assert [one["miou"] for one in part.superclasses] == [one["miou"] for one in was["groups"]]
            assert [one.iou for one in part.classes] == [one["iou"] for one in was["classes"]]
            assert [list(row) for row in part.confusion] == was["confusion"]
        tree = stored["hierarchical"]
        finest = scores.levels[2].metrics
        assert finest["hierarchical_f1"].value == tree["f1"]
        assert (finest["hierarchical_f1"].low is None) == (version == "1.0.0")  # it gave none
        assert "hierarchical_f1" not in scores.levels[1].metrics
        for was in stored["change"] or ():
            part = scores.levels[was["level"]]
            assert (part["change_f1"], part["change_from_to_f1"]) == (was["f1"], was["from_to_f1"])
            assert part.metrics["change_accuracy"].low == was["intervals"]["accuracy"]["low"]
            assert part.change is not None
            assert part.change.changed == was["changed"]


def test_where_an_older_scorer_had_evaluated_nothing_its_zeros_are_absent() -> None:
    stored = json.loads(json.dumps(entry(MAPS["1.0.0"]).scores))
    stored["levels"]["2"] |= {"pixels": 0, "miou": 0.0, "overall_accuracy": 0.0}
    assert Scores.read(stored).levels[2]["miou"] is None


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_older_results_are_on_the_board(old: Service, version: str) -> None:
    for submissions, task in ((MAPS, "segmentation"), (CHANGES, "change")):
        choice = {"task": task, "scorer": version, "level": 2}
        (row,) = old.rows(**choice)
        stored = entry(submissions[version]).scores
        assert row["submission"] == submissions[version]
        assert row["miou"] == stored["levels"]["2"]["miou"]
        assert row["brier_high"] == stored["levels"]["2"]["intervals"].get("brier", {}).get("high")
        assert row["hierarchical_f1"] == stored["hierarchical"]["f1"]
        assert (row["hierarchical_f1_low"] is None) == (version == "1.0.0")
        assert (row["change_f1"] is None) == (task == "segmentation")
        text = old.client.get("/api/v1/leaderboard", params=choice | {"format": "csv"}).text
        (line,) = csv.DictReader(io.StringIO(text))
        assert float(line["miou"]) == row["miou"]
        for path in (f"/?task={task}&scorer={version}&level=2", f"/submissions/{row['submission']}"):
            page = old.client.get(path)
            assert page.status_code == 200
            Outline(page.text)
            assert f"{row['hierarchical_f1']:.3f}" in page.text
        for sort in METRICS:
            assert old.client.get("/", params=choice | {"sort": sort}).status_code == 200
            assert old.client.get("/history", params=choice | {"sort": sort}).status_code == 200
        assert old.status(row["submission"])["scores"] == stored  # byte for byte what the ledger has


def test_older_results_are_exported(old: Service, tmp_path: Path) -> None:
    out = export(old.db, old.settings, tmp_path / "site")
    table = pd.read_parquet(out / "leaderboard.parquet")
    assert set(table["submission"]) == set(IDS)
    assert set(table["scorer_version"]) == set(VERSIONS)
    assert {"miou", "change_recall"} <= set(table)
    assert table["miou"].notna().all()


@pytest.mark.parametrize("version", VERSIONS)
def test_older_results_are_compared(old: Service, version: str) -> None:
    first = entry(CHANGES[version])
    again = first.model_copy(update={"submission": f"{99:020x}"})
    ledger.write(old.settings.ledger, again)
    replay(old.db, old.settings)
    url = f"compare?id={first.submission}&id={again.submission}&level=2"
    (test,) = old.client.get(f"/api/v1/{url}").json()["tests"]
    found = {row["metric"] for row in test["differences"]}
    assert {"miou", "brier", "change_f1"} <= found
    assert ("hierarchical_f1" in found) == (version == "1.1.0")  # 1.0 kept no counts for it
    assert old.client.get(f"/{url}").status_code == 200
    assert first.blocks is not None
    assert BlockCounts.read(first.blocks).levels == {1, 2}


def test_a_client_reads_results_of_an_older_server(old: Service) -> None:
    for submission in IDS:
        with Client("http://localhost", old.tokens["ours"], old.transport()) as client:
            result = client.wait(submission)
        assert result.scores == Scores.read(entry(submission).scores)


def newer(entry: ledger.Entry) -> ledger.Entry:
    """The entry as a scorer of next year might write it: a metric, fields and a family that are unknown here."""
    scores = json.loads(json.dumps(entry.scores)) | {"scorer_version": "9.0.0", "carbon_g": 12.5}
    for level in scores["levels"].values():
        level["metrics"] |= {"kappa_2030": {"value": 0.5, "low": 0.4, "high": 0.6}}
        level["metrics"]["miou"]["standard_error"] = 0.01
        level["by_season"] = [{"name": "summer"}]
        del level["metrics"]["macro_f1"]
    blocks = json.loads(json.dumps(entry.blocks)) | {"scorer_version": "9.0.0"}
    blocks["sums"]["texture"] = {"4": [[1, 2], [3, 4]]}
    return entry.model_copy(update={"scores": scores, "blocks": blocks})


def test_results_of_a_newer_scorer_show_what_is_known_here(
    service: Service, results: dict[str, Any], tmp_path: Path
) -> None:
    one, two = (newer(make_entry(results, number, kind)) for number, kind in ((1, "good"), (2, "poor")))
    for item in (one, two):
        ledger.write(service.settings.ledger, item)
    replay(service.db, service.settings)
    row = service.rows(sort="macro_f1")[0]
    assert row["scorer_version"] == "9.0.0"
    assert row["macro_f1"] is None
    assert row["miou"] is not None
    assert "kappa_2030" not in row
    pair = f"id={one.submission}&id={two.submission}"
    for path in (
        "/",
        "/?sort=macro_f1",
        "/history?sort=macro_f1",
        f"/submissions/{one.submission}",
        f"/compare?{pair}",
    ):
        page = service.client.get(path)
        assert page.status_code == 200, path
        Outline(page.text)
        assert "kappa" not in page.text
    (test,) = service.client.get(f"/api/v1/compare?{pair}").json()["tests"]
    assert {row["metric"] for row in test["differences"]} >= {"miou", "macro_f1"}  # counts are all that it needs
    export(service.db, service.settings, tmp_path / "site")
    with Client("http://localhost", service.tokens["ours"], service.transport()) as client:
        scores = client.wait(one.submission).scores
    assert scores is not None
    assert scores.levels[4]["kappa_2030"] == 0.5  # kept, though nothing here shows it
    assert scores.levels[4]["macro_f1"] is None


def test_a_client_that_is_too_old_for_the_server_states_this() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        scores = {"format": "lulcbench-scores/10"}
        state = {"status": "scored", "scores": scores, "url": "https://board.example/submissions/1"}
        return httpx2.Response(200, json=state)

    with (
        Client("http://localhost", "token", httpx2.MockTransport(answer)) as client,
        pytest.raises(LulcbenchError, match="format 10, which a newer version of lulcbench wrote") as error,
    ):
        client.wait("1")
    assert error.value.remedy.startswith("See https://board.example/submissions/1. Upgrade")


@pytest.mark.parametrize(
    "content", [{}, {"format": FORMAT}, {"format": "lulcbench-scores/1"}, {"levels": 3}, {"format": 7}]
)
def test_what_holds_no_scores_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(LulcbenchError, match="does not contain scores"):
        Scores.read(content)


def test_scores_of_an_unknown_format_leave_a_row_without_metrics(
    service: Service, results: dict[str, Any], tmp_path: Path
) -> None:
    made = make_entry(results, 1)
    scores = made.scores | {"format": "lulcbench-scores/3"}
    ledger.write(service.settings.ledger, made.model_copy(update={"scores": scores}))
    ledger.write(service.settings.ledger, make_entry(results, 2, name="Known"))
    replay(service.db, service.settings)
    assert [row["miou"] is None for row in service.rows()] == [False, True]
    assert service.client.get("/").status_code == 200
    page = service.client.get(f"/submissions/{made.submission}")
    assert page.status_code == 503
    assert "have a newer format" in page.text
    out = export(service.db, service.settings, tmp_path / "site")
    assert [path.stem for path in (out / "submissions").glob("*.html")] == [f"{2:020x}"]


def test_summaries_of_another_version_are_computed_again_at_the_start(old: Service) -> None:
    before = old.client.get("/?scorer=1.0.0&level=2").text
    assert json.loads((OLDER / "summaries.json").read_text()).keys() == set(IDS)
    stale = json.loads((OLDER / "summaries.json").read_text())
    with old.db.write() as session:
        for result in session.scalars(select(Result)):
            result.summary = stale[result.submission_id]
    lost = next(old.settings.ledger.glob(f"*/{CHANGES['1.0.0']}.json"))
    content = lost.read_bytes()
    lost.write_bytes(content[:-100])
    with TestClient(create_app(old.settings)) as client:  # as after an upgrade
        assert client.get("/?scorer=1.0.0&level=2").text == before
        (row,) = client.get("/api/v1/leaderboard?task=change&scorer=1.0.0&level=2").json()["rows"]
        assert row["miou"] is None  # its ledger file is damaged; nothing else is
        assert client.get("/?task=change&scorer=1.0.0&level=2").status_code == 200
    lost.write_bytes(content)
    for _ in range(2):
        prepare(old.db, old.settings)
    with old.db.read() as session:
        acts = [act.detail for act in session.scalars(select(Audit).where(Audit.action == "summary.renew"))]
        assert all(one.summary == entry(one.submission_id).summary for one in session.scalars(select(Result)))
    assert acts == [{"results": 4}, {"results": 1}]


def test_a_metric_that_is_listed_later_needs_no_new_summaries(
    service: Service, fill: Callable[..., list[str]], metric_list: None
) -> None:
    metric = METRICS["macro_f1"]
    unregister("macro_f1")
    fill({})
    assert "macro_f1" not in service.rows()[0]
    assert metric.label not in service.client.get("/").text
    register(metric)
    assert service.rows()[0]["macro_f1"] is not None
    assert metric.label in service.client.get("/").text
