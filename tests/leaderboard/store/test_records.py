"""The ledger, what is rebuilt from it, backups, the export, the schema, and the commands that do all this."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from leaderboard.ranking.reported import add_reported
from leaderboard.scoring.worker import Worker
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.backups import backup, restore
from leaderboard.store.db import Base, Database
from leaderboard.store.records import replay
from leaderboard.store.uploads import predictions_path
from leaderboard.web.app import create_app
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import CARD, Service, make_entry

Fill = Callable[..., list[str]]


def elsewhere(settings: Settings, folder: Path, **changes: Any) -> Settings:
    return settings.model_copy(update={"data": folder / "data2", **changes})


def test_the_board_is_rebuilt_from_the_ledger_alone(service: Service, fill: Fill, tmp_path: Path) -> None:
    one, two, three = fill({"name": "One"}, {"name": "Two", "kind": "poor"}, {"name": "Three"})
    headers = service.headers()
    service.client.post(f"/api/v1/submissions/{one}/supersede", json={"by": three}, headers=headers)
    service.client.post(f"/api/v1/submissions/{two}/withdraw", headers=headers)
    for tier in ("reproduced", "rescored", "reproduced"):
        body = {"tier": tier, "evidence": "run 1"}
        service.client.post(f"/api/v1/submissions/{three}/tier", json=body, headers=service.headers("admin"))
    before = service.client.get("/?superseded=true").text
    settings = elsewhere(service.settings, tmp_path)
    settings.prepare()
    db = Database(settings.url)
    db.upgrade(settings.ledger)
    assert replay(db, settings) == 3
    assert replay(db, settings) == 0
    db.close()
    app = create_app(settings)
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        assert client.get("/?superseded=true").text == before
        assert client.get(f"/api/v1/submissions/{two}").json()["status"] == "withdrawn"


def test_the_ledger_is_never_overwritten_and_notices_change(tmp_path: Path, results: dict[str, Any]) -> None:
    entry = make_entry(results, 1)
    ledger.write(tmp_path, entry)
    path = tmp_path / entry.path
    before = path.read_bytes()
    later = entry.model_copy(update={"scored_at": entry.scored_at.replace(year=2027)})
    assert ledger.write(tmp_path, later) == entry
    assert path.read_bytes() == before
    with pytest.raises(LulcbenchError, match="another predictions file"):
        ledger.write(tmp_path, entry.model_copy(update={"sha256": "0" * 64}))
    content = json.loads(before)
    content["scores"]["levels"]["1"]["metrics"]["miou"]["value"] = 1.0
    path.write_text(json.dumps(content))
    with pytest.raises(LulcbenchError, match="digest does not match"):
        ledger.read(path)
    for broken in (b"", b"[]", b'{"digest": 1}', b"\xff"):
        path.write_bytes(broken)
        with pytest.raises(LulcbenchError, match=str(path.name)):
            ledger.read(path)


@pytest.mark.slow
def test_backup_and_restore(service: Service, fill: Fill, predictions: dict[str, Path], tmp_path: Path) -> None:
    fill({"name": "One"})
    queued = service.submit(predictions["poor"])
    path = tmp_path / "backup.tar"
    backup(service.db, service.settings, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(LulcbenchError, match="exists"):
        backup(service.db, service.settings, path)
    settings = elsewhere(service.settings, tmp_path, ledger=tmp_path / "ledger2")
    restore(Database(settings.url), settings, path)
    app = create_app(settings)
    from fastapi.testclient import TestClient

    with TestClient(app) as client:
        again = Service(settings, client, app.state.db, service.tokens)  # tokens still work
        assert [row["model"] for row in again.rows()] == ["One"]
        assert again.status(queued)["status"] == "queued"
        assert again.score()
        assert again.status(queued)["status"] == "scored"
    with pytest.raises(LulcbenchError, match="not empty"):
        restore(Database(settings.url), settings, path)
    content = bytearray(path.read_bytes())
    at = content.index(b'"lulcbench-ledger/1"')
    content[at + 2] ^= 1
    path.write_bytes(content)
    third = elsewhere(service.settings, tmp_path / "third", ledger=tmp_path / "ledger3")
    (tmp_path / "third").mkdir()
    with pytest.raises(LulcbenchError, match="damaged"):
        restore(Database(third.url), third, path)


def test_a_restore_never_writes_over_a_database(service: Service, fill: Fill, tmp_path: Path) -> None:
    fill({"name": "One"})
    path = tmp_path / "backup.tar"
    backup(service.db, service.settings, path)
    other = tmp_path / "elsewhere" / "other.sqlite"
    changes = {"database_url": f"sqlite:///{other}", "ledger": tmp_path / "ledger2"}
    settings = elsewhere(service.settings, tmp_path, **changes)
    other.parent.mkdir()
    for file in (other, other.with_name("other.sqlite-wal")):
        file.write_bytes(b"a board of long ago")
        with pytest.raises(LulcbenchError, match=f"{file.name} is not empty"):
            restore(Database(settings.url), settings, path)
        assert file.read_bytes() == b"a board of long ago"
        assert not settings.data.exists()  # nothing was begun
        file.unlink()
    restore(Database(settings.url), settings, path)
    assert other.stat().st_size > 10_000


def test_a_backup_holds_nothing_that_its_manifest_does_not_name(service: Service, fill: Fill, tmp_path: Path) -> None:
    fill({})
    path = tmp_path / "backup.tar"
    backup(service.db, service.settings, path)
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("ledger/x/planted.json")
        tar.addfile(info, io.BytesIO())
    settings = elsewhere(service.settings, tmp_path, ledger=tmp_path / "ledger2")
    with pytest.raises(LulcbenchError, match="is not in its manifest"):
        restore(Database(settings.url), settings, path)


def test_what_was_withdrawn_before_its_worker_could_commit_stays_withdrawn(
    service: Service, predictions: dict[str, Path], results: dict[str, Any]
) -> None:
    queued = service.submit(predictions["poor"])
    entry = make_entry(results, 1, "poor").model_copy(update={"submission": queued})
    ledger.write(service.settings.ledger, entry)  # as a worker that was killed between ledger and commit
    answer = service.client.post(f"/api/v1/submissions/{queued}/withdraw", headers=service.headers())
    assert answer.json()["status"] == "withdrawn"
    replay(service.db, service.settings)
    assert service.rows() == []


@pytest.mark.slow
def test_refused_files_do_not_stay_for_ever(
    service: Service, predictions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no zip")
    refused, waiting = service.submit(bad), service.submit(predictions["poor"])
    assert service.score()
    worker = Worker(service.db, service.settings)
    worker.housekeep()
    assert predictions_path(service.settings, refused).exists()
    monkeypatch.setattr("leaderboard.scoring.worker.STALE_UPLOAD_DAYS", -1)
    worker.housekeep()
    assert not predictions_path(service.settings, refused).exists()
    assert predictions_path(service.settings, waiting).exists()


def test_the_migrations_make_the_tables_that_the_code_expects(service: Service) -> None:
    with service.db.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


@pytest.mark.parametrize(
    ("where", "value", "why"),
    [
        (("release_digest",), "0" * 64, "does not have the release"),
        (("simulated",), False, "do not agree with"),
        (("years",), [2006], "do not agree with"),
        (("years",), [2012, 2018], "do not agree with"),
        (("tiles",), 1, "do not agree with"),
        (("scorer_version",), "99.0.0", "newer than this board's"),
        (("levels", "4", "metrics", "miou", "value"), 1.5, "levels.4.metrics.miou.value = 1.5"),
        (("levels", "2", "metrics", "overall_accuracy", "value"), -0.1, "overall_accuracy.value = -0.1"),
        (("levels", "1", "metrics", "macro_f1", "value"), float("nan"), "macro_f1.value = nan"),
        (("levels", "3", "metrics", "log_loss", "value"), float("inf"), "log_loss.value = inf"),
        (("levels", "4", "metrics", "miou", "high"), 7.0, "levels.4.metrics.miou.high = 7"),
        (("levels", "4", "metrics", "mistake_severity", "value"), 5.0, "mistake_severity.value = 5"),
        (("levels", "4", "metrics", "luck"), {"value": 0.5}, "an unknown metric 'luck'"),
        (("levels", "4", "regions", 0, "metrics", "miou", "value"), 2.0, "regions.0.metrics.miou.value = 2"),
        (("levels", "3", "classes", 0, "code"), 9999, "scores of level 3 are not those of its classes"),
        (("levels", "2", "level"), 3, "scores of level 2 are not those of its classes"),
        (("levels", "2", "confusion"), [], "confusion matrix of level 2 is not 14"),
        (("levels", "1", "confusion", 2), [1, 2], "confusion matrix of level 1 is not 5"),
        (("levels", "4", "reliability", 14, "accuracy"), 1.1, "levels.4.reliability.14.accuracy = 1.1"),
    ],
)
def test_reported_scores_are_believed_only_so_far(
    service: Service, results: dict[str, Any], tmp_path: Path, where: tuple[str | int, ...], value: Any, why: str
) -> None:
    scores, card = tmp_path / "scores.json", tmp_path / "card.toml"
    card.write_text("\n".join(f"{key} = {json.dumps(item)}" for key, item in CARD.items()))
    content = json.loads(json.dumps(results["good"]["scores"]))
    scores.write_text(json.dumps(content))
    add_reported(service.db, service.settings, scores, card, "Elsewhere")
    part: Any = content
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    scores.write_text(json.dumps(content))
    with pytest.raises(LulcbenchError, match=re.escape(why)):
        add_reported(service.db, service.settings, scores, card, "Elsewhere")
    assert [row["tier"] for row in service.rows()] == ["reported"]


@pytest.mark.slow
def test_the_commands(tmp_path: Path, release_root: Path, results: dict[str, Any]) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "leaderboard", "--data", str(tmp_path / "d"), "--ledger", str(tmp_path / "l")]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    token = run("token", "create", "Team").strip()
    assert token.startswith("lb_")
    assert "no release" in run("score", code=2)
    scores, card = tmp_path / "scores.json", tmp_path / "card.toml"
    scores.write_text(json.dumps(results["good"]["scores"]))
    card.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in CARD.items()))
    report = ("report", str(scores), str(card), "--team", "Elsewhere")
    assert "does not have the release" in run(*report, code=2)
    submission = run("--release", str(release_root), *report).strip()
    (path,) = (tmp_path / "l").glob("*/*.json")
    assert (path.stem, ledger.read(path).tier) == (submission, "reported")
    run("ban", "Team")
    assert re.search(r"Team  submit .*valid, team banned \d{4}-\d\d-\d\d", run("token", "list"))
    config = tmp_path / "board.toml"
    config.write_text(f"disk_reserve_bytes = {10**18}")
    full = run("--config", str(config), "--release", str(release_root), "score", code=2)
    assert "half of disk_reserve_bytes is free" in full
    assert "report" in run("audit") or "ledger.replay" in run("audit")
