"""The ledger that is part of the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leaderboard.settings import Settings
from leaderboard.store import ledger

RESULTS = Path(__file__).parents[3] / "baselines/studies/results/reference.json"


def test_the_committed_ledger_has_the_published_references() -> None:
    contents = ledger.load(Settings.model_fields["ledger"].default)
    assert not contents.faults
    assert not contents.held_back
    assert not contents.unsealed, "run 'python -m leaderboard ledger seal'"
    assert all(entry.simulated for entry in contents.entries)
    assert len({entry.release_digest for entry in contents.entries}) == 1
    scores = {
        entry.card["name"]: entry.scores["levels"]["3"]["metrics"]["overall_accuracy"]["value"]
        for entry in contents.entries
    }
    assert len(scores) >= 5
    runs = json.loads(RESULTS.read_text())["scores"].values()
    for name, value in scores.items():
        same = [run for run in runs if name == f"{run['label']}, seed {run['seeds'][0]} (reference)"]
        published = [run["levels"]["3"]["overall_accuracy"]["values"][0] for run in same]
        assert any(value == pytest.approx(one, abs=1e-9) for one in published), name
