"""The few figures of a result that the table shows, taken from the scorer's output and the model card."""

from __future__ import annotations

from typing import Any

METRICS = {
    "miou": "mIoU",
    "overall_accuracy": "Overall accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
}
HIERARCHICAL = {"hierarchical_f1": "Hierarchical F1", "mistake_severity": "Mistake severity"}
CALIBRATION = {"log_loss": "Log loss", "brier": "Brier score", "ece": "Calibration error"}
CHANGE = {"change_f1": "Change F1", "change_iou": "Change IoU"}
ALL_METRICS = METRICS | HIERARCHICAL | CALIBRATION | CHANGE
# What the table shows of them unasked; the others are a column when it is sorted by them.
IN_TABLE = frozenset(ALL_METRICS) - {"mistake_severity", "brier"}
SMALLER_IS_BETTER = frozenset({*CALIBRATION, "mistake_severity"})


def summarise(scores: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """Condense ``Scores`` and a ``ModelCard`` (both as JSON) for the table.

    Returns:
        ``model``, ``sensors``, ``pretraining``, ``parameters``, ``saw_labels`` of the card, and ``levels``:
        level → metric → [value, low, high], where low and high bound the 95 % interval or are None. Hierarchical
        scores, which are of all levels, stand at that of the predictions.
    """
    levels = {level: _level(part) for level, part in scores["levels"].items()}
    tree = scores["hierarchical"]
    for name, field in (("hierarchical_f1", "f1"), ("mistake_severity", "mistake_severity")):
        if tree[field] is not None:
            interval = tree.get("intervals", {}).get(field)  # scorer 1.0 had none
            levels[str(scores["level"])][name] = _with_interval(tree[field], interval)
    for part in scores.get("change") or ():
        for name in ("f1", "iou"):
            if part[name] is not None:
                figures = levels.setdefault(str(part["level"]), {})
                figures[f"change_{name}"] = _with_interval(part[name], part["intervals"].get(name))
    return {
        "model": card["name"],
        "sensors": sorted(card["sensors"]),
        "pretraining": card["pretraining"],
        "parameters": card["parameters"],
        "saw_labels": card["saw_scored_labels"],
        "scorer_version": scores["scorer_version"],
        "levels": levels,
    }


def _level(part: dict[str, Any]) -> dict[str, list[float | None]]:
    figures = {name: part[name] for name in METRICS}
    if part["calibration"]:
        figures |= {name: part["calibration"][name] for name in CALIBRATION}
    return {name: _with_interval(value, part["intervals"].get(name)) for name, value in figures.items()}


def _with_interval(value: float, interval: dict[str, float] | None) -> list[float | None]:
    return [value, interval["low"], interval["high"]] if interval else [value, None, None]
