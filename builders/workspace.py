"""Where the stages of one build keep their results."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder beside a release that holds the intermediate results of its build.

    Attributes:
        root: folder of the release.
        work: folder of the intermediate results; it may be deleted when the release is complete.
    """

    root: Path
    work: Path

    @property
    def scenes(self) -> Path:
        """Scenes of the recipe's own table: rendered or ingested."""
        return self.work / "scenes"

    @property
    def splits(self) -> Path:
        """The plan: one row per tile."""
        return self.work / "splits.csv"

    @property
    def lock(self) -> Path:
        """The frozen search result."""
        return self.work / "scenes.lock.json"

    @property
    def cache(self) -> Path:
        """Materialized tiles by array; the name of a file holds the digest of its inputs."""
        return self.work / "cache"

    @property
    def blocks(self) -> Path:
        """Blocks of files on servers, while they are read."""
        return self.work / "blocks"

    @property
    def tiles(self) -> Path:
        """Notes of materialize: files, fractions and scenes of every tile."""
        return self.work / "tiles.json"

    @property
    def dropped(self) -> Path:
        """Tiles that materialize dropped, each with the array that has no valid pixel."""
        return self.work / "dropped.json"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no other build uses the workspace, then exclude others. A killed build does not exclude any."""
        self.work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.work / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("Another build uses %s; waiting until it ends", self.work)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def workspace(root: Path, work: Path | None = None) -> Workspace:
    """The workspace of a release folder; by default ``<root>.work`` beside it."""
    root = root.resolve()
    return Workspace(root, work.resolve() if work else root.with_name(root.name + ".work"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())


def read_json(path: Path, made_by: str) -> Any:
    """Read JSON that the stage ``made_by`` wrote.

    Raises:
        LulcbenchError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LulcbenchError(f"{path} is missing.", f"Run 'python -m builders {made_by}' first.") from error
    except ValueError as error:
        raise LulcbenchError(f"{path} is damaged: {error}.", f"Run 'python -m builders {made_by}' again.") from error
