"""The database against the ledger: what differs is told, and a rebuild takes over what the ledger states."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leaderboard.export import export
from leaderboard.store import backups, ledger, standing
from leaderboard.store.backups import backup, restore
from leaderboard.store.db import Database, Submission, touch
from leaderboard.store.records import replay, verify
from leaderboard.store.standing import OPERATOR
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service

A, B, C = (f"{number:020x}" for number in range(1, 4))


@pytest.fixture
def three(service: Service, fill: Callable[..., list[str]]) -> Service:
    fill({}, {"kind": "poor"}, {})
    return service


def state(db: Database, submission: str) -> tuple[str, str, str | None]:
    with db.read() as session:
        found = session.get_one(Submission, submission)
        return found.status, found.tier, found.superseded_by


def test_rows_that_were_altered_are_told_and_a_rebuild_takes_them_from_the_ledger(three: Service) -> None:
    standing.supersede(three.db, three.settings, OPERATOR, A, C)
    with three.db.write() as session:
        forged = session.get_one(Submission, A)
        assert forged.result is not None
        summary = forged.result.summary
        better = summary["levels"]["4"]["miou"] | {"value": 0.999}
        levels = summary["levels"] | {"4": summary["levels"]["4"] | {"miou": better}}
        forged.result.summary = summary | {"levels": levels}
        forged.superseded_by = None
        session.get_one(Submission, B).tier = "reproduced"
        touch(session)
    of_a, of_b = verify(three.db, three.settings)
    assert f"differs from the ledger in successor, scores of submission {A}" in of_a.what
    assert f"differs from the ledger in tier of submission {B}" in of_b.what
    assert replay(three.db, three.settings) == 0
    assert verify(three.db, three.settings) == ()
    assert state(three.db, A) == ("scored", "rescored", C)
    assert state(three.db, B) == ("scored", "rescored", None)
    assert 0.999 not in [row["miou"] for row in three.rows(superseded=True)]


def test_a_result_that_is_hidden_without_an_event_is_told_not_shown_and_not_exported(
    three: Service, tmp_path: Path
) -> None:
    with three.db.write() as session:
        session.get_one(Submission, A).status = "withdrawn"
    replay(three.db, three.settings)
    assert state(three.db, A)[0] == "withdrawn"  # as with a ledger from an older backup than the database
    (fault,) = verify(three.db, three.settings)
    assert f"in status of submission {A}" in fault.what
    with pytest.raises(LulcbenchError, match="nothing was exported"):
        export(three.db, three.settings, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_damaged_event_does_not_bring_back_what_an_earlier_one_stated(three: Service) -> None:
    db, settings = three.db, three.settings
    standing.withdraw(db, settings, OPERATOR, A)
    standing.undo(db, settings, OPERATOR, A)
    standing.withdraw(db, settings, OPERATOR, A)
    for tier in ("reproduced", "rescored"):
        standing.set_tier(db, settings, "operator", B, tier, "weights")
    for name in (f"{A}.withdrawn-001.json", f"{B}.tier-001.json"):
        (path,) = settings.ledger.glob(f"*/{name}")
        os.truncate(path, 20)
    assert replay(db, settings) == 0
    assert (state(db, A)[0], state(db, B)[1]) == ("withdrawn", "rescored")


def test_an_event_of_the_moment_is_not_undone_by_those_that_were_read_before(three: Service) -> None:
    db, settings = three.db, three.settings
    standing.withdraw(db, settings, OPERATOR, A)
    with db.write() as session:
        session.get_one(Submission, B).tier = "reported"  # something to take over
    loaded = ledger.load(settings.ledger)
    standing.undo(db, settings, OPERATOR, A)  # while the ledger is being read
    replay(db, settings, loaded)
    assert (state(db, A)[0], state(db, B)[1]) == ("scored", "rescored")


def test_what_is_withdrawn_during_a_backup_is_withdrawn_after_it_is_restored(
    three: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = backups._dump

    def and_withdraw(db: Database, target: Path) -> None:
        dump(db, target)
        standing.withdraw(three.db, three.settings, OPERATOR, A)

    monkeypatch.setattr(backups, "_dump", and_withdraw)
    assert backup(three.db, three.settings, tmp_path / "backup.tar") == []
    settings = three.settings.model_copy(update={"data": tmp_path / "data2", "ledger": tmp_path / "ledger2"})
    db = Database(settings.url)
    assert restore(db, settings, tmp_path / "backup.tar") == []
    assert (state(db, A)[0], state(db, B)[0]) == ("withdrawn", "scored")
    db.close()
