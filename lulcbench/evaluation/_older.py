"""Conversion of scores and block counts of scorers before 2.0, since ledger entries are never rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_LEVELS = ("overall_accuracy", "balanced_accuracy", "miou", "macro_f1", "weighted_f1")
_OF_CALIBRATION = ("log_loss", "brier", "ece")
_OF_SUBSETS = ("overall_accuracy", "miou", "macro_f1")
_OF_HIERARCHY = {"hierarchical_f1": "f1", "mistake_severity": "mistake_severity", "mean_height": "mean_height"}
_OF_CHANGE = {f"change_{name}": name for name in ("f1", "iou", "precision", "recall", "accuracy", "from_to_f1")}


def scores_of_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the JSON of ``Scores`` from format 1, in which each family of metrics had a separate form, to format 2.

    Metrics that the older scorer lacked are absent, and so are the zeros that it gave where it had evaluated no pixel.

    Raises:
        KeyError, TypeError, AttributeError: the content is not of format 1.
    """
    levels = {str(level): _level(part) for level, part in content["levels"].items()}
    tree = content.get("hierarchical") or {}
    if tree.get("pixels"):
        levels[str(content["level"])]["metrics"] |= _estimates(tree, tree.get("intervals"), _OF_HIERARCHY)
    for part in content.get("change") or ():
        if level := levels.get(str(part["level"])):
            level["metrics"] |= _estimates(part, part.get("intervals"), _OF_CHANGE)
            level["change"] = part
    return {**content, "format": "lulcbench-scores/2", "levels": levels}


def block_counts_of_format_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the JSON of ``BlockCounts`` of scorers before 2.0; those of 1.0 lack the hierarchy."""
    finest = max(content["margins"], key=int)
    hierarchy = content.get("hierarchy")
    families = {
        "classes": content["margins"],
        "calibration": content.get("calibration") or {},
        "change": content.get("change") or {},
        "hierarchy": {finest: hierarchy} if hierarchy else {},
    }
    return {**content, "sums": {family: levels for family, levels in families.items() if levels}}


def _level(part: Mapping[str, Any]) -> dict[str, Any]:
    calibration, intervals = part.get("calibration") or {}, part.get("intervals")
    metrics: dict[str, Any] = {}
    if part["pixels"]:
        metrics |= _estimates(part, intervals, {name: name for name in _OF_LEVELS})
        metrics |= _estimates(calibration, intervals, {name: name for name in _OF_CALIBRATION})
    return {
        **part,
        "metrics": metrics,
        "reliability": calibration.get("reliability", ()),
        "regions": [_subset(subset) for subset in part.get("regions", ())],
        "boundary": [_subset(subset) for subset in part.get("boundary", ())],
        "superclasses": [_subset(subset) for subset in part.get("groups", ())],
    }


def _subset(part: Mapping[str, Any]) -> dict[str, Any]:
    return {**part, "metrics": _estimates(part, None, {name: name for name in _OF_SUBSETS})}


def _estimates(
    values: Mapping[str, Any], intervals: Mapping[str, Any] | None, fields: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Metric name → estimate, from separate fields of values and intervals, for the values that are present."""
    return {
        name: {"value": values[field], **((intervals or {}).get(field) or {})}
        for name, field in fields.items()
        if values.get(field) is not None
    }
