"""Land change in time series of class probabilities of patches, of any classifier.

A patch has one class at a time, which seldom changes: a hidden Markov model, whose observations are the probabilities
that a classifier gives for each date. Three properties keep seasons and clouds from looking like change:

- the dates of a quarter of a year count as one observation (their mean log-probability), so that many images of one
  snowy month are no more than one doubt;
- any observation may be an outlier (``OUTLIERS``), so that a cloud or a bare field contradicts a class only so much;
- a change costs as much as its rarity (``RATE`` per year), so that it needs contradictions in several quarters, and a
  seasonal aspect that returns every year would need two changes a year.

Probabilities of changes are those of the model (forward–backward algorithm: Rabiner 1989, Proceedings of the IEEE 77,
257–286). ``benchmarks/spotting.py`` measures false alarms, missed changes and errors of dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend

OUTLIERS: Final = 0.1  # share of observations that say nothing about the class
COMPOSITE_OUTLIERS: Final = 0.01  # the same of composites, which clouds and single dates do not reach
RATE: Final = 0.02  # changes per patch and year
CLEAR: Final = 0.5  # share of a patch without clouds in an image that is used, at least
CONFIDENCE: Final = 0.6  # of a change that is reported, at least
_QUARTER = 365.25 / 4  # days
_INTERVAL = 0.9  # probability that the change is between the two dates of an interval
_ARTIFICIAL, _FOREST = 1, 31  # LUISA codes

Floats = npt.NDArray[np.float64]
Dates = npt.NDArray[np.datetime64]


@dataclass(frozen=True)
class Change:
    """A change of class.

    Attributes:
        kind: ``built-up``, ``demolished``, ``deforested`` or ``other``.
        before: LUISA code before the change.
        after: LUISA code after it.
        first: last date before the change at which the old class was seen, ``datetime64[D]``.
        last: first date at which the new class was seen.
        confidence: probability of the change.
    """

    kind: str
    before: int
    after: int
    first: np.datetime64
    last: np.datetime64
    confidence: float


def kind_of(before: int, after: int) -> str:
    """Kind of the change from a LUISA code to another.

    Examples:
        >>> kind_of(31, 21), kind_of(211, 112), kind_of(12, 32), kind_of(21, 23)
        ('deforested', 'built-up', 'demolished', 'other')
    """
    artificial = [_is(code, _ARTIFICIAL) for code in (before, after)]
    if artificial == [False, True]:
        return "built-up"
    if artificial == [True, False]:
        return "demolished"
    if _is(before, _FOREST) and not _is(after, _FOREST):
        return "deforested"
    return "other"


def _is(code: int, ancestor: int) -> bool:
    return str(code).startswith(str(ancestor)) and code in legend().classes


def spot(
    dates: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    codes: npt.ArrayLike,
    rate: float = RATE,
    confidence: float = CONFIDENCE,
    outliers: float = OUTLIERS,
) -> list[Change]:
    """Find the changes of one patch.

    Args:
        dates: of the images, ``datetime64[D]`` ``(t,)`` in any order; clouded images are left out beforehand.
        probabilities: of the classes, ``(t, k)``; a row of NaN is left out.
        codes: LUISA code of each class, ``(k,)``; classes with the same code are summed.
        rate: changes per patch and year.
        confidence: least probability of a change that is reported.
        outliers: share of observations that say nothing about the class.

    Raises:
        LulcbenchError: shapes do not agree, values are not probabilities, or a code is not of LUISA.

    Examples:
        >>> dates = np.arange("2015-01", "2020-01", 2, dtype="datetime64[M]").astype("datetime64[D]")
        >>> p = np.where(dates[:, None] < np.datetime64("2017-06-01"), [0.9, 0.1], [0.2, 0.8])
        >>> [(change.kind, str(change.first), str(change.last)) for change in spot(dates, p, [31, 21])]
        [('deforested', '2017-03-01', '2017-11-01')]
    """
    times = np.asarray(dates, "datetime64[D]")
    p, own = np.asarray(probabilities, np.float64), np.asarray(codes, np.int64)
    if p.shape != (len(times), len(own)):
        raise LulcbenchError(
            f"Probabilities of shape {p.shape} are not of {len(times)} dates and {len(own)} classes.",
            "Give one row per date and one column per class.",
        )
    if unknown := sorted(set(own.tolist()) - set(legend().classes)):
        raise LulcbenchError(f"{unknown[:8]} are not LUISA codes.", "Translate the classes by a crosswalk.")
    used = ~np.isnan(p).any(axis=1) & ~np.isnat(times)
    times, p = times[used], p[used]
    if p.size and ((p < 0).any() or (np.abs(p.sum(axis=1) - 1) > 0.01).any()):
        raise LulcbenchError("Rows of probabilities do not sum to 1.", "Give the probabilities of all classes.")
    states = np.unique(own)
    p = np.stack([p[:, own == code].sum(axis=1) for code in states], axis=1)
    order = np.argsort(times, kind="stable")
    times, p = times[order], p[order]
    if len(states) < 2 or len(times) < 2:
        return []
    bins = np.floor(times.astype(np.int64) / _QUARTER).astype(np.int64)
    _, first, which = np.unique(bins, return_index=True, return_inverse=True)
    usual = np.log(outliers / len(states) + (1 - outliers) * p)
    evidence = np.stack([np.bincount(which, column) for column in usual.T], axis=1) / np.bincount(which)[:, None]
    years = np.diff(bins[first]) * _QUARTER / 365.25
    return _changes(times, which, usual, evidence, years, states, rate, confidence)


def _changes(
    times: Dates,
    which: npt.NDArray[np.intp],
    usual: Floats,
    evidence: Floats,
    years: Floats,
    states: npt.NDArray[np.int64],
    rate: float,
    confidence: float,
) -> list[Change]:
    """Changes of the most probable sequence of classes, with their probabilities."""
    n, k = evidence.shape
    moves = 1 - np.exp(-rate * years)
    likelihood = np.exp(evidence - evidence.max(axis=1, keepdims=True))

    def step(at: int) -> Floats:
        own: Floats = np.full((k, k), moves[at] / (k - 1))
        np.fill_diagonal(own, 1 - moves[at])
        return own

    forward, backward = np.zeros((n, k)), np.ones((n, k))
    forward[0] = likelihood[0] / likelihood[0].sum()
    best, origin = evidence[0], np.zeros((n, k), np.intp)
    for at in range(1, n):
        matrix = step(at - 1)
        forward[at] = likelihood[at] * (forward[at - 1] @ matrix)
        forward[at] /= forward[at].sum()
        scores = best[:, None] + np.log(matrix)
        origin[at] = scores.argmax(axis=0)
        best = scores.max(axis=0) + evidence[at]
    for at in range(n - 2, -1, -1):
        backward[at] = step(at) @ (likelihood[at + 1] * backward[at + 1])
        backward[at] /= backward[at].sum()
    path = np.zeros(n, np.intp)
    path[-1] = best.argmax()
    for at in range(n - 1, 0, -1):
        path[at - 1] = origin[at, path[at]]
    turns = np.flatnonzero(np.diff(path))
    found = []
    for number, turn in enumerate(turns):
        a, b = path[turn], path[turn + 1]
        # The change is somewhere between the neighbouring ones.
        low = turns[number - 1] + 1 if number else 0
        high = turns[number + 1] if number + 1 < len(turns) else n - 1
        mass = np.zeros(n - 1)
        for at in range(low, high):
            joint = forward[at][:, None] * step(at) * (likelihood[at + 1] * backward[at + 1])[None, :]
            mass[at] = joint[a, b] / joint.sum()
        total = mass.sum()
        if total < confidence:
            continue
        left = right = int(turn)
        while mass[left : right + 1].sum() < _INTERVAL * total:
            beside = (mass[left - 1] if left > low else -1.0, mass[right + 1] if right + 1 < high else -1.0)
            left, right = (left - 1, right) if beside[0] >= beside[1] else (left, right + 1)
        before, after = int(states[a]), int(states[b])
        near = np.flatnonzero((which >= left) & (which <= right + 1))
        earliest, latest = _dated(times[near], usual[near, b] - usual[near, a])
        found.append(Change(kind_of(before, after), before, after, earliest, latest, float(min(total, 1.0))))
    return found


def _dated(times: Dates, doubt: Floats) -> tuple[np.datetime64, np.datetime64]:
    """The dates between which a change is, from what single images say for the new class: ``(t,)`` each.

    Images of one quarter have errors in common, hence their log-probabilities count half.
    """
    # Behind which image the change is: those before it speak for the old class, the others for the new one.
    support = np.cumsum(doubt[::-1])[::-1][1:] - np.cumsum(doubt)[:-1]
    mass = np.exp((support - support.max()) / 4)
    mass /= mass.sum()
    left = right = int(mass.argmax())
    while mass[left : right + 1].sum() < _INTERVAL:
        beside = (mass[left - 1] if left else -1.0, mass[right + 1] if right + 1 < len(mass) else -1.0)
        left, right = (left - 1, right) if beside[0] >= beside[1] else (left, right + 1)
    return times[left], times[right + 1]
