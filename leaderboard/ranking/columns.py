"""The columns of the table besides metrics. A column is added here; page, CSV, JSON and sorting follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leaderboard.ranking.table import Row

TIER_ORDER = ("reproduced", "rescored", "reported")


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: value of ``sort`` in addresses.
        label: title on the page.
        key: name in JSON and CSV.
        value: value of a row in JSON and CSV.
        order: sort key of a row; None sorts it last. By default, the value.
        text: text of a row on the page, after the metrics; None for columns that the page places itself.
        numeric: align to the right.
    """

    name: str
    label: str
    key: str
    value: Callable[[Row], Any]
    order: Callable[[Row], Any] | None = None
    text: Callable[[Row], str] | None = None
    numeric: bool = False

    def sort_key(self, row: Row) -> Any:
        """Sort key of a row; None for unknown values."""
        return (self.order or self.value)(row)


def _millions(row: Row) -> str:
    if row.parameters is None:
        return "–"
    if row.parameters < 1000:
        return str(row.parameters)
    return f"{row.parameters / 1e6:.1f} M" if row.parameters >= 1e5 else f"{row.parameters / 1e3:.1f} k"


def _hours(row: Row) -> str:
    hours = row.card.get("training_hours")
    if hours is None:
        return "–"
    return f"{60 * hours:.1f} min" if hours < 1 else f"{hours:.1f} h"


COLUMNS = {
    column.name: column
    for column in (
        Column("model", "Model", "model", lambda row: row.model, lambda row: row.model.casefold()),
        Column("team", "Team", "team", lambda row: row.team, lambda row: row.team.casefold()),
        Column("tier", "Trust", "tier", lambda row: row.tier, lambda row: TIER_ORDER.index(row.tier)),
        Column(
            "sensors",
            "Sensors",
            "sensors",
            lambda row: row.sensor_set,
            lambda row: row.sensors,
            lambda row: " + ".join(row.sensors) or "none",
        ),
        Column(
            "pretraining", "Pretraining", "pretraining", lambda row: row.pretraining, text=lambda row: row.pretraining
        ),
        Column("parameters", "Parameters", "parameters", lambda row: row.parameters, text=_millions, numeric=True),
        Column(
            "training",
            "Training",
            "training_hours",
            lambda row: row.card.get("training_hours"),
            text=_hours,
            numeric=True,
        ),
        Column(
            "device",
            "Device",
            "device",
            lambda row: row.card.get("device"),
            text=lambda row: row.card.get("device") or "–",
        ),
        Column("date", "Date", "submitted", lambda row: row.submitted.isoformat(), lambda row: row.submitted),
    )
}
