"""The supervisor: it restarts what dies, and nothing outlives it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from leaderboard.settings import Settings
from tests.leaderboard.harness import wait_until


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_web_process_that_is_killed_is_restarted_and_ends_with_its_supervisor(
    settings: Settings, tmp_path: Path
) -> None:
    folders = ("--data", str(settings.data), "--ledger", str(settings.ledger))
    command = [sys.executable, "-m", "leaderboard", *folders, "serve", "--port", "0", "--workers", "0"]
    log = tmp_path / "log"
    with log.open("wb") as file:
        supervisor = subprocess.Popen(command, stderr=file)
    try:
        wait_until(lambda: "Leaderboard at" in log.read_text(), "the supervisor to listen")
        url = re.search(r"Leaderboard at (http://[\d.:]+) ", log.read_text())[1]  # type: ignore[index]
        assert httpx2.get(f"{url}/about", timeout=60).status_code == 200  # waits until the web process accepts
        (first,) = children(supervisor.pid)
        os.kill(first, signal.SIGKILL)
        assert httpx2.get(f"{url}/about", timeout=60).status_code == 200  # made while no web process runs
        (second,) = children(supervisor.pid)
        assert second != first
        assert "web ended with code -9" in log.read_text()
        supervisor.kill()
        supervisor.wait()
        wait_until(lambda: not running(second), "the web process to end with its supervisor")
    finally:
        supervisor.kill()
        supervisor.wait()


def test_a_worker_whose_parent_died_before_it_was_ready_ends_at_once(settings: Settings) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = [sys.executable, "-m", "leaderboard", "worker", "--parent", str(gone.pid)]
    done = subprocess.run(command, input=settings.model_dump_json(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"parent process {gone.pid} has ended" in done.stderr


@pytest.mark.slow
def test_settings_that_no_process_can_start_with_end_the_supervisor(settings: Settings) -> None:
    settings.prepare()
    (settings.data / "board.sqlite").write_bytes(b"no database, but of some length" * 100)
    folders = ("--data", str(settings.data), "--ledger", str(settings.ledger))
    command = [sys.executable, "-m", "leaderboard", *folders, "serve", "--port", "0", "--workers", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "is damaged" in done.stderr
    assert "Traceback" not in done.stderr
