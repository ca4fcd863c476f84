"""The summary of a result that the database stores for the table: all metrics and a few lines of the model card."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from lulcbench.errors import LulcbenchError, UnsupportedFormatError
from lulcbench.evaluation.comparison import BlockCounts
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS, RANKING, evaluate
from lulcbench.evaluation.scores import LevelScores, Scores
from lulcbench.evaluation.scoring import with_intervals

log = logging.getLogger(__name__)
# To be increased whenever ``summarise`` returns something else for the same result: summaries of another version are
# computed again when the service starts. A new metric does not need a new version, since all metrics are kept.
SUMMARY_VERSION = 6


def summarise(
    scores: Mapping[str, Any], card: Mapping[str, Any], blocks: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Condense scores and a ``ModelCard`` (both as JSON) for the table.

    Args:
        scores: of any scorer version, older or newer.
        card: the model card.
        blocks: ``BlockCounts`` as JSON; None if they are not known.

    Returns:
        ``version`` (``SUMMARY_VERSION``); ``model``, ``sensors``, ``pretraining``, ``parameters`` and ``saw_labels``
        of the card, and ``card``, the card without its description; ``scorer_version``; and ``levels``: level →
        metric → estimate, as in the scores; ``worst_region``: level → name and ``RANKING`` of the region where it is
        worst, of releases with several; ``without_blocks``: level → ``RANKING`` without each spatial block; ``parts``:
        level → kind → part → value (``leaderboard.ranking.parts``). Scores of an unknown format have no levels.

    Raises:
        LulcbenchError, KeyError, TypeError: scores or card are malformed.
    """
    try:
        levels = shown(scores, blocks).levels
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
        "worst_region": {str(level): worst for level, part in levels.items() if (worst := _worst_region(part))},
        "without_blocks": _without_blocks(blocks) if blocks else {},
        "parts": {str(level): _parts(part) for level, part in levels.items()},
    }


def shown(scores: Mapping[str, Any], blocks: Mapping[str, Any] | None, where: str = "The text") -> Scores:
    """Scores as the pages show them: with intervals that this version computes from the counts of the blocks.

    All rows of a table therefore have intervals of one method. Without counts, the stated intervals are kept.

    Args:
        scores: of any scorer version.
        blocks: ``BlockCounts`` as JSON; None if they are not known.
        where: name of the document, for error messages.

    Raises:
        UnsupportedFormatError, LulcbenchError: the scores cannot be read.
    """
    read = Scores.read(scores, where)
    if not blocks:
        return read
    try:
        return with_intervals(read, BlockCounts.read(blocks))
    except LulcbenchError as error:
        log.error("%s %s", error.what, error.remedy)
        return read


def _worst_region(part: LevelScores) -> list[Any] | None:
    """Name of the region with the worst value of ``RANKING``, and the value; None for fewer than two regions."""
    known = [(region.name, region.metrics[RANKING].value) for region in part.regions if RANKING in region.metrics]
    if len(known) < 2:
        return None
    known.sort(key=lambda region: region[1], reverse=not METRICS[RANKING].higher_is_better)
    return list(known[0])


def _parts(part: LevelScores) -> dict[str, dict[str, float]]:
    """Kind (``parts.KINDS``) → part → value at one level."""
    classes = {str(scored.code): scored.iou for scored in part.classes if scored.support and scored.iou is not None}
    return {
        "class": classes,
        "region": {one.name: one.metrics[RANKING].value for one in part.regions if RANKING in one.metrics},
        "edge": {one.name: one.metrics[RANKING].value for one in part.boundary if RANKING in one.metrics},
    }


def _without_blocks(blocks: Mapping[str, Any]) -> dict[str, list[float]]:
    """Level → ``RANKING`` without each block; levels at which it is undefined without a block are left out."""
    try:
        counts = BlockCounts.read(blocks)
    except LulcbenchError as error:
        log.error("%s %s", error.what, error.remedy)
        return {}
    found = {}
    for level, sums in counts.sums.get(Family.CLASSES, {}).items():
        by_block = np.asarray(
            [block for block in sums if np.any(block)], np.float64
        )  # as in intervals and paired tests
        if len(by_block) < 2:
            continue
        scores: list[float] = np.asarray(evaluate(Family.CLASSES, by_block.sum(axis=0) - by_block)[RANKING]).tolist()
        if not any(map(math.isnan, scores)):
            found[str(level)] = scores
    return found
