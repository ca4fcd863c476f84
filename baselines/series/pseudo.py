"""Step 2, pseudo-labels: a forest labels the cells of every year; those on which all years agree are drawn."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from baselines.registry import Count, Part
from lulcbench._parallel import executor, in_order, slots
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

_PART = 50_000  # series that a forest labels at a time
Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


class PseudoRule(Part):
    """Step 2.

    Attributes:
        trees: trees of the forest.
        train, val: number of cells to draw from the train and from the val split.
        changing: also draw cells whose pseudo-labels differ between years, each with the probability of its change.
        omit: leave out classes of the map without a reliable sample, in place of an error.
    """

    trees: Count = 100
    train: Count = 24_000
    val: Count = 12_000
    changing: bool = False
    omit: bool = False


@dataclass(frozen=True)
class PseudoLabels:
    """Labels of the cells of every year.

    Attributes:
        labels: class indices ``(n, year)``.
        confidence: probability of the label of each year, ``(n, year)``.
    """

    labels: Ints
    confidence: Floats

    @property
    def agree(self) -> npt.NDArray[np.bool_]:
        """Whether all years have the same label, ``(n,)``."""
        same: npt.NDArray[np.bool_] = (self.labels == self.labels[:, :1]).all(axis=1)
        return same


def grow(features: Floats, labels: Ints, trees: int, seed: int) -> RandomForestClassifier:
    """Grow the forest on reliable samples of the map's year: features ``(n, feature)``, class indices ``(n,)``."""
    from sklearn.ensemble import RandomForestClassifier  # takes a second

    return RandomForestClassifier(trees, min_samples_leaf=2, n_jobs=1, random_state=seed).fit(features, labels)


def label_years(forest: RandomForestClassifier, features: Floats, scheduler: str | None = None) -> PseudoLabels:
    """Label the cells of every year.

    Args:
        forest: of ``grow``.
        features: ``(n, year, feature)``.
        scheduler: address of a dask scheduler, whose workers predict parts, with the same result; None predicts here.
    """
    n, years, depth = features.shape
    flat = features.reshape(n * years, depth)
    with executor(1, scheduler) as workers:
        shared = _shared(forest, workers)
        jobs = ((shared, flat[start : start + _PART]) for start in range(0, len(flat), _PART))
        p = np.concatenate(list(in_order(workers, _predict, jobs, 2 * slots(workers, 1)))).reshape(n, years, -1)
    best = p.argmax(axis=2)
    return PseudoLabels(np.asarray(forest.classes_)[best].astype(np.int64), p.max(axis=2))


def _shared(forest: RandomForestClassifier, workers: Executor | None) -> Any:
    """The forest; on a cluster a future of it, so that it is sent to each worker once and not with each part."""
    if workers is None:
        return forest
    from distributed import Client

    return Client.current().scatter(forest, broadcast=True)  # type: ignore[no-untyped-call]


def _predict(job: tuple[RandomForestClassifier, Floats]) -> Floats:
    forest, features = job
    return np.asarray(forest.predict_proba(features))


def check_classes(wanted: Ints, reliable: Ints, names: tuple[str, ...], omit: bool) -> None:
    """Check that every class of a map has a reliable sample.

    Raises:
        LulcbenchError: a class has none, and such classes are not to be left out.
    """
    lacking = sorted(set(wanted.tolist()) - set(reliable.tolist()))
    if lacking and not omit:
        listed = ", ".join(names[i] for i in lacking)
        raise LulcbenchError(
            f"No sample of {listed} is reliable.", "Relax data.samples, or leave such classes out: data.pseudo.omit."
        )


def draw(
    pseudo: PseudoLabels, blocks: npt.NDArray[np.str_], count: int, changing: bool, seed: int
) -> npt.NDArray[np.intp]:
    """Rows of a random sample, stratified by class and block.

    Every class gets an equal share of the sample, and within a class every block; what a stratum lacks goes to the
    others.

    Args:
        pseudo: the labels.
        blocks: spatial block of each cell, ``(n,)``.
        count: number of cells to draw.
        changing: whether cells whose labels differ may be drawn: each is a candidate with the probability that all its
            labels are right, under independence of the years.
        seed: seed of the draw.

    Raises:
        LulcbenchError: there is no candidate.
    """
    rng = np.random.default_rng(seed)
    candidate = pseudo.agree.copy()
    if changing:
        candidate |= rng.random(len(candidate)) < pseudo.confidence.prod(axis=1)
    rows = np.flatnonzero(candidate)
    if not len(rows):
        raise LulcbenchError(
            "The pseudo-labels of all cells change between years.",
            "Check the imagery of the years, or draw changing cells too: data.pseudo.changing.",
        )
    rows = rng.permutation(rows)
    classes, of_class = np.unique(pseudo.labels[rows, 0], return_inverse=True)
    places, of_block = np.unique(blocks[rows], return_inverse=True)
    strata = [[rows[(of_class == c) & (of_block == b)] for b in range(len(places))] for c in range(len(classes))]
    per_class = _shares([sum(map(len, blocks_)) for blocks_ in strata], count)
    chosen = [
        cells[:n]
        for blocks_, quota in zip(strata, per_class, strict=True)
        for cells, n in zip(blocks_, _shares([len(cells) for cells in blocks_], quota), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _shares(sizes: list[int], count: int) -> list[int]:
    """Equal shares of a count among groups, none above the size of its group.

    Examples:
        >>> _shares([2, 10, 10], 12)
        [2, 5, 5]
    """
    shares = [0] * len(sizes)
    left = min(count, sum(sizes))
    while left:
        open_groups = [i for i, size in enumerate(sizes) if shares[i] < size]
        each = max(1, left // len(open_groups))
        for i in open_groups:
            taken = min(each, sizes[i] - shares[i], left)
            shares[i] += taken
            left -= taken
            if not left:
                break
    return shares
