"""Backups of a damaged or changing board, and restores that fail and are repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderboard.settings import Settings
from leaderboard.store import backups
from leaderboard.store.backups import backup, restore
from leaderboard.store.db import Database
from leaderboard.store.uploads import predictions_path
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service

Fill = Callable[..., list[str]]


def second(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"data": folder / "data2", "ledger": folder / "ledger2"})


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_backup_of_a_damaged_ledger_tells_its_faults_and_so_does_its_restore(
    service: Service, fill: Fill, tmp_path: Path
) -> None:
    damaged, _ = fill({}, {})
    (path,) = service.settings.ledger.glob(f"*/{damaged}.json")
    os.truncate(path, 1000)
    (fault,) = backup(service.db, service.settings, tmp_path / "backup.tar")
    assert path.name in fault.what
    assert (tmp_path / "backup.tar").is_file()
    settings = second(service.settings, tmp_path)
    db = Database(settings.url)
    (fault,) = restore(db, settings, tmp_path / "backup.tar")
    assert path.name in fault.what
    db.close()


@pytest.mark.slow
def test_the_command_that_backs_up_a_damaged_ledger_fails_so_that_older_backups_are_kept(
    service: Service, fill: Fill, tmp_path: Path
) -> None:
    (damaged,) = fill({})
    settings = service.settings
    command = [sys.executable, "-m", "leaderboard", "--data", str(settings.data), "--ledger", str(settings.ledger)]
    command += ["backup", str(tmp_path / "backup.tar")]
    (path,) = settings.ledger.glob(f"*/{damaged}.json")
    os.truncate(path, 1000)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert path.name in done.stdout


def test_files_that_are_deleted_during_a_backup_are_left_out(
    service: Service, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = fill({})
    kept = predictions_path(service.settings, one)
    kept.write_bytes(b"predictions")
    members = backups._members

    def and_delete(*given: Any) -> list[tuple[str, Path]]:
        found = members(*given)
        kept.unlink()  # as the hourly housekeeping does
        return found

    monkeypatch.setattr(backups, "_members", and_delete)
    assert backup(service.db, service.settings, tmp_path / "backup.tar") == []
    settings = second(service.settings, tmp_path)
    db = Database(settings.url)
    assert restore(db, settings, tmp_path / "backup.tar") == []
    assert not predictions_path(settings, one).exists()
    db.close()


def test_a_backup_that_fails_leaves_no_file_behind(
    service: Service, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill({})
    members = backups._members
    monkeypatch.setattr(backups, "_members", lambda *given: [*members(*given), ("ledger/x", tmp_path / "missing")])
    folder = tmp_path / "backups"
    with pytest.raises(LulcbenchError, match=r"backup\.tar cannot be written: .*missing"):
        backup(service.db, service.settings, folder / "backup.tar")
    assert list(folder.iterdir()) == []


def test_a_restore_that_failed_can_be_repeated_with_another_backup(
    service: Service, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = fill({})
    predictions_path(service.settings, one).write_bytes(b"predictions")
    good, bad = tmp_path / "good.tar", tmp_path / "bad.tar"
    backup(service.db, service.settings, good)
    content = bytearray(good.read_bytes())
    content[content.index(b"predictions", content.index(b"predictions/") + 20)] ^= 1
    bad.write_bytes(content)
    settings = second(service.settings, tmp_path)
    db = Database(settings.url)
    with pytest.raises(LulcbenchError, match="is missing or damaged"):
        restore(db, settings, bad)
    assert not settings.data.exists()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backups, "_load", full)
        with pytest.raises(LulcbenchError, match="No space left"):
            restore(db, settings, good)
    assert files(settings.ledger) == []
    (settings.data / ".restoring-killed").mkdir(parents=True)  # what a killed one left
    assert restore(db, settings, good) == []
    assert files(settings.ledger) == files(service.settings.ledger)
    assert predictions_path(settings, one).read_bytes() == b"predictions"
    assert [path.name for path in settings.data.iterdir() if path.name.startswith(".")] == []
    db.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_backup_and_restore_write_nothing_beside_the_data(service: Service, fill: Fill, tmp_path: Path) -> None:
    """The parent of the folder is read-only in a container; that of this path is so for every user, root included."""
    (one,) = fill({})
    (tmp_path / "data2").mkdir()
    here, there = (os.open(folder, os.O_RDONLY) for folder in (service.settings.data, tmp_path / "data2"))
    try:
        first = service.settings.model_copy(update={"data": Path(f"/proc/self/fd/{here}")})
        backup(service.db, first, tmp_path / "backup.tar")
        settings = second(service.settings, tmp_path)
        settings = settings.model_copy(update={"data": Path(f"/proc/self/fd/{there}")})
        db = Database(settings.url)
        assert restore(db, settings, tmp_path / "backup.tar") == []
        assert list(settings.ledger.glob(f"*/{one}.json"))
        db.close()
    finally:
        os.close(here)
        os.close(there)
