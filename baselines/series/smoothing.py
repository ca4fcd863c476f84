"""Temporal smoothing of yearly class probabilities by a hidden Markov model on the class tree.

The states are the classes of a map. Between years a class stays with a probability of its own at each level: leaving
it at level 1 is rarer than at level 2 within the same level-1 class. What leaves is spread over the classes of the
other branches: in proportion to how frequent they are or, where labels of several years are known, to how often each
class became each other one. Fields become houses, and houses do not become fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import evaluate
from lulcbench.evaluation.series import series_sums
from lulcbench.legend import ClassScheme

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.integer[Any]]
TINY = 1e-12
# To 1e-5: networks are surer of each year than they are right, and the rarest changes have a share of 1e-3 a year.
CANDIDATES = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99995, 0.99999)


FEW = 10.0  # pixels of change, of which a class must have seen about as many before its own rates count as much


def transitions(
    scheme: ClassScheme,
    stay: Sequence[float],
    prior: npt.NDArray[np.floating[Any]],
    changes: npt.NDArray[np.integer[Any]] | None = None,
) -> Floats:
    """Transition probabilities of the classes of a level, from the probability to stay at each level.

    Args:
        scheme: the classes.
        stay: probability that the class of a pixel at level 1, 2, … is the same a year later, given that the coarser
            one is; one per level.
        prior: frequency of each class, ``(class,)``, with sum 1.
        changes: pixels of each class in a map (rows) that have each class in the next one, see ``count_pairs``. Classes
            leave and are entered as often as there, in relation to all classes; where the counts expect or show fewer
            than ``FEW`` changes, mostly as without them. None knows nothing of pairs.

    Returns:
        float64 ``(class, class)``; rows are the year before, and sum to 1.

    Raises:
        LulcbenchError: there is not one probability per level and class, or one is not within 0 to 1.

    Examples:
        >>> matrix = transitions(ClassScheme.luisa(1), [0.9], np.full(5, 0.2))
        >>> matrix[0].round(3).tolist()
        [0.9, 0.025, 0.025, 0.025, 0.025]
    """
    classes = len(scheme.codes())
    if len(stay) != scheme.depth or len(prior) != classes:
        raise LulcbenchError(
            f"There are {len(stay)} probabilities to stay and {len(prior)} classes.",
            f"The {scheme.label} classes have {scheme.depth} levels, and there are {classes}.",
        )
    if not all(0 <= value <= 1 for value in stay):
        raise LulcbenchError(f"Probabilities to stay are {list(stay)}.", "Give numbers from 0 to 1.")
    weights = np.maximum(np.asarray(prior, np.float64), TINY)
    counts = np.zeros((classes, classes)) if changes is None else np.asarray(changes, np.float64)
    paths = np.stack([scheme.over(n) for n in scheme.levels])  # level, class
    matrix = np.ones((classes, classes))
    inside = np.ones((classes, classes), bool)  # same classes at all levels so far
    for path, value in zip(paths, stay, strict=True):
        same = inside & (path[:, None] == path[None, :])
        left = inside & ~same
        rate = counts[left].sum() / max(counts[inside].sum(), 1)
        for row in range(classes):
            if not left[row].any():
                continue  # its only child: it cannot be left here
            even = weights[left[row]] / weights[left[row]].sum()
            # How many times as often as the average class, by target.
            known = (counts[row, left[row]] + FEW * even) / (rate * counts[row, inside[row]].sum() + FEW)
            leaving = (1 - value) * known
            leaving *= min(1, max(1 - value, 0.5) / max(leaving.sum(), TINY))
            matrix[row, same[row]] *= 1 - leaving.sum()
            matrix[row, left[row]] *= leaving
        inside = same
    result: Floats = matrix / matrix.sum(axis=1, keepdims=True)
    return result


def count_pairs(before: Classes, after: Classes, classes: int) -> npt.NDArray[np.int64]:
    """Pixels of each class (rows) that have each class in a later map: int64 ``(class, class)``.

    Args:
        before: class indices, negative where ignored.
        after: the same of the later map, of the same shape.
        classes: number of classes.
    """
    known = (before >= 0) & (after >= 0)
    pairs = before[known].astype(np.int64) * classes + after[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def estimate_stay(
    before: npt.NDArray[np.integer[Any]], after: npt.NDArray[np.integer[Any]], scheme: ClassScheme, years: int
) -> list[float]:
    """Yearly probability to stay at each level, from two maps that lie several years apart.

    Args:
        before: class indices, negative where ignored.
        after: the same of the later map, of the same shape.
        scheme: the classes.
        years: years between the maps.

    Raises:
        LulcbenchError: the maps have no pixel in common, or are not in order of time.
    """
    known = (before >= 0) & (after >= 0)
    if not known.any() or years < 1:
        raise LulcbenchError("The maps have no pixel in common.", "Give two maps of one place, the older one first.")
    first, second = before[known], after[known]
    stay = []
    inside = np.ones(len(first), bool)
    for n in scheme.levels:
        path = scheme.over(n)
        same = inside & (path[first] == path[second])
        stay.append(float((same.sum() / max(1, inside.sum())) ** (1 / years)))
        inside = same
    return stay


def choose_stay(
    smoothed: Callable[[list[float]], Sequence[Classes]],
    labels: Sequence[Classes],
    years: Sequence[int],
    scheme: ClassScheme,
) -> list[float]:
    """Yearly probability to stay at each level that gives the best change, within a year, on labelled maps.

    The best has the highest precision or recall, whichever is lower, so that maps show about as much change as there
    is, where F1 alone may prefer a multiple of it. It is the mean of all levels at which the labels show a change: the
    finest alone says little of the coarser ones, whose changes are a small part of its own. Probabilities are searched
    level by level, twice, among ``CANDIDATES``.

    Args:
        smoothed: gives the smoothed class indices of each tile, ``(year, …)``, for probabilities to stay.
        labels: class indices of the labels of each tile, ``(year, …)``, negative where ignored. They must not be those
            of the split that the maps are scored on.
        years: years of both.
        scheme: the classes.

    Raises:
        LulcbenchError: the labels show no change between the years.
    """
    truth = {n: [_at_level(part, scheme, n) for part in labels] for n in scheme.levels}
    shown = [n for n, parts in truth.items() if any(_changes(part) for part in parts)]
    if not shown:
        raise LulcbenchError(
            f"The labels of {years[0]} to {years[-1]} show no change, from which smoothing could be chosen.",
            "Give predict.stay.",
        )
    scores: dict[tuple[float, ...], float] = {}

    def of(stay: list[float]) -> float:
        if tuple(stay) not in scores:
            maps = smoothed(stay)
            scores[tuple(stay)] = float(np.mean([lower(n, maps) for n in shown]))
        return scores[tuple(stay)]

    def lower(n: int, maps: Sequence[Classes]) -> float:
        parts = [
            series_sums(known, _at_level(part, scheme, n), years) for known, part in zip(truth[n], maps, strict=True)
        ]
        total: npt.NDArray[np.int64] = np.array(parts).sum(axis=0)
        values = evaluate(Family.SERIES, total)
        value = min(float(values["near_change_precision"]), float(values["near_change_recall"]))
        return value if np.isfinite(value) else 0.0  # without any change there is no precision

    best = [0.98] * scheme.depth
    for n in list(range(scheme.depth)) * 2:
        best = max(([*best[:n], value, *best[n + 1 :]] for value in CANDIDATES), key=of)
    return best


def _at_level(classes: Classes, scheme: ClassScheme, level: int) -> Classes:
    """Class indices of a level, negative where ignored."""
    return np.where(classes >= 0, scheme.over(level)[classes], -1)


def _changes(classes: Classes) -> bool:
    """Whether a pixel that is known in all years changes."""
    return bool(((classes[1:] != classes[:-1]) & (classes.min(axis=0) >= 0)).any())


def forward_backward(p: npt.NDArray[np.floating[Any]], matrix: Floats, prior: npt.NDArray[np.floating[Any]]) -> Floats:
    """Probabilities of each year given those of all years.

    Args:
        p: class probabilities of a classifier ``(year, class, …)``; divided by ``prior`` they are likelihoods.
        matrix: transition probabilities ``(class, class)``.
        prior: frequency of each class in training, ``(class,)``.

    Returns:
        float64 of the shape of ``p``, with sum 1 over classes. Where the matrix and probabilities of 0 leave no
        sequence possible, both are at least ``TINY``, as for ``viterbi``.
    """
    likelihood = _likelihood(p, prior)
    out = _posterior(likelihood, matrix, prior)
    # A forest gives probabilities of 0, and labels that never change transitions of 0. Together they exclude all.
    lost = ~(np.abs(out.sum(axis=1) - 1) < 1e-6).all(axis=0)
    if lost.any():
        known = (np.asarray(prior) > 0)[None, :, None]
        possible = np.where(known, np.maximum(likelihood[:, :, lost], TINY), 0.0)
        out[:, :, lost] = _posterior(possible, np.maximum(matrix, TINY), prior)
    return out.reshape(np.shape(p))


def _posterior(likelihood: Floats, matrix: Floats, prior: npt.NDArray[np.floating[Any]]) -> Floats:
    """Probabilities of each year, ``(year, class, pixel)``; without sum where no sequence is possible."""
    years = len(likelihood)
    forward = np.empty_like(likelihood)
    forward[0] = _normalized(likelihood[0] * prior[:, None])
    for year in range(1, years):
        forward[year] = _normalized(likelihood[year] * (matrix.T @ forward[year - 1]))
    backward = np.ones_like(likelihood[0])
    out = np.empty_like(likelihood)
    for year in range(years - 1, -1, -1):
        out[year] = _normalized(forward[year] * backward)
        backward = _normalized(matrix @ (likelihood[year] * backward))
    return out


def viterbi(
    p: npt.NDArray[np.floating[Any]], matrix: Floats, prior: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.int64]:
    """The most probable sequence of classes, ``(year, …)``; see ``forward_backward``."""
    # A class without training samples has no likelihood: nothing may lead to it, however likely the steps.
    known = (np.asarray(prior) > 0)[None, :, None]
    score = np.where(known, np.log(np.maximum(_likelihood(p, prior), TINY)), -np.inf)
    step = np.log(np.maximum(matrix, TINY))
    years, classes, pixels = score.shape
    best = score[0] + np.log(np.maximum(prior, TINY))[:, None]
    came = np.empty((years, classes, pixels), np.int64)
    for year in range(1, years):
        options = best[:, None, :] + step[:, :, None]  # before, after, pixel
        came[year] = options.argmax(axis=0)
        best = options.max(axis=0) + score[year]
    path = np.empty((years, pixels), np.int64)
    path[-1] = best.argmax(axis=0)
    for year in range(years - 1, 0, -1):
        path[year - 1] = np.take_along_axis(came[year], path[year][None], axis=0)[0]
    return path.reshape((years, *np.shape(p)[2:]))


@dataclass(frozen=True)
class Smoothing:
    """Smoothing of the maps of years that are equally far apart.

    Attributes:
        method: ``forward-backward``, or ``viterbi`` for the classes of the most probable sequence.
        scheme: the classes.
        prior: frequency of each class in training, ``(class,)``.
        gap: years between two maps.
        stay: yearly probability to stay at each level.
        changes: see ``transitions``.
    """

    method: Literal["forward-backward", "viterbi"]
    scheme: ClassScheme
    prior: Floats
    gap: int
    stay: tuple[float, ...]
    changes: npt.NDArray[np.int64] | None = None

    def with_stay(self, stay: Sequence[float]) -> Smoothing:
        """The same with other probabilities to stay."""
        return replace(self, stay=tuple(stay))

    @cached_property
    def matrix(self) -> Floats:
        """Transition probabilities from one map to the next, ``(class, class)``.

        Raises:
            LulcbenchError: the years are not in ascending order.
        """
        if self.gap < 1:
            raise LulcbenchError(f"The maps are {self.gap} years apart.", "Name each year once, in ascending order.")
        yearly = transitions(self.scheme, self.stay, self.prior, self.changes)
        power: Floats = np.linalg.matrix_power(yearly, self.gap)
        return power

    def probabilities(self, p: npt.NDArray[np.floating[Any]]) -> Floats:
        """Probabilities of each year given those of all years, ``(year, class, …)``."""
        return forward_backward(p, self.matrix, self.prior)

    def classes(self, p: npt.NDArray[np.floating[Any]], smooth: Floats | None = None) -> npt.NDArray[np.integer[Any]]:
        """Class indices ``(year, …)`` of probabilities ``(year, class, …)``, which may be smoothed already."""
        if self.method == "viterbi":
            return viterbi(p, self.matrix, self.prior)
        smooth = self.probabilities(p) if smooth is None else smooth
        return np.stack([self.scheme.decide(part.astype(np.float32)) for part in smooth])


def _likelihood(p: npt.NDArray[np.floating[Any]], prior: npt.NDArray[np.floating[Any]]) -> Floats:
    """Likelihoods up to a factor, ``(year, class, pixel)``; 0 of classes that the training set does not have.

    A classifier gives them small probabilities, which divided by a frequency of 0 would be large in every year.
    """
    flat = np.asarray(p, np.float64).reshape(len(p), p.shape[1], -1)
    known = (np.asarray(prior) > 0)[None, :, None]
    ratio = np.where(known, flat / np.maximum(np.asarray(prior, np.float64), TINY)[None, :, None], 0.0)
    ratio = np.where((ratio.sum(axis=1, keepdims=True) > 0) | ~known, ratio, 1.0)  # no evidence for any
    return _normalized(ratio, axis=1)


def _normalized(values: Floats, axis: int = 0) -> Floats:
    scaled: Floats = values / np.maximum(values.sum(axis=axis, keepdims=True), TINY**2)
    return scaled
