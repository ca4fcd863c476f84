"""Accounts: banned teams, tokens that end, names that deceive, withdrawals that are undone, commands of operators."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from leaderboard.settings import Settings
from leaderboard.store import standing
from leaderboard.store.accounts import ban, create_token, revoke_token
from leaderboard.store.db import Database, Token, now
from leaderboard.store.records import replay, verify
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import CARD, UPLOAD, Service, sign_in, wait_until


@pytest.mark.slow
@pytest.mark.parametrize("how", ["revoked", "banned"])
def test_what_a_team_without_access_has_in_the_queue_is_not_published(
    service: Service, predictions: dict[str, Path], how: str
) -> None:
    submission = service.submit(predictions["poor"])
    if how == "revoked":
        revoke_token(service.db, service.tokens["ours"])
    else:
        ban(service.db, "Ours")
    assert service.begin(b"abc").status_code == 401
    assert service.score()
    state = service.status(submission, "admin")
    assert state["status"] == "refused"
    assert "access of the team has ended" in state["error"]["what"]
    assert service.rows() == []
    assert not list(service.settings.ledger.glob("*/*.json"))
    if how == "banned":
        ban(service.db, "Ours", banned=False)
        standing.retry(service.db, submission)
        assert service.score()
        assert len(service.rows()) == 1


@pytest.mark.slow
def test_what_a_team_sent_is_published_though_its_token_expires(service: Service, predictions: dict[str, Path]) -> None:
    submission = service.submit(predictions["poor"])
    with service.db.write() as session:
        for token in session.query(Token):
            token.expires_at = now() - timedelta(seconds=1)
    assert service.begin(b"abc").status_code == 401
    assert service.score()
    assert [row["submission"] for row in service.rows()] == [submission]


def test_a_token_expires_and_its_last_use_is_known(service: Service) -> None:
    token = create_token(service.db, "Ours", days=2)
    headers = {"Authorization": f"Bearer {token}"}
    assert service.client.post("/api/v1/uploads", json=UPLOAD, headers=headers).status_code == 201
    with service.db.read() as session:
        used = session.get(Token, token.split("_")[1]).used_at  # type: ignore[union-attr]
    assert used is not None
    assert now() - used < timedelta(minutes=5)
    with time_machine.travel(now() + timedelta(days=2, minutes=1), tick=False):
        assert service.client.post("/api/v1/uploads", json=UPLOAD, headers=headers).status_code == 401


def test_a_team_revokes_its_own_tokens_only(service: Service) -> None:
    inside = sign_in(service)
    theirs, ours = (service.tokens[who].split("_")[1] for who in ("theirs", "ours"))
    post = service.client.post
    assert post(f"/tokens/{theirs}/revoke", data={"form_token": inside}).status_code == 404
    assert post(f"/tokens/{ours}/revoke", data={"form_token": ""}).status_code == 403
    assert ours in service.client.get("/mine").text
    assert post(f"/tokens/{ours}/revoke", data={"form_token": inside}).status_code == 303
    assert service.begin(b"abc").status_code == 401
    assert service.client.get("/mine").headers["location"] == "/login"
    assert service.begin(b"abc", "theirs").status_code == 201


def test_a_withdrawal_is_asked_once_and_can_be_undone_for_a_day(
    service: Service, fill: Callable[..., list[str]], tmp_path: Path
) -> None:
    (one,) = fill({})
    inside = sign_in(service)
    assert "Yes, withdraw it" in service.client.get("/mine").text
    for _ in range(2):
        service.client.post(f"/submissions/{one}/withdraw", data={"form_token": inside})
        assert service.rows() == []
        assert "Undo the withdrawal" in service.client.get("/mine").text
        service.client.post(f"/submissions/{one}/undo", data={"form_token": inside})
        assert [row["submission"] for row in service.rows()] == [one]
    names = sorted(path.name[21:] for path in service.settings.ledger.glob(f"*/{one}.*.json"))
    assert names == ["restored-001.json", "restored.json", "withdrawn-001.json", "withdrawn.json"]
    assert verify(service.db, service.settings) == ()
    settings = service.settings.model_copy(update={"data": tmp_path / "rebuilt"})
    assert shown_after_rebuild(settings) == "scored"
    service.client.post(f"/submissions/{one}/withdraw", data={"form_token": inside})
    with time_machine.travel(now() + timedelta(days=1, minutes=1), tick=False):
        answer = service.client.post(f"/api/v1/submissions/{one}/undo", headers=service.headers())
    assert answer.status_code == 409
    assert shown_after_rebuild(settings.model_copy(update={"data": tmp_path / "again"})) == "withdrawn"


def shown_after_rebuild(settings: Settings) -> str:
    settings.prepare()
    db = Database(settings.url)
    db.upgrade(settings.ledger)
    replay(db, settings)
    with db.read() as session:
        status = standing.visible(session, f"{1:020x}", None).status
    db.close()
    return status


def test_what_the_operator_hides_only_the_operator_shows_again(
    service: Service, fill: Callable[..., list[str]]
) -> None:
    (one,) = fill({})
    standing.withdraw(service.db, service.settings, standing.OPERATOR, one)
    assert "withdrawn by the operator" in service.client.get(f"/submissions/{one}").text
    answer = service.client.post(f"/api/v1/submissions/{one}/undo", headers=service.headers())
    assert (answer.status_code, service.rows()) == (409, [])
    standing.undo(service.db, service.settings, standing.OPERATOR, one)
    assert len(service.rows()) == 1


def test_signing_in_is_a_use_of_the_token(service: Service) -> None:
    sign_in(service)
    with service.db.read() as session:
        token = session.get(Token, service.tokens["ours"].split("_")[1])
        assert token is not None
        assert token.used_at is not None


def test_the_page_of_a_team_offers_newer_submissions_of_the_same_table(
    service: Service, fill: Callable[..., list[str]]
) -> None:
    old, new, theirs = fill({"name": "Old"}, {"name": "New"}, {"name": "Strange", "team": "Theirs"})
    inside = sign_in(service)
    page = service.client.get("/mine").text
    assert re.findall(r'<option value="(\w+)">(\w+), ', page) == [(new, "New")]
    answer = service.client.post(f"/submissions/{old}/supersede", data={"form_token": inside, "by": theirs})
    assert answer.status_code == 404
    answer = service.client.post(f"/submissions/{old}/supersede", data={"form_token": inside, "by": new})
    assert answer.headers["location"] == "/mine"
    assert {row["model"] for row in service.rows()} == {"New", "Strange"}
    page = service.client.get("/mine").text
    assert "(superseded)" in page
    assert "<option" not in page


def test_only_a_newer_submission_supersedes(service: Service, fill: Callable[..., list[str]]) -> None:
    old, new = fill({}, {})

    def supersede(one: str, by: str) -> int:
        url = f"/api/v1/submissions/{one}/supersede"
        return int(service.client.post(url, json={"by": by}, headers=service.headers()).status_code)

    assert supersede(new, old) == 409
    assert supersede(old, new) == 200


LOOK_ALIKES = {
    "same": "ours",
    "capitals": "OURS",
    "Cyrillic letter": "Our\u0455",
    "combining accent": "O\u0301urs",
    "Greek letter": "\u039furs",
    "digit": "0urs",
    "space at the end": "Ours ",
    "two spaces": "Team  A",
    "space at the start": " A",
    "filler": "A\u3164",
}


@pytest.mark.parametrize("name", LOOK_ALIKES.values(), ids=LOOK_ALIKES.keys())
def test_teams_cannot_be_mistaken_for_each_other(service: Service, name: str) -> None:
    with pytest.raises(LulcbenchError):
        create_token(service.db, name)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", "d\u0435mo"),
        ("name", "\u3164"),
        ("name", "\u2800"),
        ("name", "\u0301a"),
        ("name", "a" + "\u0301" * 5),
        ("authors", ["A\u200bB"]),
        ("code", "https://a.example/\u202egnp.exe"),
        ("paper", "https://a.example/\0"),
        ("weights", "https://a.example/\x7f"),
    ],
    ids=["Cyrillic", "filler", "blank", "accent", "accents", "zero width", "right to left", "null", "delete"],
)
def test_text_that_deceives_readers_is_refused_in_every_field(service: Service, field: str, text: Any) -> None:
    answer = service.begin(b"abc", **{field: text})
    assert answer.status_code == 422
    assert field in answer.json()["what"]
    assert (
        service.begin(b"abc", name="\u03b2-VAE, Universit\u00e9 \u041c\u043e\u0441\u043a\u0432\u0430").status_code
        == 201
    )
    assert CARD["name"] == "UNet"


def test_the_page_of_operators_names_damaged_files(service: Service, fill: Callable[..., list[str]]) -> None:
    (one,) = fill({})
    sign_in(service)
    assert service.client.get("/admin").status_code == 403
    service.client.cookies.clear()
    assert service.client.get("/admin").headers["location"] == "/login"
    sign_in(service, "admin")
    wait_until(lambda: "All files are intact" in service.client.get("/admin").text, "the ledger to be checked")
    assert "being checked" not in service.client.get("/admin").text
    (path,) = service.settings.ledger.glob(f"*/{one}.json")
    path.write_text("{}")
    ban(service.db, "Theirs")
    assert "being checked again" in service.client.get("/admin").text
    wait_until(lambda: path.name in service.client.get("/admin").text, "the ledger to be checked")
    assert "Theirs" in service.client.get("/admin").text
