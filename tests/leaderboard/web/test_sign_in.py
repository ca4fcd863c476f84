"""Tokens, sessions and forms: who may do what, and for how long."""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
import time_machine
from itsdangerous import TimestampSigner

from leaderboard.store.accounts import begin_session, create_token, revoke_token
from leaderboard.web.sessions import COOKIE, LIFETIME, LIFETIME_S
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import UPLOAD, Service


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer x",
        "Bearer lb_000000000000_" + "0" * 64,
        "Basic bGI6bGI=",
        "Bearer lb_' OR 1=1 --",
        "Bearer " + "a" * 5000,
    ],
    ids=["none", "no token", "short", "unknown", "another scheme", "SQL", "long"],
)
def test_without_a_valid_token_nothing_begins(service: Service, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    answer = service.client.post("/api/v1/uploads", json=UPLOAD, headers=headers)
    assert answer.status_code == 401
    assert set(answer.json()) == {"what", "remedy"}
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_valid_id_with_a_wrong_secret_is_not_a_token(service: Service) -> None:
    forged = service.tokens["ours"][:-64] + "0" * 64
    answer = service.client.post("/api/v1/uploads", json=UPLOAD, headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401


def test_a_revoked_token_is_useless_at_once(service: Service) -> None:
    assert service.begin(b"abc").status_code == 201
    revoke_token(service.db, service.tokens["ours"])
    assert service.begin(b"abc").status_code == 401
    with pytest.raises(LulcbenchError, match="no token"):
        revoke_token(service.db, "000000000000")


def test_secrets_are_not_stored(service: Service) -> None:
    secret = service.tokens["ours"].split("_")[2]
    content = b"".join(path.read_bytes() for path in service.settings.data.rglob("*") if path.is_file())
    assert service.tokens["ours"].split("_")[1].encode() in content
    assert secret.encode() not in content


def test_scopes(service: Service, fill: Callable[..., list[str]]) -> None:
    (one,) = fill({})
    body = {"tier": "reproduced", "evidence": "weights v1 on our machine"}
    for path, send in (
        ("/api/v1/audit", service.client.get),
        (f"/api/v1/submissions/{one}/tier", lambda url, headers: service.client.post(url, json=body, headers=headers)),
    ):
        assert send(path, headers={}).status_code == 401
        assert send(path, headers=service.headers("ours")).status_code == 403
        assert send(path, headers=service.headers("admin")).status_code == 200
    assert service.rows()[0]["tier"] == "reproduced"
    with pytest.raises(LulcbenchError, match="no scope"):
        create_token(service.db, "Ours", "root")


def test_another_teams_submission_does_not_exist(
    service: Service, predictions: dict[str, Path], fill: Callable[..., list[str]]
) -> None:
    upload = service.begin(b"abc").json()["upload_id"]
    queued = service.submit(predictions["poor"])
    (scored,) = fill({})
    theirs = service.headers("theirs")
    client = service.client
    for answer in (
        client.get(f"/api/v1/uploads/{upload}", headers=theirs),
        client.put(f"/api/v1/uploads/{upload}?offset=0", content=b"abc", headers=theirs),
        client.post(f"/api/v1/uploads/{upload}/complete", headers=theirs),
        client.get(f"/api/v1/submissions/{queued}", headers=theirs),
        client.get(f"/api/v1/submissions/{queued}"),
        client.get(f"/submissions/{queued}"),
        client.post(f"/api/v1/submissions/{queued}/withdraw", headers=theirs),
        client.post(f"/api/v1/submissions/{scored}/withdraw", headers=theirs),
        client.post(f"/api/v1/submissions/{scored}/supersede", json={"by": queued}, headers=theirs),
    ):
        assert answer.status_code == 404, answer.url
    assert service.status(queued)["status"] == "queued"
    assert [row["submission"] for row in service.rows()] == [scored]
    # A wrong id and somebody else's give the same answer, so that guessing teaches nothing.
    assert (
        client.get(f"/api/v1/submissions/{queued}", headers=theirs).json()
        == client.get("/api/v1/submissions/" + "0" * 20, headers=theirs).json()
    )


def test_forms_from_elsewhere_are_refused(service: Service, predictions: dict[str, Path]) -> None:
    client = service.client
    token = _form_token(client.get("/login").text)
    ours = {"token": service.tokens["ours"], "form_token": token}
    assert client.post("/login", data=ours | {"form_token": ""}).status_code == 403
    assert client.post("/login", data=ours | {"form_token": "0" * 64}).status_code == 403
    assert client.post("/login", data=ours, headers={"Origin": "https://evil.example"}).status_code == 403
    other = client.post("/login", data=ours, headers={"Origin": "http://localhost"})
    assert other.status_code == 403
    assert "another address" in other.text
    assert "Open http://testserver instead" in other.text
    assert client.post("/login", data=ours, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    signed_in = client.post("/login", data=ours, headers={"Origin": "http://testserver"})
    assert signed_in.status_code == 303
    cookie, *attributes = signed_in.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict"} <= set(attributes)
    content = b64decode(signed_in.headers["set-cookie"].partition("=")[2].partition(".")[0])
    assert sorted(json.loads(content)) == ["form_token", "session"]
    assert service.tokens["ours"].split("_")[2] not in cookie + content.decode()
    queued = service.submit(predictions["poor"])
    # The token of the session before signing in no longer counts.
    for path in ("/logout", f"/submissions/{queued}/withdraw"):
        assert client.post(path, data={"form_token": token}).status_code == 403
    assert client.post(f"/submit?form_token={token}", files={"predictions": b"x"}).status_code == 403
    assert service.status(queued)["status"] == "queued"


def _cookie(service: Service, secret: str, age_s: int = 0) -> str:
    """A cookie of somebody signed in, made ``age_s`` seconds ago."""
    number = begin_session(service.db, service.tokens["ours"].split("_")[1], LIFETIME)
    content = {"session": number, "form_token": "0" * 64}
    with time_machine.travel(time.time() - age_s, tick=False):
        return TimestampSigner(secret).sign(b64encode(json.dumps(content).encode())).decode()


def test_a_cookie_counts_with_the_right_signature_alone(service: Service) -> None:
    client = service.client
    secret = (service.settings.data / "secret.key").read_bytes().hex()
    good = _cookie(service, secret)
    content, _, signature = good.partition(".")
    client.cookies.set(COOKIE, good)
    assert client.get("/mine").status_code == 200
    forged = [
        _cookie(service, "0" * 64),
        _cookie(service, secret, age_s=LIFETIME_S + 10),
        f"{content[:-4]}AAAA.{signature}",
        content,
        f"{content}..",
        "",
        "null",
        "\u00ff.\u00ff.\u00ff".encode().decode("latin-1"),
    ]
    for cookie in forged:
        client.cookies.clear()
        answer = client.get("/mine", headers={"Cookie": f"{COOKIE}={cookie}".encode("latin-1")})
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), cookie


def test_signing_out_forgets_the_browser(service: Service) -> None:
    client = service.client
    assert "set-cookie" not in client.get("/").headers
    token = _form_token(client.get("/login").text)
    assert _form_token(client.get("/login").text) == token  # two tabs work side by side
    assert client.post("/login", data={"token": service.tokens["ours"], "form_token": token}).status_code == 303
    inside = _form_token(client.get("/submit").text)
    assert inside != token
    copy = client.cookies[COOKIE]
    out = client.post("/logout", data={"form_token": inside})
    assert (out.status_code, out.headers["location"]) == (303, "/")
    assert COOKIE not in client.cookies
    assert client.get("/mine", headers={"Cookie": f"{COOKIE}={copy}"}).headers["location"] == "/login"
    assert client.get("/mine").headers["location"] == "/login"
    assert client.post("/logout", data={"form_token": inside}).status_code == 403
    assert client.post("/logout", data={"form_token": ""}).status_code == 403


def test_a_session_ends_with_its_token(service: Service) -> None:
    client = service.client
    token = _form_token(client.get("/login").text)
    client.post("/login", data={"token": service.tokens["ours"], "form_token": token})
    assert client.get("/mine").status_code == 200
    revoke_token(service.db, service.tokens["ours"])
    assert client.get("/mine").headers["location"] == "/login"


def test_a_form_is_weighed_before_it_is_read(
    service: Service, predictions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service.client
    client.post("/login", data={"token": service.tokens["ours"], "form_token": _form_token(client.get("/login").text)})
    url = f"/submit?form_token={_form_token(client.get('/submit').text)}"
    content = predictions["poor"].read_bytes()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    too_large = headers | {"Content-Length": str(10**12)}
    assert client.post(url, content=b"", headers=too_large).status_code == 413
    assert client.post(url, content=iter([content]), headers=headers).status_code == 411  # sent in pieces
    client.app.state.settings = service.settings.model_copy(update={"disk_reserve_bytes": 2**60})
    assert client.post(url, files={"predictions": content}).status_code == 507
    client.app.state.settings = service.settings.model_copy(update={"daily_submissions": 1})
    assert service.begin(b"abc").status_code == 201
    spooled: list[object] = []
    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", lambda **_: spooled.append(1))
    assert client.post(url, files={"predictions": content}).status_code == 429
    assert not spooled


def _form_token(page: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]
