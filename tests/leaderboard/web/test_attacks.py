"""Attacks on the web service: paths, scripts, sizes, parallel and malformed requests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from leaderboard.settings import Settings
from leaderboard.store.db import Upload
from leaderboard.store.uploads import partial_path, writing
from tests.leaderboard.harness import CARD, UPLOAD, Service

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"


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
