"""The workspace of a build: the folder of its intermediate results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders of a build.

    Attributes:
        root: folder of the release.
        work: folder of the intermediate results; it may be deleted when the release is complete.
    """

    root: Path
    work: Path

    @property
    def scenes(self) -> Path:
        """Folder of the recipe's own scenes, simulated or ingested."""
        return self.work / "scenes"

    @property
    def splits(self) -> Path:
        """The plan: one row per tile."""
        return self.work / "splits.csv"

    @property
    def lock(self) -> Path:
        """The lock file: the frozen search result."""
        return self.work / "scenes.lock.json"

    @property
    def cache(self) -> Path:
        """Materialized tiles by array; file names contain the digest of their inputs."""
        return self.work / "cache"

    @property
    def tiles(self) -> Path:
        """Result of materialize: arrays, valid and cloud fractions and scenes of every tile."""
        return self.work / "tiles.json"

    @property
    def audit(self) -> Path:
        """Findings of the audit."""
        return self.work / "audit.json"


def workspace(root: Path, work: Path | None = None) -> Workspace:
    """The workspace of a release folder; by default ``<root>.work`` beside it."""
    root = root.resolve()
    return Workspace(root, work.resolve() if work else root.with_name(root.name + ".work"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically."""
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode())


def read_json(path: Path, made_by: str) -> Any:
    """Read JSON written by the stage ``made_by``.

    Raises:
        LulcbenchError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LulcbenchError(f"{path} is missing.", f"Run 'python -m builders {made_by}' first.") from error
    except ValueError as error:
        raise LulcbenchError(f"{path} is damaged: {error}.", f"Run 'python -m builders {made_by}' again.") from error
