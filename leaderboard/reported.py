"""Scores that a team computed itself: on the board, and marked as such."""

from __future__ import annotations

import secrets
from pathlib import Path

from leaderboard import ledger
from leaderboard.accounts import check_team
from leaderboard.db import Database, now
from leaderboard.records import replay
from leaderboard.settings import Settings
from lulcbench.scores import Scores
from lulcbench.submission import load_card


def add_reported(db: Database, settings: Settings, scores_path: Path, card_path: Path, team: str) -> str:
    """Put a file of ``lulcbench score`` on the board as self-reported.

    Returns:
        The submission id.

    Raises:
        LulcbenchError: the scores, the card or the name are not valid.
    """
    check_team(team)
    scores, card = Scores.load(scores_path), load_card(card_path)
    entry = ledger.Entry(
        submission=secrets.token_hex(10),
        team=team,
        tier="reported",
        filename=scores_path.name,
        sha256=scores.predictions_sha256,
        card=card.model_dump(mode="json"),
        submitted_at=now(),
        scored_at=now(),
        release=scores.release,
        release_digest=scores.release_digest,
        simulated=scores.simulated,
        task=scores.task,
        split=scores.split,
        scores=scores.model_dump(mode="json"),
    )
    ledger.write(settings.ledger, entry)
    replay(db, settings)
    return entry.submission
