"""A damaged database, and one of a newer version: clear errors, and no backup that cannot be restored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from leaderboard.store.backups import backup
from leaderboard.store.db import Database
from lulcbench.errors import LulcbenchError
from tests.leaderboard.harness import Service


def damage_root_page(path: Path, table: str) -> None:
    """Overwrite the page at which the b-tree of a table begins."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


def test_a_damaged_database_is_never_backed_up(service: Service, tmp_path: Path) -> None:
    backup(service.db, service.settings, tmp_path / "good.tar")
    service.db.close()
    damage_root_page(service.settings.data / "board.sqlite", "result")
    with pytest.raises(LulcbenchError, match="is damaged"):
        backup(Database(service.settings.url), service.settings, tmp_path / "bad.tar")
    assert [path.name for path in tmp_path.glob("*.tar*")] == ["good.tar"]
    assert not list(tmp_path.glob(".bad*"))


def test_a_database_of_a_newer_version_is_explained(service: Service) -> None:
    with service.db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LulcbenchError, match="does not know") as error:
        service.db.upgrade(service.settings.ledger)
    assert "upgrade the service" in error.value.remedy
