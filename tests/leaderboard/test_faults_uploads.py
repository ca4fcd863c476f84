"""What breaks while files arrive: full disks, crashes, two answers at once. Nothing is lost, nothing enters twice."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from leaderboard.settings import Settings
from leaderboard.store import uploads
from leaderboard.store.db import Submission
from tests.leaderboard.harness import Service


@pytest.mark.slow
def test_a_full_disk_while_uploading(
    service: Service, predictions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = predictions["poor"].read_bytes()[:12_000]
    upload = service.begin(content).json()["upload_id"]
    url = f"/api/v1/uploads/{upload}"

    def full(settings: Settings, descriptor: int, piece: bytes) -> None:
        os.write(descriptor, piece[:5000])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "write_piece", full)
        answer = service.client.put(f"{url}?offset=0", content=content, headers=service.headers())
        assert answer.status_code == 507
        assert "Resume" in answer.json()["remedy"]
    assert service.client.get(url, headers=service.headers()).json()["offset"] == 5000
    service.client.put(f"{url}?offset=5000", content=content[5000:], headers=service.headers())
    assert service.client.post(f"{url}/complete", headers=service.headers()).status_code == 202


def test_completing_survives_a_crash_between_rename_and_commit(
    service: Service, predictions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = predictions["poor"].read_bytes()[:9000]
    upload = service.begin(content).json()["upload_id"]
    url = f"/api/v1/uploads/{upload}"
    service.client.put(f"{url}?offset=0", content=content, headers=service.headers())

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with service.db.read() as session:
        found = session.get(uploads.Upload, upload)
        who = uploads.accounts.identify(session, service.tokens["ours"])
    with monkeypatch.context() as patch:
        patch.setattr(uploads, "audit", die)
        with pytest.raises(KeyboardInterrupt):
            uploads.complete(service.db, service.settings, who, found)
    assert service.client.get(url, headers=service.headers()).json()["offset"] == len(content)
    submission = service.client.post(f"{url}/complete", headers=service.headers()).json()["submission_id"]
    assert service.status(submission)["status"] == "queued"


def test_completing_twice_at_once_makes_one_submission(service: Service, predictions: dict[str, Path]) -> None:
    content = predictions["poor"].read_bytes()[:9000]
    upload = service.begin(content).json()["upload_id"]
    url = f"/api/v1/uploads/{upload}"
    service.client.put(f"{url}?offset=0", content=content, headers=service.headers())
    answers: list[int] = []

    def complete() -> None:
        answers.append(service.client.post(f"{url}/complete", headers=service.headers()).status_code)

    threads = [threading.Thread(target=complete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {202, 409}
    assert 202 in answers
    with service.db.read() as session:
        assert session.query(Submission).count() == 1
