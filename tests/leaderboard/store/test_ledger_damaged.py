"""A ledger with damaged, missing and stray files: what they are of is told, and the rest of the board goes on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from leaderboard.export import export
from leaderboard.scoring.worker import Worker
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import create_token
from leaderboard.store.backups import backup, restore
from leaderboard.store.db import Database, Result, touch
from leaderboard.store.records import replay, verify
from leaderboard.web.app import create_app
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service, make_entry

CACHE_S = 0.05
A, B, C, D = (f"{number:020x}" for number in range(1, 5))


def signed(content: dict[str, Any]) -> str:
    """A ledger file of that content with the digest that it ought to have."""
    content = {key: value for key, value in content.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return json.dumps(content | {"digest": hashlib.sha256(text.encode()).hexdigest()})


def other_shape(path: Path) -> None:
    content = json.loads(path.read_bytes())
    path.write_text(signed(content | {"scores": {"years": [2018]}}))


def other_submission(path: Path) -> None:
    shutil.copyfile(path.with_name(f"{B}.json"), path)


def altered(path: Path) -> None:
    content = json.loads(path.read_bytes())
    content["scores"]["levels"]["1"]["miou"] = 0.999
    path.write_text(json.dumps(content))


def in_place_of(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: path.write_bytes(b""),
    "binary junk": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "list": lambda path: path.write_bytes(b"[]"),
    "nested": lambda path: path.write_bytes(b'{"cells":' + b"[" * 100_000),
    "number": lambda path: path.write_bytes(b'{"cells":' + b"1" * 6_000 + b"}"),
    "of another shape": other_shape,
    "of another submission": other_submission,
    "altered": altered,
    "missing": lambda path: path.unlink(),
    "folder": in_place_of(Path.mkdir),
    "pipe": in_place_of(os.mkfifo),
    "link to itself": in_place_of(lambda path: path.symlink_to(path.name)),
    "unreadable": in_place_of(lambda path: path.symlink_to("/proc/self/mem")),  # gives EIO, to root as well
}


@pytest.fixture
def cached(settings: Settings, results: dict[str, Any]) -> Iterator[Service]:
    """A board of four results that keeps its pages, as the real service does."""
    settings = settings.model_copy(update={"cache_s": CACHE_S})
    for number in range(1, 5):
        ledger.write(settings.ledger, make_entry(results, number, kind="poor" if number == 4 else "good"))
    app = create_app(settings)
    replay(app.state.db, settings)
    tokens = {"ours": create_token(app.state.db, "Ours"), "admin": create_token(app.state.db, "Operators", "admin")}
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Service(settings, client, app.state.db, tokens)


def path_of(service: Service, submission: str) -> Path:
    (path,) = service.settings.ledger.glob(f"*/{submission}.json")
    return path


def rebuilt(service: Service, folder: Path) -> Service:
    """The board that the ledger alone makes."""
    settings = service.settings.model_copy(update={"data": folder / "rebuilt", "cache_s": 0})
    settings.prepare()
    db = Database(settings.url)
    db.upgrade(settings.ledger)
    replay(db, settings)
    return Service(settings, TestClient(create_app(settings)), db, {})


def shown(service: Service) -> list[str]:
    return sorted(row["submission"] for row in service.rows(superseded=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGE)
def test_only_the_pages_of_a_damaged_result_fail(
    cached: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    client, headers = cached.client, cached.headers()
    tables = ["/", "/?level=2", "/?sort=macro_f1", "/history", "/api/v1/leaderboard", "/api/v1/leaderboard?format=csv"]
    of_a = [f"/compare?id={A}&id={B}", f"/api/v1/compare?id={A}&id={B}", f"/submissions/{A}"]
    of_others = [f"/compare?id={B}&id={D}", f"/api/v1/compare?id={B}&id={D}", f"/submissions/{B}", "/about"]
    for url in (*tables, *of_a, *of_others):
        assert client.get(url).status_code == 200, url
    DAMAGE[kind](path_of(cached, A))
    assert client.post(f"/api/v1/submissions/{C}/withdraw", headers=headers).json()["status"] == "withdrawn"
    time.sleep(2 * CACHE_S)
    client.get("/history")  # reads the board again; "/" would do this in the background
    for url in (*tables, *of_others):
        answer = client.get(url)
        assert answer.status_code == 200, url
        assert C not in answer.text, url
    for url in tables:
        assert D in client.get(url).text or "Model 4" in client.get(url).text
    for url in (*of_a, f"/submissions/{A}/ledger.json"):
        answer = client.get(url)
        assert answer.status_code == 503, url
        assert f"record of submission {A} cannot be read" in answer.text
        assert "Traceback" not in answer.text
    assert caplog.text.count(str(path_of(cached, A)) if kind != "missing" else f"{A}.json is missing") == 1
    state = client.get(f"/api/v1/submissions/{A}").json()
    assert (state["status"], state["scores"]) == ("scored", None)
    assert A in state["error"]["what"]
    (fault,) = verify(cached.db, cached.settings)
    assert f"{A}.json" in fault.what
    assert kind != "of another shape" or "unknown form" in fault.what

    export(cached.db, cached.settings, tmp_path / "export")
    assert set(pd.read_parquet(tmp_path / "export" / "leaderboard.parquet")["submission"]) == {B, D}
    assert {p.stem for p in (tmp_path / "export" / "submissions").glob("*.html")} == {B, D}
    assert shown(rebuilt(cached, tmp_path)) == [B, D]

    # It can still be taken off the board, and stays off it when its file is restored.
    assert client.post(f"/api/v1/submissions/{A}/withdraw", headers=headers).json()["status"] == "withdrawn"
    time.sleep(2 * CACHE_S)
    assert shown(cached) == [B, D]
    assert client.get(f"/compare?id={A}&id={B}").status_code == 404


def test_a_page_that_fails_for_any_reason_does_not_keep_a_withdrawn_result(
    cached: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cached.client
    assert client.get(f"/compare?id={A}&id={B}").status_code == 200
    assert C in client.get("/").text

    def bug(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("leaderboard.web.views.paired_tests", bug)
    client.post(f"/api/v1/submissions/{C}/withdraw", headers=cached.headers())
    time.sleep(2 * CACHE_S)
    assert client.get("/history").status_code == 200
    assert C not in client.get("/").text
    assert client.get(f"/compare?id={A}&id={B}").status_code == 500


def test_a_row_of_another_form_leaves_the_others_on_the_board(cached: Service) -> None:
    with cached.db.write() as session:
        session.get(Result, A).summary = {"model": "of a version to come"}  # type: ignore[union-attr]
        touch(session)
    time.sleep(2 * CACHE_S)
    assert shown(cached) == [B, C, D]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["truncated", "empty", "folder", "altered"])
def test_an_event_that_cannot_be_read_never_brings_a_withdrawn_result_back(
    cached: Service, tmp_path: Path, kind: str
) -> None:
    cached.client.post(f"/api/v1/submissions/{C}/withdraw", headers=cached.headers())
    path = path_of(cached, f"{C}.withdrawn")
    if kind == "altered":
        path.write_text(path.read_text().replace('"withdrawn"', '"tier"'))
    else:
        DAMAGE[kind](path)
    again = rebuilt(cached, tmp_path)
    assert shown(again) == [A, B, D]
    (fault,) = verify(cached.db, cached.settings)
    assert f"{C}.withdrawn.json" in fault.what
    assert again.client.get(f"/submissions/{C}").status_code == 404


def test_a_withdrawal_succeeds_where_something_has_the_name_of_its_file(cached: Service, tmp_path: Path) -> None:
    path = path_of(cached, A).with_name(f"{A}.withdrawn.json")
    path.write_bytes(b"")
    answer = cached.client.post(f"/api/v1/submissions/{A}/withdraw", headers=cached.headers())
    assert answer.json()["status"] == "withdrawn"
    time.sleep(2 * CACHE_S)
    assert shown(cached) == [B, C, D]
    assert shown(rebuilt(cached, tmp_path)) == [B, C, D]


def test_events_are_recorded_once_and_tiers_are_never_written_over(cached: Service) -> None:
    root, key = cached.settings.ledger, path_of(cached, A).parent.name
    at = ledger.read(path_of(cached, A)).scored_at
    event = ledger.Event(submission=A, kind="withdrawn", at=at, actor="Ours")
    assert ledger.record(root, key, event) == event
    again = event.model_copy(update={"at": event.at + timedelta(hours=1)})
    assert ledger.record(root, key, again) == event  # the first one stands
    other = event.model_copy(update={"actor": "Somebody"})
    assert ledger.record(root, key, other) == other  # a withdrawal by somebody else is one more
    assert sorted(path.name[21:] for path in (root / key).glob(f"{A}.withdrawn*")) == [
        "withdrawn-001.json",
        "withdrawn.json",
    ]
    for value in ("reproduced", "rescored", "reproduced"):
        tier = ledger.Event(submission=A, kind="tier", at=event.at, actor="Operators", value=value)
        assert ledger.record(root, key, tier) == tier
    (root / key / f"{A}.tier-000.json").unlink()
    ledger.record(root, key, ledger.Event(submission=A, kind="tier", at=event.at, actor="x", value="rescored"))
    assert sorted(path.name[21:] for path in (root / key).glob(f"{A}.tier*")) == [
        "tier-001.json",
        "tier-002.json",
        "tier-003.json",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "event",
    [
        {"kind": "tier", "value": "gold"},
        {"kind": "superseded", "value": ""},
        {"kind": "withdrawn", "value": "x"},
        {"kind": "withdrawn", "at": "2026-01-01T00:00:00"},  # of no time zone, so not to be ordered
    ],
)
def test_events_that_mean_nothing_are_damaged(cached: Service, tmp_path: Path, event: dict[str, Any]) -> None:
    content = {"format": "lulcbench-ledger-event/1", "submission": A, "at": "2026-01-01T00:00:00Z", "actor": "x"}
    content |= {"value": ""} | event
    name = "tier-000" if event["kind"] == "tier" else event["kind"]
    path = path_of(cached, A).with_name(f"{A}.{name}.json")
    path.write_text(signed(content))
    assert shown(rebuilt(cached, tmp_path)) == [B, C, D]
    (fault,) = ledger.load(cached.settings.ledger).faults
    assert "digest" not in fault.what


def test_stray_files_are_listed_and_do_not_matter(
    cached: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, folder = cached.settings.ledger, path_of(cached, A).parent
    shutil.copyfile(Path(ledger.__file__).parents[1] / "ledger" / "README.md", root / "README.md")
    (folder / f".{A}.json.1f2e3d4c").write_text("what a killed process left")
    (folder / ".x.json").write_text("{}")
    assert verify(cached.db, cached.settings) == ()
    (folder / "notes.json").write_text("{}")
    (folder / "notes.txt").write_text("by the operator")
    (folder / f"{A}.json.bak").write_bytes(path_of(cached, A).read_bytes())
    (folder / f"{A}.gold.json").write_text("{}")
    (folder / "old").mkdir()
    (root / f"{A}.json").write_bytes((folder / f"{A}.json").read_bytes())
    (root / "copies").mkdir()
    shutil.copyfile(folder / f"{A}.json", root / "copies" / f"{A}.json")
    stray = {"notes.json", "notes.txt", f"{A}.json.bak", f"{A}.gold.json", "old", f"{A}.json", "copies"}
    faults = verify(cached.db, cached.settings)
    assert len(faults) == len(stray)
    assert all(any(name in fault.what for fault in faults) for name in stray)
    assert shown(rebuilt(cached, tmp_path)) == [A, B, C, D]
    assert "notes.json is not a file of the ledger" in caplog.text
    export(cached.db, cached.settings, tmp_path / "export")
    assert len(list((tmp_path / "export" / "submissions").glob("*.html"))) == 4
    state = cached.client.get(f"/api/v1/submissions/{A}").json()
    assert state["scores"]["levels"]
    assert ledger.find(root, A) == ledger.read(folder / f"{A}.json")


def test_a_backup_of_a_damaged_ledger_is_restored_as_it_is(cached: Service, tmp_path: Path) -> None:
    os.truncate(path_of(cached, A), 100)
    backup(cached.db, cached.settings, tmp_path / "backup.tar")
    settings = cached.settings.model_copy(
        update={"data": tmp_path / "data2", "ledger": tmp_path / "ledger2", "cache_s": 0}
    )
    restore(Database(settings.url), settings, tmp_path / "backup.tar")
    with TestClient(create_app(settings)) as client:
        assert client.get("/").status_code == 200
        assert client.get(f"/submissions/{A}").status_code == 503
        assert client.get(f"/submissions/{B}").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["truncated", "folder", "of another file"])
def test_a_damaged_record_of_a_waiting_submission_does_not_stop_the_queue(
    service: Service, predictions: dict[str, Path], results: dict[str, Any], kind: str
) -> None:
    """As a disk leaves it that lost the end of a file, between ledger and commit."""
    first, second = service.submit(predictions["poor"]), service.submit(predictions["good"])
    path = service.settings.ledger / make_entry(results, 1).release_key / f"{first}.json"
    path.parent.mkdir()
    path.write_bytes(b"{}")
    if kind == "of another file":
        path.unlink()
        entry = make_entry(results, 1).model_copy(update={"submission": first, "sha256": "0" * 64})
        ledger.write(service.settings.ledger, entry)
    else:
        DAMAGE[kind](path)
    worker = Worker(service.db, service.settings)
    assert worker.step()
    assert worker.step()
    assert not worker.step()
    assert service.status(second)["status"] == "scored"
    state = service.status(first)
    assert (state["status"], state["scores"]) == ("queued", None)
    assert "record of this submission is damaged" in state["error"]["what"]
    assert [row["submission"] for row in service.rows()] == [second]


@pytest.mark.slow
def test_the_command_lists_damaged_files(cached: Service) -> None:
    settings = cached.settings
    command = [sys.executable, "-m", "leaderboard", "--data", str(settings.data), "--ledger", str(settings.ledger)]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)

    assert run("ledger", "verify").returncode == 0
    os.truncate(path_of(cached, A), 100)
    path_of(cached, B).unlink()
    found = run("ledger", "verify")
    assert found.returncode == 1
    assert f"{A}.json" in found.stdout
    assert f"{B}.json is missing" in found.stdout
    assert found.stdout.count("Restore it from a backup") == 2
    rebuild = run("rebuild")
    assert rebuild.returncode == 0
    assert "0 results added" in rebuild.stdout
    assert f"{A}.json" in rebuild.stderr


def test_a_backup_without_a_manifest_is_an_error(cached: Service, tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"[]", b'{"database": "sqlite"}', b'{"sha256": 1, "database": "sqlite"}')):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w") as tar:
            info = tarfile.TarInfo("manifest.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        settings = cached.settings.model_copy(update={"data": tmp_path / f"d{number}", "ledger": tmp_path / "l"})
        with pytest.raises(LulcbenchError, match="not a complete backup"):
            restore(Database(settings.url), settings, path)
