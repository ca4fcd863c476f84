"""Forged predictions files, and a check that reader and scorer refuse them."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.scoring import score
from lulcbench.submission.card import check_predictions

TILES = 3


Members = list[tuple[zipfile.ZipInfo | str, bytes]]


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forge(path: Path, members: dict[str, bytes], extra: Members = (), compress: bool = False) -> Path:
    """A zip of these members, stored, and then of the extra ones as they are given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        for name, data in extra:
            archive.writestr(name, data)
    return path


def edit(members: dict[str, bytes], name: str, change: Callable[[dict[str, Any]], Any]) -> dict[str, bytes]:
    content = json.loads(members[name])
    change(content)
    return members | {name: json.dumps(content).encode()}


def refuse(path: Path, predicted_root: Path, message: str) -> None:
    """Refused with that message by the reader and the scorer, in little memory, nothing extracted."""
    before = sorted(path.parent.iterdir())
    tracemalloc.start()
    try:
        with pytest.raises(LulcbenchError, match=message):
            check_predictions(path, predicted_root)
        with pytest.raises(LulcbenchError, match=message):
            score(path, predicted_root)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert sorted(path.parent.iterdir()) == before


CHUNK = "codes/c/0/0/0/0"
