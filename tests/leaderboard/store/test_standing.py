"""Withdrawal, its undoing and supersession: whose word counts, and what they bring back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from leaderboard.errors import RequestError
from leaderboard.store import accounts, ledger, queue, standing
from leaderboard.store.accounts import Identity
from leaderboard.store.db import Database, Submission, Team, now
from leaderboard.store.records import prepare, replay
from tests.leaderboard.harness import CARD, Service

Fill = Callable[..., list[str]]


def team(service: Service, who: str = "ours") -> Identity:
    with service.db.read() as session:
        return accounts.identify(session, service.tokens[who])


def put(service: Service, who: str = "ours", **fields: Any) -> str:
    """A submission that is in the queue, or was refused."""
    with service.db.write() as session:
        name = secrets.token_hex(10)
        values = {
            "status": "queued",
            "tier": "rescored",
            "filename": "p.zip",
            "sha256": "0" * 64,
            "card": CARD,
        } | fields
        session.add(Submission(id=name, team_id=team(service, who).team_id, created_at=now(), **values | fields))
    return name


def status(service: Service, submission: str) -> str:
    with service.db.read() as session:
        found = session.get(Submission, submission)
        assert found is not None
        return found.status


def withdraw(service: Service, submission: str, who: Identity | None = None) -> None:
    standing.withdraw(service.db, service.settings, who or team(service), submission)


def undo(service: Service, submission: str, who: Identity | None = None) -> None:
    standing.undo(service.db, service.settings, who or team(service), submission)


def shown(service: Service, **choice: Any) -> set[str]:
    return {row["submission"] for row in service.rows(**choice)}


def test_what_the_operator_hides_its_team_cannot_bring_back(service: Service, fill: Fill) -> None:
    (scored,) = fill({})
    for one, before in ((scored, "scored"), (put(service), "queued")):
        withdraw(service, one)
        withdraw(service, one, standing.OPERATOR)
        withdraw(service, one)  # harmless, and does not take over
        with pytest.raises(RequestError, match="The operator withdrew"):
            undo(service, one)
        assert status(service, one) == "withdrawn"
        undo(service, one, standing.OPERATOR)
        assert status(service, one) == before
        withdraw(service, one, standing.OPERATOR)
        with pytest.raises(RequestError, match="The operator withdrew"):
            undo(service, one)
    assert "by the operator of this board" in service.client.get(f"/submissions/{scored}").text


def test_a_rebuilt_board_knows_who_withdrew(service: Service, fill: Fill) -> None:
    hidden, own = fill({}, {})
    for one in (hidden, own):
        withdraw(service, one)
    withdraw(service, hidden, standing.OPERATOR)
    url = f"sqlite:///{service.settings.data / 'rebuilt.sqlite'}"
    rebuilt = Database(url)
    prepare(rebuilt, service.settings)
    accounts.create_token(rebuilt, "Ours")
    replay(rebuilt, service.settings)
    with rebuilt.read() as session:
        (us,) = session.query(Team).filter_by(name="Ours")
        who = Identity("t", us.id, "Ours", "submit")
    with pytest.raises(RequestError, match="The operator withdrew"):
        standing.undo(rebuilt, service.settings, who, hidden)
    assert standing.undo(rebuilt, service.settings, who, own).status == "scored"
    rebuilt.close()


def test_undoing_the_withdrawal_of_a_refused_submission_does_not_queue_it(service: Service) -> None:
    refused = put(service, status="refused", what="It is wrong.", remedy="Correct it.", finished_at=now())
    withdraw(service, refused)
    undo(service, refused)
    assert status(service, refused) == "refused"
    assert service.status(refused)["error"]["what"] == "It is wrong."


def test_a_withdrawn_successor_brings_back_what_it_replaced(service: Service, fill: Fill) -> None:
    first, second, third = fill({}, {}, {})
    standing.supersede(service.db, service.settings, team(service), first, second)
    assert shown(service) == {second, third}
    withdraw(service, second)
    assert shown(service) == {first, third}
    assert service.status(first)["superseded_by"] is None
    assert "Superseded by" not in service.client.get(f"/submissions/{first}").text
    standing.supersede(service.db, service.settings, team(service), first, third)
    assert shown(service) == {third}
    undo(service, second)
    assert shown(service) == {second, third}
    assert service.status(first)["superseded_by"] == third
    with pytest.raises(RequestError, match="superseded already"):
        standing.supersede(service.db, service.settings, team(service), first, second)
    replay(service.db, service.settings)
    assert shown(service) == {second, third}
    assert not ledger.load(service.settings.ledger).faults


def test_the_last_of_several_successors_counts(service: Service, fill: Fill) -> None:
    first, second, third = fill({}, {}, {})
    standing.supersede(service.db, service.settings, team(service), first, second)
    standing.supersede(service.db, service.settings, team(service), second, third)
    withdraw(service, second)
    assert shown(service) == {third}
    assert service.status(first)["superseded_by"] == third
    withdraw(service, third, standing.OPERATOR)
    assert shown(service) == {first}


def test_a_team_undoes_the_withdrawal_of_a_submission_a_few_times_only(service: Service, fill: Fill) -> None:
    for one in (*fill({}), put(service)):
        for _ in range(standing.MAX_UNDOS):
            withdraw(service, one)
            undo(service, one)
        withdraw(service, one)
        files = len(list(service.settings.ledger.rglob("*.json")))
        with pytest.raises(RequestError, match="3 times, which is the limit"):
            undo(service, one)
        assert len(list(service.settings.ledger.rglob("*.json"))) == files
        undo(service, one, standing.OPERATOR)
        assert status(service, one) != "withdrawn"


def test_withdrawing_while_it_is_scored_does_not_keep_a_team_first(service: Service) -> None:
    one, other = put(service, "ours"), put(service, "theirs")
    job = queue.claim(service.db, service.settings, "worker")
    assert job is not None
    assert job.submission_id == one
    withdraw(service, one)
    undo(service, one)
    again = queue.claim(service.db, service.settings, "worker")
    assert again is not None
    assert again.submission_id == other


def test_the_migration_finds_out_who_withdrew(service: Service, fill: Fill) -> None:
    ours, hidden = fill({}, {})
    queued, refused = put(service), put(service, status="refused", what="It is wrong.", finished_at=now())
    withdraw(service, ours)
    withdraw(service, hidden, standing.OPERATOR)
    withdraw(service, queued, standing.OPERATOR)
    withdraw(service, refused)
    config = Config()
    config.set_main_option("script_location", "leaderboard/store/migrations")
    with service.db.engine.begin() as connection:
        config.attributes |= {"connection": connection, "ledger": service.settings.ledger}
        command.downgrade(config, "0004")
        columns = list(connection.exec_driver_sql("SELECT * FROM submission").keys())
        assert "withdrawn_by" not in columns
    service.db.upgrade(service.settings.ledger)
    with service.db.read() as session:
        found = {one.id: (one.withdrawn_by, one.status_before) for one in session.query(Submission)}
    assert found == {
        ours: ("team", "scored"),
        hidden: ("operator", "scored"),
        queued: ("operator", "queued"),
        refused: ("team", "refused"),
    }
