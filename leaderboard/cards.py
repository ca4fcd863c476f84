"""The model card at the door: checked by the same model that the client uses."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from leaderboard.problems import Problem
from lulcbench.submission import ModelCard


def check_card(content: Any) -> dict[str, Any]:
    """A model card as plain JSON, if it is valid.

    Raises:
        Problem: 422, naming each field that is wrong.
    """
    try:
        card: dict[str, Any] = ModelCard.model_validate(content).model_dump(mode="json")
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors()[:8])
        raise Problem(422, f"The model card is not valid: {problems}.", "See 'lulcbench submit --help'.") from error
    return card
