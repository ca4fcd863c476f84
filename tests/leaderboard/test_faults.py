"""What breaks: scorers, workers, disks. Nothing is lost, nothing is scored twice, nothing is half visible."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from leaderboard.scoring.worker import Worker
from leaderboard.settings import Settings
from leaderboard.store import ledger, queue, uploads
from leaderboard.store.db import Audit, Database, Result
from leaderboard.store.queue import LostLease
from lulcbench.release import Manifest
from tests.leaderboard.harness import Service, expire, make_entry, wait_until

HOSTILE = """
import sys, time
from leaderboard.scoring import job
def scorer(predictions, roots, media):
    {body}
job.main(scorer)
"""
CANNED = """
import json, sys, time
from pathlib import Path
from leaderboard.scoring import job
def scorer(predictions, roots, media):
    time.sleep({seconds})
    return json.loads(Path({result!r}).read_text())
job.main(scorer)
"""


def with_scorer(settings: Settings, text: str, **limits: Any) -> Settings:
    """The settings with another scoring process, under the limits of the real one; it also reads files of tests."""
    command = {"scoring_command": (sys.executable, "-c", text), "isolate_scoring": False}
    return settings.model_copy(update=command | limits)


def finished(db: Database) -> Counter[str]:
    """How often each submission was made visible."""
    with db.read() as session:
        return Counter(line.subject for line in session.query(Audit).filter_by(action="score.finish"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "limits", "why"),
    [
        ("x = bytearray(3 << 30)", {"scoring_memory_bytes": 1 << 30}, "memory"),
        ("while True: pass", {"scoring_cpu_s": 1}, "more than 1 s of processor time"),
        ("time.sleep(60)", {"scoring_timeout_s": 1.0}, "longer than 1 s"),
        ("import os; os.kill(os.getpid(), 11)", {"max_attempts": 1}, "interrupted 1 times, most recently by SIGSEGV"),
        ("import os; os._exit(137)", {"max_attempts": 1}, "most recently by SIGKILL"),  # as a container's shell says it
        ("(media / 'x').write_bytes(b'0' * 10_000_000)", {"scoring_file_bytes": 1 << 20}, "stopped"),
        ("return {'release': '../../etc'}", {}, "no usable result"),
    ],
    ids=["memory", "processor time", "wall time", "SIGSEGV", "SIGKILL", "file size", "result"],
)
def test_a_scorer_that_misbehaves_only_ends_its_own_submission(
    service: Service, predictions: dict[str, Path], body: str, limits: dict[str, Any], why: str
) -> None:
    service.settings = with_scorer(service.settings, HOSTILE.format(body=body), **limits)
    submission = service.submit(predictions["poor"])
    assert service.score()
    state = service.status(submission)
    assert state["status"] == "refused"
    assert why in state["error"]["what"]
    assert not list(service.settings.ledger.glob("*/*.json"))
    assert not list(service.settings.data.glob(".scoring-*"))


def test_a_scoring_process_that_the_system_kills_is_tried_again(
    service: Service, predictions: dict[str, Path], results: dict[str, Any], tmp_path: Path
) -> None:
    """kill -9, as the kernel does it that is short of memory: twice in the middle of scoring, then never again."""
    real, pid = service.settings, tmp_path / "pid"
    body = f"import os; from pathlib import Path; Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    service.settings = with_scorer(real, HOSTILE.format(body=body), max_attempts=3)
    submission = service.submit(predictions["poor"])

    def kill() -> None:
        wait_until(lambda: pid.exists() and pid.read_text(), "the scoring process to start")
        os.kill(int(pid.read_text()), signal.SIGKILL)
        pid.unlink()

    for number in (1, 2):
        killer = threading.Thread(target=kill)
        killer.start()
        assert service.score()
        killer.join()
        state = service.status(submission)
        assert state["status"] == "queued"
        assert f"{number} times so far" in state["error"]["what"]
        assert not service.score()  # it waits a while before the next try
        expire(service.db, submission)
    result = tmp_path / "result.json"
    result.write_text(json.dumps(results["poor"]))
    service.settings = with_scorer(real, CANNED.format(seconds=0, result=str(result)), max_attempts=3)
    assert service.score()
    state = service.status(submission)
    assert (state["status"], state["error"]) == ("scored", None)
    assert finished(service.db) == {submission: 1}


def test_a_file_that_brings_every_scorer_down_is_refused_in_the_end(
    service: Service, predictions: dict[str, Path]
) -> None:
    text = HOSTILE.format(body="import os; os.kill(os.getpid(), 9)")
    service.settings = with_scorer(service.settings, text, max_attempts=2)
    submission = service.submit(predictions["poor"])
    assert service.score()
    expire(service.db, submission)
    assert service.score()
    state = service.status(submission)
    assert state["status"] == "refused"
    assert "interrupted 2 times, most recently by SIGKILL" in state["error"]["what"]
    assert submission in state["error"]["remedy"]


def shards(root: Path, split: str, array: str | None = None) -> list[str]:
    """Paths of the shards of a split, of one array or of all."""
    files = Manifest.load(root).files
    return [file.path for file in files if file.split == split and array in (None, str(file.array))]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["altered", "missing", "index", "manifest"])
def test_a_damaged_release_is_not_the_teams_fault(
    service: Service,
    release_root: Path,
    predictions: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    root = tmp_path / "release"
    shutil.copytree(release_root, root)
    service.settings = service.settings.model_copy(update={"releases": (root,)})
    labels = root / shards(root, "test", "luisa_2018")[0]
    victim = {"index": root / "index.parquet", "manifest": root / "release.json"}.get(damage, labels)
    kept = victim.read_bytes()
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(kept[:-9] + b"x" + kept[-8:])
    submission = service.submit(predictions["poor"])
    assert service.score()
    state = service.status(submission)
    assert state["status"] == "queued"
    assert "board's copy of the release" in state["error"]["what"]
    assert str(tmp_path) not in json.dumps(state)
    assert str(victim) in caplog.text  # the operator's log has it all
    expire(service.db, submission)
    assert service.score()  # any number of times
    victim.write_bytes(kept)
    expire(service.db, submission)
    assert service.score()
    state = service.status(submission)
    assert (state["status"], state["error"]) == ("scored", None)


@pytest.mark.slow
def test_a_split_that_the_board_does_not_hold_is_refused(
    service: Service, release_root: Path, tmp_path: Path, predictions: dict[str, Path]
) -> None:
    root = tmp_path / "release"
    shutil.copytree(release_root, root)
    for path in shards(root, "test"):
        (root / path).unlink()
    service.settings = service.settings.model_copy(update={"releases": (root,)})
    submission = service.submit(predictions["poor"])
    assert service.score()
    state = service.status(submission)
    assert (state["status"], state["error"]["what"][:43]) == ("refused", "This board does not score test 2018 of tiny")


@pytest.mark.slow
def test_refusals_name_the_file_as_its_team_does(service: Service, tmp_path: Path) -> None:
    content = b"no zip"
    upload = service.begin(content, filename="our <model>.zip").json()["upload_id"]
    url = f"/api/v1/uploads/{upload}"
    service.client.put(f"{url}?offset=0", content=content, headers=service.headers())
    submission = service.client.post(f"{url}/complete", headers=service.headers()).json()["submission_id"]
    assert service.score()
    what = service.status(submission)["error"]["what"]
    assert what.startswith("our <model>.zip is refused: ")
    assert submission not in what


def test_a_file_that_is_gone_is_asked_for_again(service: Service, predictions: dict[str, Path]) -> None:
    submission = service.submit(predictions["poor"])
    uploads.predictions_path(service.settings, submission).unlink()
    assert service.score()
    assert "no longer on the server" in service.status(submission)["error"]["what"]


def test_a_worker_that_dies_between_ledger_and_commit(
    service: Service, predictions: dict[str, Path], results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = service.settings
    submission = service.submit(predictions["poor"])
    job = queue.claim(service.db, settings, "dying")
    assert job is not None
    entry = make_entry(results, 1, "poor").model_copy(update={"submission": submission, "sha256": job.sha256})

    def die(_: ledger.Entry) -> Result:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queue, "index_row", die)
        with pytest.raises(KeyboardInterrupt):
            queue.finish(service.db, settings, "dying", job, entry)
    (path,) = settings.ledger.glob("*/*.json")
    before = path.read_bytes()
    assert service.rows() == []  # not half visible
    assert service.status(submission)["status"] == "scoring"
    expire(service.db, submission)
    assert Worker(service.db, settings).step()
    assert service.rows()[0]["submission"] == submission
    assert path.read_bytes() == before
    assert finished(service.db) == {submission: 1}
    # The dead worker comes back from its sleep: too late.
    with pytest.raises(LostLease):
        queue.finish(service.db, settings, "dying", job, entry)
    with pytest.raises(LostLease):
        queue.refuse(service.db, "dying", job, "no", "no")


def test_a_withdrawn_submission_is_not_scored_behind_its_teams_back(
    service: Service, predictions: dict[str, Path], results: dict[str, Any]
) -> None:
    submission = service.submit(predictions["poor"])
    job = queue.claim(service.db, service.settings, "one")
    assert job is not None
    service.client.post(f"/api/v1/submissions/{submission}/withdraw", headers=service.headers())
    entry = make_entry(results, 1, "poor").model_copy(update={"submission": submission})
    with pytest.raises(LostLease):
        queue.finish(service.db, service.settings, "one", job, entry)
    assert not list(service.settings.ledger.glob("*/*.json"))
    assert service.rows() == []


def test_one_worker_at_a_time_has_a_submission(service: Service, predictions: dict[str, Path]) -> None:
    submission = service.submit(predictions["poor"])
    settings = service.settings
    first = queue.claim(service.db, settings, "first")
    assert first is not None
    assert queue.claim(service.db, settings, "second") is None
    queue.renew(service.db, settings, "first", first)
    expire(service.db, submission)
    second = queue.claim(service.db, settings, "second")
    assert second is not None
    assert (second.submission_id, second.attempts) == (submission, 2)
    with pytest.raises(LostLease):
        queue.renew(service.db, settings, "first", first)


def test_a_submission_whose_workers_keep_dying_is_refused_in_the_end(
    service: Service, predictions: dict[str, Path]
) -> None:
    submission = service.submit(predictions["poor"])
    settings = service.settings.model_copy(update={"max_attempts": 2})
    for number in range(2):
        assert queue.claim(service.db, settings, f"dies {number}") is not None
        expire(service.db, submission)
    assert Worker(service.db, settings).step()
    state = service.status(submission)
    assert state["status"] == "refused"
    assert "interrupted 2 times" in state["error"]["what"]


@pytest.mark.slow
def test_two_workers_and_random_kills(
    service: Service, predictions: dict[str, Path], results: dict[str, Any], tmp_path: Path
) -> None:
    """Two workers on six submissions, killed again and again at random moments; a third clears up."""
    result = tmp_path / "result.json"
    result.write_text(json.dumps(results["poor"]))
    text = CANNED.format(seconds=0.05, result=str(result))
    settings = with_scorer(service.settings, text, lease_s=0.5, max_attempts=1000)
    submissions = [service.submit(predictions["poor"], name=f"Model {i}") for i in range(6)]
    chance = random.Random(0)
    command = [sys.executable, "-m", "leaderboard", "worker", "--parent", str(os.getpid())]

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(settings.model_dump_json())
        return process

    workers = [start(), start()]
    try:
        for kill in range(6):
            time.sleep(chance.uniform(0.2, 1.0))
            victim = workers[kill % 2]
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            workers[kill % 2] = start()
        wait_until(lambda: len(finished(service.db)) == len(submissions), "all submissions to be scored", 300)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [row["submission"] for row in service.rows()] == submissions[:1]  # of the same predictions, the earliest
    assert finished(service.db) == dict.fromkeys(submissions, 1)
    assert len(list(settings.ledger.glob("*/*.json"))) == len(submissions)
    assert len(ledger.load(settings.ledger).entries) == len(submissions)


@pytest.mark.slow
def test_a_full_disk_while_scoring(
    service: Service,
    predictions: dict[str, Path],
    results: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First the scoring process finds no space, then the ledger; then there is space again."""
    submission = service.submit(predictions["poor"])
    real = service.settings
    body = "raise OSError(28, 'No space left on device')"
    service.settings = with_scorer(real, HOSTILE.format(body=body))
    assert service.score()
    assert service.status(submission)["status"] == "queued"
    assert not service.score()  # it waits a while before the next try
    expire(service.db, submission)
    result = tmp_path / "result.json"
    result.write_text(json.dumps(results["poor"]))
    service.settings = with_scorer(real, CANNED.format(seconds=0, result=str(result)))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        assert service.score()
    assert service.status(submission)["status"] == "queued"
    assert not [path for path in service.settings.ledger.rglob("*") if path.is_file()]
    expire(service.db, submission)
    assert service.score()
    assert service.status(submission)["status"] == "scored"
    assert finished(service.db) == {submission: 1}
