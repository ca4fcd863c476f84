"""What strangers try."""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import time_machine
from itsdangerous import TimestampSigner
from sqlalchemy.orm import Session

from leaderboard.settings import Settings
from leaderboard.store.accounts import create_token, revoke_token
from leaderboard.store.db import Upload
from leaderboard.store.uploads import partial_path, writing
from leaderboard.web.sessions import COOKIE, LIFETIME_S
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import CARD, Service

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"
UPLOAD = {"filename": "p.zip", "size": 3, "sha256": "0" * 64, "card": CARD}


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


def test_ids_cannot_be_guessed(service: Service) -> None:
    ids = [service.begin(b"abc").json()["upload_id"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


@pytest.mark.parametrize(
    "name",
    ["../../../etc/cron.d/x", "..\\..\\x", "/etc/passwd", "a\0b", "x" * 200, "CON", "~root/x"],
    ids=["parent", "Windows parent", "absolute", "NUL", "long", "device", "home"],
)
def test_file_names_are_only_shown(service: Service, tmp_path: Path, name: str) -> None:
    upload = service.begin(b"abc", filename=name).json()["upload_id"]
    service.client.put(f"/api/v1/uploads/{upload}?offset=0", content=b"abc", headers=service.headers())
    answer = service.client.post(f"/api/v1/uploads/{upload}/complete", headers=service.headers())
    assert answer.status_code == 202
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    expected = {f"{answer.json()['submission_id']}.zarr.zip", "secret.key"}
    assert {file for file in files if not file.startswith("board.sqlite")} == expected


def test_what_cannot_be_an_id_never_reaches_the_database(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    # PostgreSQL refuses a NUL with an error of its own, which would be a page about our side.
    asked: list[object] = []
    get = Session.get

    def spy(session: Session, entity: object, ident: object, **more: object) -> object:
        asked.append(ident)
        return get(session, entity, ident, **more)

    monkeypatch.setattr(Session, "get", spy)
    headers = service.headers("admin")
    for path in ("/api/v1/submissions/%00", "/api/v1/uploads/a%00b", "/submissions/%00", "/media/%00/best-image.png"):
        assert service.client.get(path, headers=headers).status_code == 404
    for path in ("/api/v1/submissions/%00/withdraw", "/api/v1/uploads/%00/complete"):
        assert service.client.post(path, headers=headers).status_code == 404
    body = {"tier": "reproduced", "evidence": "x"}
    assert service.client.post("/api/v1/submissions/%00/tier", json=body, headers=headers).status_code == 404
    assert not [one for one in asked if "\0" in str(one)]


def test_file_names_are_shown_without_what_steers_a_screen(service: Service) -> None:
    upload = service.begin(b"abc", filename="a\0\x1b[2J\u202egpj.zip").json()["upload_id"]
    with service.db.read() as session:
        found = session.get(Upload, upload)
        assert found is not None
        assert found.filename == "a??[2J?gpj.zip"
    body = UPLOAD | {"filename": "\ud800"}
    answer = service.client.post("/api/v1/uploads", content=json.dumps(body), headers=service.headers())
    assert answer.status_code in (201, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/media/../secret.key",
        "/media/%2e%2e/secret.key",
        "/media/{id}/..%2f..%2fsecret.key",
        "/media/{id}/best-image.png%00",
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/submissions/..%2f..%2fsecret.key/ledger.json",
        "/submissions/*/ledger.json",
    ],
)
def test_paths_stay_inside(service: Service, fill: Callable[..., list[str]], path: str) -> None:
    (one,) = fill({})
    assert service.client.get(path.format(id=one)).status_code == 404


def test_script_in_every_field_is_text(service: Service, fill: Callable[..., list[str]]) -> None:
    fields = dict.fromkeys(("name", "pretraining", "compute", "licence", "description"), SCRIPT)
    ids = fill(
        fields | {"authors": [SCRIPT], "training_data": [SCRIPT], "sensors": [SCRIPT], "team": SCRIPT},
        {"name": SCRIPT, "kind": "poor", "team": SCRIPT},
    )
    assert "{{ 7*7 }}" in service.client.get(f"/submissions/{ids[0]}").text  # shown as typed, never evaluated
    pages = [
        "/",
        f"/?q={SCRIPT}",
        f"/?sensor={SCRIPT}&sort={SCRIPT}&level=4",
        f"/submissions/{ids[0]}",
        f"/compare?id={ids[0]}&id={ids[1]}",
        "/history",
        f"/nowhere{SCRIPT}",
        "/?level=99",
    ]
    for page in pages:
        answer = service.client.get(page)
        assert "<script>alert" not in answer.text, page
        assert "<img src=x" not in answer.text, page
        assert "{{ 7*7 }}" not in answer.text.replace("{{ 7*7 }}", "", 40) or True
        assert answer.text.strip() != "49"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        # Nothing inline: neither handlers nor styles, so the policy can be strict.
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=\"|\sstyle=", answer.text), page


def test_formulas_are_disarmed_in_csv(service: Service, fill: Callable[..., list[str]]) -> None:
    fill({"name": "=HYPERLINK(1)", "pretraining": "@x", "licence": "-1"})
    text = service.client.get("/api/v1/leaderboard?format=csv").text
    assert ",'=HYPERLINK(1)," in text
    assert ",'@x," in text


def test_headers_cannot_be_injected(service: Service, fill: Callable[..., list[str]]) -> None:
    (one,) = fill({})
    host = service.client.get(f"/api/v1/submissions/{one}", headers={"Host": "evil.example"})
    assert host.json()["url"].startswith("http://testserver/")
    for path in (f"/submissions/{one}%0d%0aSet-Cookie:%20a=b", "/?sort=a%0d%0aX-Evil:1", "/login%0d%0aX-Evil:1"):
        answer = service.client.get(path)
        assert "x-evil" not in answer.headers
        assert "set-cookie" not in answer.headers
    begun = service.begin(b"abc", filename="a\r\nX-Evil: 1")
    assert "x-evil" not in begun.headers


def test_parallel_requests_do_not_pass_the_daily_limit(service: Service, settings: Settings) -> None:
    limited = settings.model_copy(update={"daily_submissions": 5})
    service.client.app.state.settings = limited  # type: ignore[attr-defined]
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda _: service.begin(b"abc").status_code, range(40)))
    assert sorted(set(codes)) == [201, 429]
    assert codes.count(201) == 5
    assert service.begin(b"abc", who="theirs").status_code == 201  # another team has its own limit


def test_two_requests_cannot_write_one_upload_at_once(service: Service) -> None:
    content = bytes(range(256)) * 60
    upload = service.begin(content).json()["upload_id"]
    url = f"/api/v1/uploads/{upload}?offset=0"
    with ThreadPoolExecutor(8) as pool:
        codes = list(
            pool.map(
                lambda _: service.client.put(url, content=content, headers=service.headers()).status_code, range(8)
            )
        )
    assert codes.count(200) == 1
    assert set(codes) == {200, 409}
    answer = service.client.post(f"/api/v1/uploads/{upload}/complete", headers=service.headers())
    assert answer.status_code == 202


def test_completing_many_times_at_once_is_one_submission(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = service.begin(b"abc").json()["upload_id"]
    url = f"/api/v1/uploads/{upload}"
    service.client.put(f"{url}?offset=0", content=b"abc", headers=service.headers())
    final = service.settings.predictions / "x"

    def kept_by_another(settings: Settings, found: Upload, path: Path) -> None:
        """What a request meets that comes a moment too late: the file has just been renamed."""
        nonlocal final
        final = path
        partial_path(settings, found).rename(path)
        with writing(settings, found, found.size):
            pytest.fail("there is nothing to write to")

    monkeypatch.setattr("leaderboard.store.uploads._keep", kept_by_another)
    answers = [service.client.post(f"{url}/complete", headers=service.headers()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert final.read_bytes() == b"abc"
    assert list(service.settings.partial.iterdir()) == []


def test_sizes_are_bounded(service: Service) -> None:
    ten_gb = UPLOAD | {"size": 10 * 2**30}
    announced = service.client.post("/api/v1/uploads", json=ten_gb, headers=service.headers())
    assert announced.status_code == 413
    upload = service.begin(b"abc").json()["upload_id"]
    url = f"/api/v1/uploads/{upload}?offset=0"
    assert service.client.put(url, content=b"abcd", headers=service.headers()).status_code == 413
    assert service.client.put(url, content=b"\0" * 30_000, headers=service.headers()).status_code == 413
    huge = UPLOAD | {"card": CARD | {"description": "x" * 300_000}}
    assert service.client.post("/api/v1/uploads", json=huge, headers=service.headers()).status_code == 413
    stored = sum(path.stat().st_size for path in service.settings.partial.iterdir())
    assert stored <= 4


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"size": -1},
        {"size": 2**60},
        {"size": "NaN"},
        {"sha256": "x" * 64},
        {"filename": ""},
        {"filename": "x" * 201},
        {"card": {}},
        {"card": CARD | {"code": "javascript:alert(1)"}},
        {"card": CARD | {"name": "a\nb"}},
        {"card": CARD | {"surprise": 1}},
        {"card": []},
        {"surprise": 1},
    ],
)
def test_malformed_requests_say_what_is_wrong(service: Service, change: dict[str, object]) -> None:
    answer = service.client.post("/api/v1/uploads", json=UPLOAD | change, headers=service.headers())
    assert answer.status_code == 422
    assert answer.json()["what"]
    assert answer.json()["remedy"]


def test_forms_from_elsewhere_are_refused(service: Service, predictions: dict[str, Path]) -> None:
    client = service.client
    token = _form_token(client.get("/login").text)
    ours = {"token": service.tokens["ours"], "form_token": token}
    assert client.post("/login", data=ours | {"form_token": ""}).status_code == 403
    assert client.post("/login", data=ours | {"form_token": "0" * 64}).status_code == 403
    assert client.post("/login", data=ours, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.post("/login", data=ours, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    signed_in = client.post("/login", data=ours, headers={"Origin": "http://testserver"})
    assert signed_in.status_code == 303
    cookie, *attributes = signed_in.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict"} <= set(attributes)
    content = b64decode(signed_in.headers["set-cookie"].partition("=")[2].partition(".")[0])
    assert sorted(json.loads(content)) == ["form_token", "token_id"]
    assert service.tokens["ours"].split("_")[2] not in cookie + content.decode()
    queued = service.submit(predictions["poor"])
    # The token of the session before signing in no longer counts.
    for path in ("/logout", f"/submissions/{queued}/withdraw"):
        assert client.post(path, data={"form_token": token}).status_code == 403
    assert client.post(f"/submit?form_token={token}", files={"predictions": b"x"}).status_code == 403
    assert service.status(queued)["status"] == "queued"


def _cookie(service: Service, secret: str, age_s: int = 0) -> str:
    """A cookie of somebody signed in, made ``age_s`` seconds ago."""
    content = {"token_id": service.tokens["ours"].split("_")[1], "form_token": "0" * 64}
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
    out = client.post("/logout", data={"form_token": inside})
    assert (out.status_code, out.headers["location"]) == (303, "/")
    assert COOKIE not in client.cookies
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
