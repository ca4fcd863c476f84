"""Signing in with Hugging Face, against a server on loopback that speaks its protocol and checks ours."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

from leaderboard.settings import Settings
from leaderboard.store.accounts import MOST_ISSUED, ban, create_token
from leaderboard.store.db import now
from leaderboard.store.names import rename
from leaderboard.web.app import create_app
from tests.leaderboard.harness import UPLOAD, form_token

CLIENT, SECRET, CODE = "client-1", "secret-1", "code-1"


class Provider(BaseHTTPRequestHandler):
    """Issues one access token for ``CODE``, if client, secret, address and verifier fit."""

    user = "julia-b"
    subject = "64f0"
    challenge = ""

    def do_POST(self) -> None:
        form = {
            key: value[0]
            for key, value in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
        }
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        right = (
            self.path == "/oauth/token"
            and self.headers["Authorization"] == "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            and (form["code"], form["grant_type"]) == (CODE, "authorization_code")
            and form["redirect_uri"] == "http://testserver/login/huggingface/callback"
            and base64.urlsafe_b64encode(verifier).decode().rstrip("=") == Provider.challenge
        )
        self.answer(200 if right else 400, {"access_token": "access-1"} if right else {"error": "invalid_grant"})

    def do_GET(self) -> None:
        right = (self.path, self.headers["Authorization"]) == ("/oauth/userinfo", "Bearer access-1")
        self.answer(200 if right else 401, {"preferred_username": Provider.user, "sub": Provider.subject})

    def answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def provider() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Provider) as server:
        Provider.user, Provider.subject = "julia-b", "64f0"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def client(settings: Settings, provider: str) -> Iterator[TestClient]:
    given = {"huggingface_client_id": CLIENT, "huggingface_client_secret": SECRET, "huggingface_url": provider}
    with TestClient(create_app(settings.model_copy(update=given)), follow_redirects=False) as client:
        yield client


def begin(client: TestClient) -> str:
    """What the provider is told; the state."""
    answer = client.get("/login/huggingface")
    assert answer.status_code == 303
    query = {key: value[0] for key, value in parse_qs(urlsplit(answer.headers["location"]).query).items()}
    assert query["client_id"] == CLIENT
    assert query["code_challenge_method"] == "S256"
    Provider.challenge = query["code_challenge"]
    return query["state"]


def finish(client: TestClient, state: str, code: str = CODE) -> Any:
    page = client.get("/login/huggingface/callback", params={"code": code, "state": state})
    if page.status_code != 200:
        return page
    found = re.search(r'content="0;url=([^"]+)"', page.text)
    assert found
    return client.get(found[1].replace("&amp;", "&"))


def test_a_user_signs_in_and_is_a_team(client: TestClient) -> None:
    assert "Sign in with Hugging Face" in client.get("/login").text
    answer = finish(client, begin(client))
    assert (answer.status_code, answer.headers["location"]) == (303, "/submit")
    assert "julia-b (Hugging Face)" in client.get("/submit").text
    page = client.get("/mine").text
    assert page.count('<th scope="row"><code>') == 1  # one token, which no client can present
    token = re.findall(r"<code>([0-9a-f]{12})</code>", page)[0]
    for secret in ("huggingface", hashlib.sha256(b"huggingface").hexdigest(), "0" * 64):
        headers = {"Authorization": f"Bearer lb_{token}_{secret}"}
        assert client.post("/api/v1/uploads", json={}, headers=headers).status_code == 401
    client.cookies.clear()
    finish(client, begin(client))
    assert client.get("/mine").text.count('<th scope="row"><code>') == 1  # the same token


def test_answers_that_do_not_fit_are_refused(client: TestClient) -> None:
    state = begin(client)
    assert finish(client, state, "other-code").status_code == 502  # and the attempt is used up
    assert finish(client, state).status_code == 403
    assert finish(client, begin(client)[:-1] + "!").status_code == 403
    state = begin(client)
    client.cookies.clear()  # another browser: somebody else's sign-in is not accepted
    assert finish(client, state).status_code == 403
    assert client.get("/login/huggingface/callback", params={"error": "access_denied"}).status_code == 403
    state = begin(client)
    assert finish(client, state, '"><script>').status_code in (403, 502)
    Provider.user = "<b>"
    assert finish(client, begin(client)).status_code == 502
    assert client.get("/mine").headers["location"] == "/login"


def test_banned_and_look_alike_users(client: TestClient) -> None:
    db = client.app.state.db  # type: ignore[attr-defined]
    create_token(db, "JULIA-B (Hugging Face)")
    assert finish(client, begin(client)).status_code == 409
    Provider.user, Provider.subject = "tom", "64f1"
    assert finish(client, begin(client)).status_code == 303
    ban(db, "tom (Hugging Face)")
    assert client.get("/mine").headers["location"] == "/login"  # the session has ended
    assert finish(client, begin(client)).status_code == 403


def test_users_are_known_by_their_identifier_whatever_their_name(client: TestClient, settings: Settings) -> None:
    db = client.app.state.db  # type: ignore[attr-defined]
    assert finish(client, begin(client)).status_code == 303
    Provider.user = "julia-c"  # the same user with another name
    client.cookies.clear()
    assert finish(client, begin(client)).status_code == 303
    assert "julia-b (Hugging Face)" in client.get("/submit").text
    client.cookies.clear()
    Provider.user, Provider.subject = "julia-b", "77aa"  # another user, who took the name
    assert finish(client, begin(client)).status_code == 409
    rename(db, settings, "julia-b (Hugging Face)", "Former team 1")
    Provider.subject = "64f0"  # a removed name does not come back
    assert finish(client, begin(client)).status_code == 303
    assert "Former team 1" in client.get("/submit").text
    ban(db, "Former team 1")
    client.cookies.clear()
    assert finish(client, begin(client)).status_code == 403


def test_it_is_off_by_default(settings: Settings) -> None:
    with TestClient(create_app(settings), follow_redirects=False) as client:
        assert "Hugging Face" not in client.get("/login").text
        for path in ("", "/callback?code=a&state=b", "/finish?code=a&state=b"):
            assert client.get(f"/login/huggingface{path}").status_code == 404


def test_an_unreachable_provider_is_explained(settings: Settings) -> None:
    given = {"huggingface_client_id": CLIENT, "huggingface_url": "http://127.0.0.1:1"}
    with TestClient(create_app(settings.model_copy(update=given)), follow_redirects=False) as client:
        answer = finish(client, begin(client))
    assert answer.status_code == 502
    assert "did not confirm" in answer.text


def cells(page: str, token: str) -> list[str]:
    """Id, scope, creation, last use and state of a token in the list."""
    (row,) = (row for row in page.split("<tr>") if f"<code>{token}</code>" in row)
    return [re.sub("<[^>]*>", "", cell).strip() for cell in re.split("</t[hd]>", row)]


def test_users_issue_list_and_revoke_tokens_for_the_client(client: TestClient, settings: Settings) -> None:
    db = client.app.state.db  # type: ignore[attr-defined]
    finish(client, begin(client))
    inside = form_token(client.get("/mine").text)
    assert client.post("/tokens", data={"days": "30", "form_token": "0" * 64}).status_code == 403
    for days in ("", "0", "366", "-1", "1e3", "\u0663"):
        refused = client.post("/tokens", data={"days": days, "form_token": inside})
        assert (refused.status_code, "1 to 365 days" in refused.text) == (422, True)
    answer = client.post("/tokens", data={"days": "30", "form_token": inside})
    assert answer.headers["Cache-Control"] == "no-store"
    (token,) = re.findall(r"lb_[0-9a-f]{12}_[0-9a-f]{64}", answer.text)
    page, short = client.get("/mine").text, token.split("_")[1]
    assert token.split("_")[2] not in page  # shown once
    assert short in page
    assert (now() + timedelta(days=30)).strftime("expires %Y-%m-%d") in page
    headers = {"Authorization": f"Bearer {token}"}
    assert cells(page, short)[3] == "–"
    with TestClient(client.app, follow_redirects=False) as other:
        assert other.post("/api/v1/uploads", json=UPLOAD, headers=headers).status_code == 201
        # Signed in with it, no further ones are issued.
        other.post("/login", data={"token": token, "form_token": form_token(other.get("/login").text)})
        own = other.get("/mine").text
        assert "Issue a token" not in own
        assert other.post("/tokens", data={"days": "30", "form_token": form_token(own)}).status_code == 403
        assert cells(own, short)[3] == now().strftime("%Y-%m-%d")
        for _ in range(MOST_ISSUED - 1):
            assert client.post("/tokens", data={"days": "1", "form_token": inside}).status_code == 200
        assert client.post("/tokens", data={"days": "1", "form_token": inside}).status_code == 409
        assert client.post(f"/tokens/{short}/revoke", data={"form_token": inside}).status_code == 303
        assert other.post("/api/v1/uploads", json=UPLOAD, headers=headers).status_code == 401
        assert other.get("/mine").headers["location"] == "/login"
    assert client.post("/tokens", data={"days": "1", "form_token": inside}).status_code == 200
    ban(db, "julia-b (Hugging Face)")
    assert client.post("/tokens", data={"days": "1", "form_token": inside}).status_code == 401
