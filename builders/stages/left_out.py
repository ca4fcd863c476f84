"""What a build does not use, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item that is not used: why, and the figures or names that show it."""

    collection: str
    id: str
    reason: str
    detail: str = ""


def count_reasons(reasons: Iterable[str]) -> str:
    """Reasons with their counts, most frequent first.

    Example:
        >>> count_reasons(["no labels", "no quality layer", "no labels"])
        '2 no labels, 1 no quality layer'
    """
    counts = Counter(sorted(reasons))
    return ", ".join(f"{n} {reason}" for reason, n in counts.most_common())
