"""Self-reported scores: computed by a team and marked as such on the board."""

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
from lulcbench.legend import legend
from lulcbench.predictions.format import task_of
from lulcbench.release import Manifest
from lulcbench.submission.card import check_sensors, load_card

_ROUNDING = 1e-9
_REMEDY = "Compute them with 'lulcbench score'."


def add_reported(db: Database, settings: Settings, scores_path: Path, card_path: Path, team: str) -> str:
    """Add scores written by ``lulcbench score`` to the board as self-reported.

    Returns:
        The submission id.

    Raises:
        LulcbenchError: the scores, the card or the team name are not valid, or the board does not have the release of
            the scores.
    """
    check_team(team)
    scores, card = Scores.load(scores_path), load_card(card_path)
    release = _release(scores, settings)
    check_sensors(card, release)
    _check_values(scores.model_dump())
    _check_classes(scores)
    if version_order(scores.scorer_version) > version_order(SCORER_VERSION):
        raise LulcbenchError(
            f"The scorer version {scores.scorer_version} of the scores is newer than this board's ({SCORER_VERSION}).",
            "Upgrade lulcbench on the server first.",
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
        release_digest=release.data_digest,
        simulated=release.simulated,
        task=scores.task,
        split=scores.split,
        scores=scores.model_dump(mode="json"),
    )
    ledger.write(settings.ledger, entry)
    replay(db, settings)
    return entry.submission


def _release(scores: Scores, settings: Settings) -> Manifest:
    """The release named in the scores, after checking that their other metadata agree with it."""
    known = {release.data_digest: release for release in map(Manifest.load, settings.releases)}
    release = known.get(scores.release_digest)
    if release is None:
        have = ", ".join(f"{manifest.id} ({digest[:12]}…)" for digest, manifest in known.items()) or "none"
        raise LulcbenchError(
            f"This board does not have the release {scores.release!r} ({scores.release_digest[:12]}…) of the scores.",
            f"It has {have}; give --release ROOT before the command.",
        )
    labels = release.labels.get(scores.source)
    labelled = labels is not None and scores.split in labels.splits and set(scores.years) <= set(labels.years)
    stated = (scores.release, scores.simulated, scores.tiles, scores.source, scores.task)
    task = task_of(scores.years)
    expected = (release.id, release.simulated, release.splits.get(scores.split), release.choose_labels(), task)
    if not labelled or stated != expected:
        raise LulcbenchError(
            f"The scores do not agree with {release.id} in id, simulated or real, number of {scores.split} tiles, or "
            "years.",
            _REMEDY,
        )
    return release


def _check_classes(scores: Scores) -> None:
    """Refuse classes that are not those of the level, and a confusion matrix that is not one of them."""
    for level, part in scores.levels.items():
        codes = tuple(one.code for one in part.classes)
        if level != part.level or codes != tuple(legend().codes(level)):
            raise LulcbenchError(f"The scores of level {level} are not those of its classes.", _REMEDY)
        if [len(row) for row in part.confusion] != [len(codes)] * len(codes):
            raise LulcbenchError(f"The confusion matrix of level {level} is not {len(codes)} × {len(codes)}.", _REMEDY)


def _check_values(value: Any, metric: str = "", where: str = "") -> None:
    """Refuse values outside the range of their metric; other values must be between 0 and 1."""
    if isinstance(value, dict):
        for key, inner in value.items():
            of_metric = where.endswith(".metrics")
            if of_metric and key not in METRICS:
                raise LulcbenchError(f"The scores hold an unknown metric {key!r}.", _REMEDY)
            _check_values(inner, str(key) if of_metric else metric, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_values(inner, metric, f"{where}.{index}")
    elif isinstance(value, float):
        low, high = (METRICS[metric].low, METRICS[metric].high) if metric else (0.0, 1.0)
        if not (math.isfinite(value) and low - _ROUNDING <= value <= high + _ROUNDING):
            raise LulcbenchError(
                f"The scores hold {where} = {value:g}, which is not between {low:g} and {high:g}.", _REMEDY
            )
