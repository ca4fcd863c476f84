"""What proxies, monitors, search engines and operators ask for."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from fastapi.testclient import TestClient

from leaderboard.__main__ import _at
from leaderboard.__main__ import app as command_line
from leaderboard.settings import Settings
from leaderboard.web.app import create_app
from tests.leaderboard.harness import Service

DEPLOY = Path(__file__).parents[3] / "deploy"


def test_health_follows_disk_and_database(service: Service) -> None:
    assert service.client.get("/healthz").json() == {"ok": True, "faults": []}
    free = shutil.disk_usage(service.settings.data).free
    full = service.settings.model_copy(update={"disk_reserve_bytes": 4 * free})
    service.client.app.state.settings = full  # type: ignore[attr-defined]
    answer = service.client.get("/healthz")
    assert answer.status_code == 503
    assert "scoring has paused" in answer.json()["faults"][0]
    with service.db.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE revision")
    assert "the database does not answer" in service.client.get("/healthz").json()["faults"]


@pytest.mark.slow
def test_numbers_for_prometheus(service: Service, predictions: dict[str, Path]) -> None:
    service.submit(predictions["poor"])
    service.client.get("/nowhere")
    text = service.client.get("/metrics").text
    assert 'board_submissions{state="queued"} 1.0' in text
    assert 'board_requests_total{method="GET",status="404"} 1.0' in text
    assert float(text.split("\nboard_oldest_waiting_seconds ")[1].split()[0]) > 0
    assert float(text.split('\nboard_disk_free_bytes{folder="data"} ')[1].split()[0]) > 0


def test_a_public_board_has_one_host_and_hsts(settings: Settings) -> None:
    public = settings.model_copy(update={"public_url": "https://board.example", "contact": "mailto:a@board.example"})
    with TestClient(create_app(public), base_url="http://other.example", follow_redirects=False) as client:
        answer = client.get("/history?level=2")
        assert (answer.status_code, answer.headers["location"]) == (308, "https://board.example/history?level=2")
        assert client.get("/healthz").status_code == 200
        answer = client.get("/", headers={"Host": "Board.example"})
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        text = client.get("/.well-known/security.txt", headers={"Host": "board.example"}).text
        assert "Contact: mailto:a@board.example\nExpires: 2" in text
        assert client.get("/history/", headers={"Host": "board.example"}).status_code == 404  # not a redirect


def test_without_a_public_address_nothing_is_redirected(service: Service) -> None:
    answer = service.client.get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 200
    assert "strict-transport-security" not in answer.headers
    assert service.client.get("/.well-known/security.txt").status_code == 404
    assert "Disallow: /compare" in service.client.get("/robots.txt").text


def test_link_checkers_and_caches_of_proxies_are_answered(service: Service) -> None:
    page = service.client.get("/about")
    head = service.client.head("/about")
    assert (head.status_code, head.content) == (200, b"")
    etag = page.headers["etag"]
    for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        assert service.client.get("/about", headers={"If-None-Match": value}).status_code == 304
    encodings = {"gzip": True, "br, gzip;q=0.5": True, "gzip;q=0": False, "gzip;q=0.0, br": False, "identity": False}
    for accepted, compressed in encodings.items():
        headers = service.client.get("/about", headers={"Accept-Encoding": accepted}).headers
        assert ("content-encoding" in headers) is compressed, accepted


def test_refused_requests_are_logged_without_their_secrets(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service.client.get("/api/v1/audit?x=secret", headers={"Authorization": "Bearer lb_wrong"})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "leaderboard.web.guard"]
    assert line.startswith("testclient GET /api/v1/audit 401 ")
    assert "secret" not in line
    service.client.get("/about")
    assert "GET /about" not in caplog.text


def commands() -> set[str]:
    return {command.name or command.callback.__name__ for command in command_line.registered_commands}  # type: ignore[union-attr]


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("systemd/*.service")), ids=lambda path: path.stem)
def test_units_run_commands_that_exist(unit: Path) -> None:
    words = unit.read_text().split("--config /etc/lulcbench/board.toml ")[1].split()
    assert words[0] in commands()
    assert isinstance(command_line, typer.Typer)


def test_containers_run_commands_that_exist_and_are_confined() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    started = re.findall(r"^    command: \[(\w+)", compose, re.MULTILINE)
    assert started == ["web", "worker"]
    assert set(started) <= commands()
    shared = compose.split("x-board: &board")[1].split("services:")[0]
    assert "read_only: true" in shared
    assert "cap_drop: [ALL]" in shared
    worker = compose.split("\n  worker:")[1].split("\n\n")[0]
    assert "networks: [back]" in worker
    assert "back: {internal: true}" in compose
    image = (DEPLOY / "Dockerfile").read_text()
    last = image.split("\nCMD ")[1]
    assert json.loads(last)[0] in commands()
    assert int(image.split("\nUSER ")[1].split()[0]) > 0


def test_the_example_of_settings_is_valid() -> None:
    settings = Settings(**tomllib.loads((DEPLOY / "board.toml").read_text()))
    assert settings.contact


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for unit in DEPLOY.glob("systemd/*"):
        text = unit.read_text().replace("/srv/lulcbench/.venv/bin/python", "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("User=board\nGroup=board\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True
    )
    faults = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "lulcbench" in line]
    assert not faults


def test_the_public_address_is_that_of_the_option_or_else_of_the_settings(tmp_path: Path) -> None:
    def address(url: str, **given: str) -> str:
        settings = Settings.model_validate({"data": tmp_path, "ledger": tmp_path} | given)
        context = cast(typer.Context, SimpleNamespace(obj=settings))
        return str(_at(context, url, "http://127.0.0.1:1").public_url)

    assert address("") == "http://127.0.0.1:1"
    assert address("", public_url="https://board.example.org") == "https://board.example.org"
    assert address("https://b.org", public_url="https://board.example.org") == "https://b.org"


def test_every_page_names_the_board_its_operator_and_the_data(settings: Settings) -> None:
    named = {
        "title": "Land cover of <Freedonia>",
        "operator": "Institute & Co.",
        "contact": "mailto:board@example.org",
        "data_url": "https://example.org/data",
    }
    app = create_app(settings.model_copy(update=named))
    with TestClient(app, base_url="http://testserver") as client:
        for path in ("/", "/history", "/parts", "/about", "/policy", "/ledger", "/docs", "/login", "/nothing"):
            text = client.get(path).text
            assert "Land cover of &lt;Freedonia&gt;" in text.split("<title>")[1].split("</title>")[0], path
            foot = text.split("<footer>")[1]
            for expected in ("Institute &amp; Co.", "mailto:board@example.org", "https://example.org/data"):
                assert expected in foot, (path, expected)
            assert "lulcbench leaderboard" not in text, path
            assert "github.com/lulcbench" not in text, path
        assert "<title>Land cover of &lt;Freedonia&gt;</title>" in client.get("/feed.atom").text
        assert client.get("/api/v1/openapi.json").json()["info"]["title"] == named["title"]


def test_a_board_without_an_operator_names_none(service: Service) -> None:
    assert "Operated by" not in service.client.get("/").text
    assert "Contact the operator" not in service.client.get("/").text
