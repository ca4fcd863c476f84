"""Scores that a team computed itself: on the board, and marked as such."""

from __future__ import annotations

import math
import secrets
from pathlib import Path
from typing import Any

from leaderboard.ranking.table import version_order
from leaderboard.settings import Settings
from leaderboard.store import ledger
from leaderboard.store.accounts import check_team
from leaderboard.store.db import Database, now
from leaderboard.store.records import replay
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import METRICS
from lulcbench.evaluation.scores import SCORER_VERSION, Scores
from lulcbench.release import Manifest
from lulcbench.submission.card import check_sensors, load_card

_ROUNDING = 1e-9
_REMEDY = "Make them with 'lulcbench score'."


def add_reported(db: Database, settings: Settings, scores_path: Path, card_path: Path, team: str) -> str:
    """Put a file of ``lulcbench score`` on the board as self-reported.

    Returns:
        The submission id.

    Raises:
        LulcbenchError: the scores, the card or the name are not valid, or the scores are of none of the board's
            releases.
    """
    check_team(team)
    scores, card = Scores.load(scores_path), load_card(card_path)
    release = _release(scores, settings)
    check_sensors(card, release)
    _check_values(scores.model_dump())
    if version_order(scores.scorer_version) > version_order(SCORER_VERSION):
        raise LulcbenchError(
            f"The scores are of scorer {scores.scorer_version}, which is newer than this board's ({SCORER_VERSION}).",
            "Install the newer lulcbench here first.",
        )
    entry = ledger.Entry(
        submission=secrets.token_hex(10),
        team=team,
        tier="reported",
        filename=scores_path.name,
        sha256=scores.predictions_sha256,
        card=card.model_dump(mode="json"),
        submitted_at=now(),
        scored_at=now(),
        release=release.id,
        release_digest=release.digest,
        simulated=release.simulated,
        task=scores.task,
        split=scores.split,
        scores=scores.model_dump(mode="json"),
    )
    ledger.write(settings.ledger, entry)
    replay(db, settings)
    return entry.submission


def _release(scores: Scores, settings: Settings) -> Manifest:
    """The release of the scores, if the rest of their metadata fits it."""
    known = {release.digest: release for release in map(Manifest.load, settings.releases)}
    release = known.get(scores.release_digest)
    if release is None:
        have = ", ".join(f"{one.id} ({digest[:12]}…)" for digest, one in known.items()) or "none"
        raise LulcbenchError(
            f"The scores are of release {scores.release!r} ({scores.release_digest[:12]}…), not of this board.",
            f"It has {have}; give --release ROOT before the command.",
        )
    said = (scores.release, scores.simulated, scores.tiles, set(scores.years) <= set(release.label_years))
    if said != (release.id, release.simulated, release.splits.get(scores.split), True) or (
        len(scores.years) != (1 if scores.task == "segmentation" else 2)
    ):
        raise LulcbenchError(
            f"The scores do not fit {release.id}: its id, simulated or not, {scores.split} tiles, or years.",
            _REMEDY,
        )
    return release


def _check_values(value: Any, metric: str = "", where: str = "") -> None:
    """Refuse values that no scorer gives; those that are not of a metric lie between 0 and 1."""
    if isinstance(value, dict):
        for key, inner in value.items():
            of_metric = where.endswith(".metrics")
            if of_metric and key not in METRICS:
                raise LulcbenchError(f"The scores hold a metric {key!r}, which no scorer gives.", _REMEDY)
            _check_values(inner, str(key) if of_metric else metric, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check_values(inner, metric, f"{where}.{number}")
    elif isinstance(value, float):
        low, high = (METRICS[metric].low, METRICS[metric].high) if metric else (0.0, 1.0)
        if not (math.isfinite(value) and low - _ROUNDING <= value <= high + _ROUNDING):
            raise LulcbenchError(f"The scores hold {where} = {value:g}, which no scorer gives.", _REMEDY)
