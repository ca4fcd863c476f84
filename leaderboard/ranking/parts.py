"""The board by class, by region, and at label edges: the ranking of a table for each part of its pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leaderboard.ranking.choice import Choice
from leaderboard.ranking.table import Row, Snapshot
from lulcbench.evaluation.metrics import METRICS, RANKING
from lulcbench.legend import legend

KINDS = {"class": "Classes", "region": "Regions", "edge": "Label edges"}


@dataclass(frozen=True, slots=True)
class Part:
    """The ranking for one part.

    Attributes:
        kind: a key of ``KINDS``.
        name: class code, name of a region, ``edge`` or ``interior``.
        ranking: rows and their values, best first: IoU of a class, otherwise ``RANKING``.
    """

    kind: str
    name: str
    ranking: tuple[tuple[Row, float], ...]

    @property
    def key(self) -> str:
        """The part in an address."""
        return f"{self.kind}-{self.name}"

    @property
    def label(self) -> str:
        """Name on the page."""
        if self.kind == "class":
            return f"{self.name} {legend().classes[int(self.name)].name}"
        return f"label {self.name}s" if self.kind == "edge" else self.name

    @property
    def color(self) -> str:
        """Colour of a class; empty for other parts."""
        return legend().classes[int(self.name)].color if self.kind == "class" else ""

    @property
    def ranked(self) -> list[tuple[int, Row, float]]:
        """Rank, row and value; rows with the same value share a rank."""
        values = [value for _, value in self.ranking]
        return [(values.index(value) + 1, row, value) for row, value in self.ranking]

    @property
    def leaders(self) -> list[tuple[list[Row], float]]:
        """The rows of the best value, and of the second best."""
        groups: dict[int, tuple[list[Row], float]] = {}
        for rank, row, value in self.ranked:
            groups.setdefault(rank, ([], value))[0].append(row)
        return list(groups.values())[:2]

    @property
    def metric(self) -> str:
        """Name of the value."""
        return "IoU" if self.kind == "class" else METRICS[RANKING].label


def parts(snapshot: Snapshot, choice: Choice) -> list[Part]:
    """The parts of a table at its level, in the order of ``KINDS``; models that saw the scored labels are left out."""
    rows = snapshot.select(choice.model_copy(update={"sort": RANKING, "order": None, "saw_labels": False}))
    found: dict[tuple[str, str], list[tuple[Row, float]]] = {}
    for row in rows:
        for kind, name, value in _values(row.parts.get(choice.level, {})):
            found.setdefault((kind, name), []).append((row, value))
    order = list(KINDS)
    return [
        Part(kind, name, tuple(sorted(values, key=lambda known: -known[1])))
        for (kind, name), values in sorted(found.items(), key=lambda part: (order.index(part[0][0]), part[0][1]))
        if kind != "class" or int(name) in legend().classes
    ]


def _values(known: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, float]]:
    for kind in KINDS:
        for name, value in known.get(kind, {}).items():
            yield kind, name, float(value)
