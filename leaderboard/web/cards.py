"""Validation of incoming model cards, with the same model that the client uses."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from leaderboard.errors import RequestError
from leaderboard.settings import Settings
from lulcbench.errors import LulcbenchError
from lulcbench.release import Manifest
from lulcbench.sensors import SENSORS
from lulcbench.submission.card import ModelCard, problems


def check_card(content: Any, settings: Settings) -> dict[str, Any]:
    """Validate a model card; its sensors must be those of a release of the board.

    Returns:
        The card as plain JSON.

    Raises:
        RequestError: 422, with the invalid fields.
    """
    try:
        card = ModelCard.model_validate(content)
    except ValidationError as error:
        raise RequestError(
            422, f"The model card is not valid: {problems(error)}.", "See 'lulcbench submit --help'."
        ) from error
    try:
        known = _sensors(settings.releases)
    except LulcbenchError:  # for the operator to repair; the submission waits until then
        known = frozenset(SENSORS)
    if unknown := sorted(set(card.sensors) - known):
        raise RequestError(
            422,
            f"The model card is not valid: sensors: no release of this board has {unknown[0]!r}.",
            f"They have {', '.join(sorted(known))}; name other inputs in the card's description.",
        )
    plain: dict[str, Any] = card.model_dump(mode="json")
    return plain


@cache
def _sensors(roots: tuple[Path, ...]) -> frozenset[str]:
    """Sensors of the releases, which never change; all sensors if only the workers know the releases."""
    return frozenset(name for root in roots for name in Manifest.load(root).sensors) or frozenset(SENSORS)
