"""Where the stages of one build keep what they made."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder beside a release that holds everything a build needs until it is done.

    Attributes:
        root: folder of the release to be.
        work: folder of the intermediate results; it may be deleted once the release is there.
    """

    root: Path
    work: Path

    @property
    def scenes(self) -> Path:
        """Scenes that the recipe itself makes: rendered or ingested."""
        return self.work / "scenes"

    @property
    def splits(self) -> Path:
        """The plan: one row a tile."""
        return self.work / "splits.csv"

    @property
    def lock(self) -> Path:
        """The frozen search result."""
        return self.work / "scenes.lock.json"

    @property
    def cache(self) -> Path:
        """Materialized tiles by array; a file is named by the digest of all it depends on."""
        return self.work / "cache"

    @property
    def tiles(self) -> Path:
        """What materialize found: arrays, fractions and scenes of every tile."""
        return self.work / "tiles.json"


def workspace(root: Path, work: Path | None = None) -> Workspace:
    """The workspace of a release folder; by default ``<root>.work`` beside it."""
    root = root.resolve()
    return Workspace(root, work.resolve() if work else root.with_name(root.name + ".work"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
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
