"""The summary of a result that the database stores for the table: all metrics and a few lines of the model card."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lulcbench.errors import UnsupportedFormatError
from lulcbench.evaluation.scores import Scores

log = logging.getLogger(__name__)
# To be increased whenever ``summarise`` returns something else for the same result: summaries of another version are
# computed again when the service starts. A new metric does not need a new version, since all metrics are kept.
SUMMARY_VERSION = 3


def summarise(scores: Mapping[str, Any], card: Mapping[str, Any]) -> dict[str, Any]:
    """Condense scores and a ``ModelCard`` (both as JSON) for the table.

    Args:
        scores: of any scorer version, older or newer.
        card: the model card.

    Returns:
        ``version`` (``SUMMARY_VERSION``); ``model``, ``sensors``, ``pretraining``, ``parameters`` and ``saw_labels``
        of the card, and ``card``, the card without its description; ``scorer_version``; and ``levels``: level →
        metric → estimate, as in the scores. Scores of an unknown format have no levels.

    Raises:
        LulcbenchError, KeyError, TypeError: scores or card are malformed.
    """
    try:
        levels = Scores.read(scores).levels
    except UnsupportedFormatError as error:
        log.error("%s %s", error.what, error.remedy)
        levels = {}
    return {
        "version": SUMMARY_VERSION,
        "model": card["name"],
        "sensors": sorted(card["sensors"]),
        "pretraining": card["pretraining"],
        "parameters": card["parameters"],
        "saw_labels": card["saw_scored_labels"],
        "card": {key: value for key, value in card.items() if key != "description"},
        "scorer_version": scores["scorer_version"],
        "levels": {
            str(level): {name: asdict(estimate) for name, estimate in part.metrics.items()}
            for level, part in levels.items()
        },
    }
