"""Renaming of a team: its names vanish, its scores stay, and the ledger remains tamper-evident."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.settings import Settings
from leaderboard.store import chain, ledger, queue
from leaderboard.store.db import Database
from leaderboard.store.names import rename
from leaderboard.store.records import replay, verify
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service, make_entry
from tests.leaderboard.store.test_ledger_damaged import signed

NAME, AUTHOR = "Ours", "A. Author"


def texts(settings: Settings) -> str:
    return "".join(path.read_text() for path in sorted(settings.ledger.rglob("*.json")))


def test_the_name_of_an_operator_vanishes_from_what_it_did_to_other_teams(
    service: Service, fill: Callable[..., list[str]]
) -> None:
    (hidden,) = fill({})
    headers = service.headers("admin")
    assert service.client.post(f"/api/v1/submissions/{hidden}/withdraw", headers=headers).status_code == 200
    assert "Operators" in texts(service.settings)
    assert rename(service.db, service.settings, "Operators", "Former operators") == 1
    assert '"Operators"' not in texts(service.settings)
    assert verify(service.db, service.settings) == ()
    assert rename(service.db, service.settings, "Former operators", "Former operators") == 0


@pytest.mark.slow
def test_names_vanish_from_pages_ledger_and_audit_log_and_scores_stay(
    service: Service, fill: Callable[..., list[str]], tmp_path: Path
) -> None:
    kept, withdrawn, other = fill({}, {}, {"team": "Theirs", "authors": ["B. Other"]})
    service.client.post(f"/api/v1/submissions/{withdrawn}/withdraw", headers=service.headers())
    before, head = service.rows(level=4), chain.load(service.settings.ledger).head
    assert rename(service.db, service.settings, NAME, "Former team 1", ["name withheld"]) == 3
    after = service.rows(level=4)
    assert [row["miou"] for row in after] == [row["miou"] for row in before]
    assert {row["team"] for row in after} == {"Former team 1", "Theirs"}
    assert NAME not in texts(service.settings)
    assert AUTHOR not in texts(service.settings)
    assert "B. Other" in texts(service.settings)
    for address in ("/", f"/submissions/{kept}", f"/submissions/{kept}/ledger.json", f"/submissions/{withdrawn}"):
        page = service.client.get(address)
        assert page.status_code == 200
        assert not any(name in page.text for name in (AUTHOR, ">Ours", "Ours "))
    assert "withdrawn by its team" in service.client.get(f"/submissions/{withdrawn}").text
    audit = service.client.get("/api/v1/audit", headers=service.headers("admin")).text
    assert '"Ours' not in audit
    assert verify(service.db, service.settings, head) == ()  # extended from the head noted before
    assert rename(service.db, service.settings, "Former team 1", "Former team 1", ["name withheld"]) == 0
    rebuilt = Database(f"sqlite:///{tmp_path / 'rebuilt.sqlite'}")
    rebuilt.upgrade(service.settings.ledger)
    assert replay(rebuilt, service.settings) == 3
    assert verify(rebuilt, service.settings) == ()
    rename(service.db, service.settings, "Former team 1", "Former team 2")  # a second time
    assert "Former team 1" not in texts(service.settings)
    assert verify(service.db, service.settings) == ()
    assert service.client.get(f"/submissions/{other}").status_code == 200


def test_names_that_are_replaced_while_a_file_is_scored_do_not_come_back(
    service: Service, predictions: dict[str, Path], results: dict[str, Any]
) -> None:
    submission = service.submit(predictions["poor"])
    job = queue.claim(service.db, service.settings, "worker")
    assert job is not None
    rename(service.db, service.settings, NAME, "Former team 1", ["name withheld"])
    entry = make_entry(results, 1, "poor").model_copy(update={"submission": submission, "sha256": job.sha256})
    queue.finish(service.db, service.settings, "worker", job, entry)
    stored = json.loads(next(service.settings.ledger.glob(f"*/{submission}.json")).read_text())
    assert (stored["team"], stored["card"]["authors"]) == ("Former team 1", ["name withheld"])


def test_a_replacement_that_the_chain_does_not_have_is_not_believed(
    service: Service, fill: Callable[..., list[str]]
) -> None:
    (one,) = fill({})
    (path,) = service.settings.ledger.glob(f"*/{one}.json")
    original = path.read_bytes()
    entry = ledger.read(path)
    scores = json.loads(json.dumps(entry.scores))
    scores["levels"]["1"]["metrics"]["miou"]["value"] = 0.999
    forged = entry.model_copy(update={"scores": scores})
    path.write_text(signed(forged.model_dump(mode="json")))
    event = ledger.Event(
        submission=one, kind="redacted", at=entry.scored_at, actor="operator", value=f"{path.name} {forged.digest}"
    )
    note = path.with_name(f"{one}.redacted-000.json")
    note.write_text(signed(event.model_dump(mode="json")))
    assert service.client.get(f"/submissions/{one}").status_code == 503
    assert any("it was altered" in fault.what for fault in verify(service.db, service.settings))
    note.unlink()
    path.write_bytes(original)
    rename(service.db, service.settings, NAME, "Former team 1")
    renamed = path.read_bytes()
    path.write_text(signed(forged.model_dump(mode="json")))
    assert service.client.get(f"/submissions/{one}").status_code == 503
    path.write_bytes(original)  # as after a crash between the note and the file: intact, and repeated
    assert service.client.get(f"/submissions/{one}").status_code == 200
    rename(service.db, service.settings, "Former team 1", "Former team 1")
    path.write_bytes(renamed)
    assert verify(service.db, service.settings) == ()


def better(path: Path) -> ledger.Entry:
    """The result of a file with a score that no scorer computed."""
    entry = ledger.read(path)
    scores = json.loads(json.dumps(entry.scores))
    scores["levels"]["1"]["metrics"]["miou"]["value"] = 0.999
    return entry.model_copy(update={"scores": scores})


def forge(root: Path, path: Path, forged: ledger.Entry) -> None:
    """Put a content in place of another, as a replacement of names does, with a note that the chain has."""
    value = f"{path.name} {forged.digest}"
    event = ledger.Event(
        submission=forged.submission, kind="redacted", at=forged.scored_at, actor="operator", value=value
    )
    ledger.record(root, path.parent.name, event)
    path.write_text(signed(forged.model_dump(mode="json")))


def test_a_replacement_of_names_cannot_change_scores(service: Service, fill: Callable[..., list[str]]) -> None:
    (one,) = fill({})
    (path,) = service.settings.ledger.glob(f"*/{one}.json")
    forge(service.settings.ledger, path, better(path))
    assert any("it was altered" in fault.what for fault in verify(service.db, service.settings))
    assert service.client.get(f"/submissions/{one}").status_code == 503


def test_replaced_names_in_a_file_of_an_earlier_version_are_listed_since_more_may_have_changed(
    service: Service, fill: Callable[..., list[str]]
) -> None:
    fill({}, {})
    root = service.settings.ledger
    head, lines = chain.START, []
    for path, digest in chain.load(root).digests.items():  # as earlier versions wrote it
        head = chain.following(head, digest, path, "")
        lines.append(f"{head} {digest} {path}\n")
    (root / chain.NAME).write_text("".join(lines))
    assert verify(service.db, service.settings, head) == ()
    rename(service.db, service.settings, NAME, "Former team 1")
    faults = verify(service.db, service.settings, head)
    assert len(faults) == 2
    assert all("names were replaced" in fault.what for fault in faults)
    assert {row["team"] for row in service.rows(level=4)} == {"Former team 1"}


@pytest.mark.parametrize(
    ("name", "new", "what"),
    [
        ("Somebody", "Former team 1", "There is no team 'Somebody'"),
        (NAME, "Theirs", "There is a team 'Theirs' already"),
        (NAME, "THEIRS", "resembles the team 'Theirs'"),
        (NAME, " x", "is not a team name"),
    ],
)
def test_names_that_are_not_allowed(service: Service, name: str, new: str, what: str) -> None:
    with pytest.raises(LulcbenchError, match=what):
        rename(service.db, service.settings, name, new)


def test_a_team_may_change_the_case_of_its_name(service: Service, fill: Callable[..., list[str]]) -> None:
    fill({})
    assert rename(service.db, service.settings, NAME, "OURS") == 1
    assert {row["team"] for row in service.rows(level=4)} == {"OURS"}
