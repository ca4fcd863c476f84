"""Room on the disk: what may be announced, what is kept free, what is cleaned up, and what a full disk cannot break."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from leaderboard.scoring.worker import Worker
from leaderboard.settings import Settings
from leaderboard.store import ledger, uploads
from leaderboard.store.accounts import create_token
from leaderboard.store.db import Submission, Upload, now
from leaderboard.web.app import create_app
from lulcbench.errors import LulcbenchError
from lulcbench.predictions import archive_limits
from lulcbench.release import Manifest
from tests.leaderboard.harness import CARD, Service, wait_until
from tests.leaderboard.test_faults import CANNED, HOSTILE, finished, with_scorer

MIB = 2**20
UPLOAD = {"filename": "p.zip", "size": 3, "sha256": "0" * 64, "card": CARD}


def use(service: Service, **changes: Any) -> None:
    """Other settings, from the next request on."""
    service.settings = service.settings.model_copy(update=changes)
    service.client.app.state.settings = service.settings  # type: ignore[attr-defined]


def announce(service: Service, size: int, who: str = "ours") -> Any:
    return service.client.post("/api/v1/uploads", json=UPLOAD | {"size": size}, headers=service.headers(who))


def test_no_file_is_larger_than_the_releases_allow(service: Service) -> None:
    (root,) = service.settings.releases
    most, _ = archive_limits(Manifest.load(root))
    assert most < service.settings.max_upload_bytes
    refused = announce(service, most + 1)
    assert refused.status_code == 413
    assert f"{most:,}" in refused.json()["what"]
    assert announce(service, most).status_code == 201
    # The web may run where the releases are not.
    for releases in ((), (root / "nowhere",)):
        use(service, releases=releases)
        assert announce(service, most + 1).status_code == 201


def test_a_team_cannot_reserve_the_disk(service: Service) -> None:
    use(service, max_open_bytes=1000)
    assert announce(service, 600).status_code == 201
    second = announce(service, 600)
    assert second.status_code == 429
    assert "600 bytes; the limit is 1,000" in second.json()["what"]
    assert announce(service, 600, "theirs").status_code == 201
    assert announce(service, 400).status_code == 201
    with service.db.read() as session:
        assert session.query(Upload).count() == 3


def test_what_is_announced_is_reserved(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10_000
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free))  # type: ignore[attr-defined]
    use(service, disk_reserve_bytes=1000)
    assert announce(service, 9001).status_code == 507
    upload = announce(service, 6000).json()["upload_id"]
    assert announce(service, 3001, "theirs").status_code == 507
    service.client.put(f"/api/v1/uploads/{upload}?offset=0", content=b"x" * 4000, headers=service.headers())
    free = 6000  # bytes that have arrived are on the disk already and not reserved again
    assert announce(service, 3001, "theirs").status_code == 507
    assert announce(service, 3000, "theirs").status_code == 201


def test_the_reserve_is_kept_piece_by_piece(service: Service) -> None:
    upload = announce(service, 3000).json()["upload_id"]
    url = f"/api/v1/uploads/{upload}"
    service.client.put(f"{url}?offset=0", content=b"x" * 1000, headers=service.headers())
    real = service.settings.disk_reserve_bytes
    use(service, disk_reserve_bytes=2**60)
    full = service.client.put(f"{url}?offset=1000", content=b"x" * 1000, headers=service.headers())
    assert full.status_code == 507
    assert service.client.get(url, headers=service.headers()).json()["offset"] == 1000
    use(service, disk_reserve_bytes=real)
    assert service.client.put(f"{url}?offset=1000", content=b"x", headers=service.headers()).json() == {"offset": 1001}


def test_a_worker_rests_while_the_disk_is_full(
    service: Service, predictions: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    submission = service.submit(predictions["poor"])
    worker = Worker(service.db, service.settings.model_copy(update={"disk_reserve_bytes": 2**60}))
    assert not worker.step()
    assert not worker.step()
    assert caplog.text.count("disk_reserve_bytes is free") == 1
    assert service.status(submission)["status"] == "queued"


def test_uploads_that_nobody_continues_are_forgotten(service: Service) -> None:
    content = b"x" * 3000
    stale, slow, fresh = (service.begin(content).json()["upload_id"] for _ in range(3))
    paths = {}
    for upload in (stale, slow, fresh):
        service.client.put(f"/api/v1/uploads/{upload}?offset=0", content=content[:1000], headers=service.headers())
        paths[upload] = service.settings.partial / f"{upload}.part"
    ago = now() - timedelta(days=3)
    os.utime(paths[stale], (ago.timestamp(), ago.timestamp()))
    with service.db.write() as session:
        for upload in (stale, slow):  # both begun long ago, but something of ``slow`` has just arrived
            found = session.get(Upload, upload)
            assert found is not None
            found.created_at = ago
    with service.db.read() as session:
        row = session.get(Upload, stale)
        who = uploads.accounts.identify(session, service.tokens["ours"])
    Worker(service.db, service.settings).housekeep()
    assert [path.exists() for path in paths.values()] == [False, True, True]
    gone = service.client.get(f"/api/v1/uploads/{stale}", headers=service.headers())
    assert gone.status_code == 404  # the client then starts a new upload
    # A request that was completing it meanwhile must not say that all went well.
    assert row is not None
    uploads.predictions_path(service.settings, row.submission_id).write_bytes(content)
    with pytest.raises(LulcbenchError, match="no such upload"):
        uploads.complete(service.db, service.settings, who, row)
    assert list(service.settings.predictions.iterdir()) == []


@pytest.mark.slow
def test_folders_of_killed_workers_are_swept(service: Service, predictions: dict[str, Path]) -> None:
    text = HOSTILE.format(body="time.sleep(60)")
    settings = with_scorer(service.settings, text, lease_s=0.2)
    service.submit(predictions["poor"])
    command = [sys.executable, "-m", "leaderboard", "worker", "--parent", str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(settings.model_dump_json())
    try:
        wait_until(lambda: list(settings.data.glob(".scoring-*/stderr")), "the worker to begin")
        Worker(service.db, settings).housekeep()  # another worker, which starts meanwhile
        assert len(list(settings.data.glob(".scoring-*"))) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(settings.data.glob(".scoring-*"))) == 1

    def swept() -> bool:
        Worker(service.db, settings).housekeep()
        return not list(settings.data.glob(".scoring-*"))

    wait_until(
        swept, "the folder to be swept"
    )  # a child that the worker was just starting holds the lock a moment longer


@pytest.fixture
def small(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """A board whose database, uploads and ledger share a real file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        here = {"data": disk / "data", "ledger": disk / "ledger", "disk_reserve_bytes": MIB}
        app = create_app(settings.model_copy(update=here))
        tokens = {"ours": create_token(app.state.db, "Ours"), "theirs": create_token(app.state.db, "Theirs")}
        with TestClient(app, follow_redirects=False) as client:
            yield Service(app.state.settings, client, app.state.db, tokens)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_real_disk_that_fills_up(
    small: Service, predictions: dict[str, Path], results: dict[str, Any], tmp_path: Path
) -> None:
    """Uploads, database and ledger run out of space at every step; once there is space, each step ends as it should."""
    disk, filler = tmp_path / "disk", tmp_path / "disk" / "filler"
    result = tmp_path / "result.json"
    result.write_text(json.dumps(results["poor"]))

    def fill(leave: int) -> None:
        size = shutil.disk_usage(disk).free - leave
        with filler.open("wb") as file:
            file.write(b"\0" * size)

    first = announce(small, 2 * MIB)
    assert first.status_code == 201
    assert announce(small, 6 * MIB, "theirs").status_code == 507  # together with what is announced
    url = f"/api/v1/uploads/{first.json()['upload_id']}?offset=0"
    fill(leave=MIB + 10_000)  # now somebody else takes the space
    assert small.client.put(url, content=b"x" * 15_000, headers=small.headers()).status_code == 507
    filler.unlink()

    content = predictions["poor"].read_bytes()
    waiting = small.submit(predictions["poor"], name="Waits")
    use(small, disk_reserve_bytes=0)  # without the reserve
    steps: list[Callable[[], Any]] = [
        lambda: small.begin(content, "theirs"),
        lambda: small.client.post(f"{url.partition('?')[0]}/complete", headers=small.headers()),
        lambda: small.client.post(f"/api/v1/submissions/{waiting}/withdraw", headers=small.headers("theirs")),
        lambda: small.client.get("/"),
    ]
    fill(leave=0)
    for step in steps:
        assert step().status_code in (200, 404, 409, 503, 507)
    working = with_scorer(small.settings, CANNED.format(seconds=0, result=str(result)))
    worker = Worker(small.db, working)
    with pytest.raises(OperationalError, match="full"):
        worker.step()
    assert small.status(waiting)["status"] == "queued"
    filler.unlink()

    # The disk fills while a submission is being scored: neither ledger nor database can be written.
    grab = f"""
import os
with open({str(filler)!r}, "wb", buffering=0) as file:
    try:
        while True: file.write(bytes(4096))
    except OSError:
        os.truncate({str(filler)!r}, max(0, os.path.getsize({str(filler)!r}) - LEAVE))
"""
    for leave in (0, 4096, 16_384, 65_536, 131_072):
        text = grab.replace("LEAVE", str(leave)) + CANNED.format(seconds=0, result=str(result))
        starved = Worker(small.db, with_scorer(small.settings, text))
        _due(small, waiting)
        with contextlib.suppress(OperationalError):
            starved.step()
        state = small.status(waiting)["status"]
        rows = [row["submission"] for row in small.rows()]
        assert (state, rows) in ((state, []), ("scored", [waiting]))
        filler.unlink()
        if state == "scored":
            break
    _due(small, waiting)
    worker.step()
    assert small.status(waiting)["status"] == "scored"
    assert [row["submission"] for row in small.rows()] == [waiting]
    assert finished(small.db) == {waiting: 1}
    assert [entry.submission for entry in ledger.load(small.settings.ledger).entries] == [waiting]
    assert not list(small.settings.data.glob(".scoring-*"))
    with small.db.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def _due(service: Service, submission: str) -> None:
    with service.db.write() as session:
        found = session.get(Submission, submission)
        assert found is not None
        if found.status != "scored":
            found.lease_until = None
