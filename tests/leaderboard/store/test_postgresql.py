"""The same service on a real PostgreSQL, where the machine has one; killed and started again while it works."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from leaderboard.settings import Settings
from leaderboard.store import ledger, queue
from leaderboard.store.accounts import create_token
from leaderboard.store.backups import backup, restore
from leaderboard.store.db import Audit, Base, Database
from leaderboard.store.records import replay
from leaderboard.web.app import create_app
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service
from tests.leaderboard.store.test_tables import check_migration, variant

pytestmark = pytest.mark.slow


class Server:
    """A PostgreSQL of its own, on a Unix socket only."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
        self._run("initdb", "--no-sync", "--auth=trust", "--username=board", "--encoding=UTF8", f"--pgdata={folder}/db")

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder} -c fsync=off"
        log = f"--log={self._folder}/log"
        self._run("pg_ctl", f"--pgdata={self._folder}/db", f"--options={options}", log, "--wait", "start")

    def stop(self) -> None:
        self._run("pg_ctl", f"--pgdata={self._folder}/db", "--mode=immediate", "--wait", "stop")

    def create(self, name: str) -> str:
        self._run("createdb", f"--host={self._folder}", "--username=board", name)
        return f"postgresql://board@/{name}?host={self._folder}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        # Output goes to a file: the server inherits it, and a pipe would never end.
        with (self._folder / "setup").open("ab") as log:
            subprocess.run(
                command, check=True, stdout=log, stderr=log, user=self._user, cwd=self._folder, timeout=60, env={}
            )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs = found[-1].parent if found else Path(shutil.which("initdb") or "").parent
    if not (programs / "initdb").is_file():
        pytest.skip("PostgreSQL is not installed here")
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        server = Server(programs, folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def on_postgresql(server: Server, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    settings = settings.model_copy(update={"database_url": server.create(f"board_{tmp_path.name[:20].lower()}")})
    app = create_app(settings)
    tokens = {"ours": create_token(app.state.db, "Ours"), "theirs": create_token(app.state.db, "Theirs")}
    with TestClient(app, follow_redirects=False) as client:
        yield Service(settings, client, app.state.db, tokens)


def test_submit_score_show(on_postgresql: Service, predictions: dict[str, Path]) -> None:
    service = on_postgresql
    with service.db.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    second = Database(service.settings.url)
    second.upgrade(service.settings.ledger)  # another process that starts finds nothing to do
    second.close()
    submissions = [service.submit(predictions["poor"], name=f"Model {i}") for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        claimed = list(pool.map(lambda i: queue.claim(service.db, service.settings, f"w{i}"), range(3)))
    assert {job.submission_id for job in claimed if job} == set(submissions)
    for number, job in enumerate(claimed):
        assert job is not None
        queue.put_back(service.db, f"w{number}", job, -1, "a test")
    while service.score():
        pass
    assert [row["submission"] for row in service.rows()] == submissions[:1]  # of the same predictions, the earliest
    with service.db.read() as session:
        assert session.query(Audit).filter_by(action="score.finish").count() == 3
    codes = []
    service.client.app.state.settings = service.settings.model_copy(update={"daily_submissions": 6})  # type: ignore[attr-defined]
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: service.begin(b"abc").status_code, range(16)))
    assert codes.count(201) == 3


def test_the_migration_fills_the_years_of_old_rows(on_postgresql: Service, results: dict[str, Any]) -> None:
    ids = {}
    for number, years in enumerate(((2018,), (2012,), (2012, 2018)), start=1):
        entry = ledger.write(on_postgresql.settings.ledger, variant(results, number, years))
        ids[entry.submission] = "-".join(map(str, years))
    replay(on_postgresql.db, on_postgresql.settings)
    check_migration(on_postgresql, ids)


def test_the_database_goes_away_and_comes_back(
    server: Server, on_postgresql: Service, predictions: dict[str, Path]
) -> None:
    service = on_postgresql
    submission = service.submit(predictions["poor"])
    job = queue.claim(service.db, service.settings.model_copy(update={"lease_s": 0.1}), "works while it goes away")
    assert job is not None
    server.stop()
    try:
        away = service.client.get(f"/api/v1/submissions/{submission}", headers=service.headers())
        assert (away.status_code, away.headers["retry-after"]) == (503, "2")
        assert "database" in away.json()["what"]
        with pytest.raises(OperationalError):
            queue.renew(service.db, service.settings, "works while it goes away", job)
    finally:
        server.start()
    time.sleep(0.1)
    assert service.status(submission)["status"] == "scoring"
    assert service.score()
    assert service.status(submission)["status"] == "scored"


def test_backup_and_restore(
    server: Server, on_postgresql: Service, predictions: dict[str, Path], tmp_path: Path
) -> None:
    service = on_postgresql
    service.submit(predictions["poor"], name="Kept")
    service.score()
    backup(service.db, service.settings, tmp_path / "backup.tar")
    fresh = {"database_url": server.create("restored"), "data": tmp_path / "data2", "ledger": tmp_path / "ledger2"}
    settings = service.settings.model_copy(update=fresh)
    restore(Database(settings.url), settings, tmp_path / "backup.tar")
    taken = settings.model_copy(update={"data": tmp_path / "data3", "ledger": tmp_path / "ledger3"})
    with pytest.raises(LulcbenchError, match="has tables already"):
        restore(Database(taken.url), taken, tmp_path / "backup.tar")
    assert not taken.data.exists()
    with TestClient(create_app(settings)) as client:
        assert [row["model"] for row in client.get("/api/v1/leaderboard").json()["rows"]] == ["Kept"]
