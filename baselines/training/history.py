"""Files of a run in training, and its learning curve; without Lightning, whose import takes seconds."""

from __future__ import annotations

import csv
from pathlib import Path

LAST = "last.ckpt"
BEST = "best.ckpt"
HISTORY = "history.csv"


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the learning curve of a run, one row per epoch with the metrics measured; empty for models without one."""
    path = folder / HISTORY
    if not path.is_file():
        return []
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    return [{k: float(v) for k, v in row.items() if v} for row in rows]


class OutOfTime(Exception):
    """A run was stopped at its deadline; it can be resumed."""
