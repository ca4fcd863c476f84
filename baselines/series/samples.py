"""Step 1, reliable samples: which cells of an older map are believed, and why.

Four methods behind one call, ``clean``: k-means of each polygon (Paris & Bruzzone 2019,
https://doi.org/10.1109/TGRS.2018.2864711), k-means of all samples whose clusters are compared by polygon, a
self-organising map as in the R package sits (https://doi.org/10.1016/j.isprsjprs.2021.04.014), and confident learning
(Northcutt et al. 2021, https://doi.org/10.1613/jair.1.12125).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.registry import Count, Part, Positive
from lulcbench.errors import LulcbenchError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

# Why a sample is kept or left out. Those of ``KEPT`` are kept.
NOT_CLEANED = "not cleaned"
DOMINANT = "dominant cluster"
ALIKE = "all clusters alike"
OTHER = "other cluster"
FEW = "too few cells in the polygon"
NEURON = "neuron and neighbours agree"
AMBIGUOUS = "neighbours disagree"
MINORITY = "minority of its neuron"
CONFIDENT = "label is confident"
ISSUE = "label is an issue"
KEPT = frozenset({NOT_CLEANED, DOMINANT, ALIKE, NEURON, CONFIDENT})


class SampleRule(Part):
    """Step 1.

    Attributes:
        method: ``none``, ``kmeans``, ``polygon-kmeans``, ``som`` or ``confident``.
        clusters: k-means: largest number of clusters.
        parts: k-means of each polygon: number of clusters of a polygon.
        dominance: k-means: how many times more frequent a dominant cluster is in a polygon than overall.
        fewest: both k-means: polygons with fewer cells are left out.
        side: self-organising map: neurons along each side.
        prior, posterior: self-organising map: least share of a label in its neuron, and in the neuron smoothed by its
            neighbours.
        trees, folds: confident learning: trees of the forest, and groups of blocks that it is validated on.
    """

    method: Literal["none", "kmeans", "polygon-kmeans", "som", "confident"] = "kmeans"
    clusters: Annotated[int, Field(ge=2)] = 100
    parts: Annotated[int, Field(ge=2)] = 3
    dominance: Positive = 1.5
    fewest: Annotated[int, Field(ge=2)] = 8
    side: Annotated[int, Field(ge=2)] = 10
    prior: Annotated[float, Field(gt=0, le=1)] = 0.6
    posterior: Annotated[float, Field(gt=0, le=1)] = 0.6
    trees: Count = 60
    folds: Annotated[int, Field(ge=2)] = 4


@dataclass(frozen=True)
class Cleaned:
    """Result of step 1.

    Attributes:
        kept: whether each sample is kept, bool ``(n,)``.
        reasons: why it is, or is not, ``(n,)``.
    """

    kept: npt.NDArray[np.bool_]
    reasons: npt.NDArray[np.str_]

    def counts(self) -> dict[str, int]:
        """Number of samples by reason."""
        names, numbers = np.unique(self.reasons, return_counts=True)
        return dict(zip(names.tolist(), numbers.tolist(), strict=True))


def clean(
    features: Floats, labels: Ints, polygons: Ints, blocks: npt.NDArray[np.str_], rule: SampleRule, seed: int = 0
) -> Cleaned:
    """Choose the samples whose label is believed.

    Args:
        features: series of one year, ``(n, feature)``, finite.
        labels: class indices ``(n,)``.
        polygons: polygon of each sample ``(n,)``, of one class each.
        blocks: spatial block of each sample ``(n,)``.
        rule: the method.
        seed: seed of the method.

    Raises:
        LulcbenchError: there is no sample, a feature is not finite, or a polygon has several labels.
    """
    if not len(features):
        raise LulcbenchError("There is no sample.", "Check the split, the labels and the years.")
    if not np.isfinite(features).all():
        raise LulcbenchError("A sample has missing values.", "Leave out cells without a clear date in a year.")
    order = np.argsort(polygons, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(polygons[order]) > 0])
    for group in np.split(order, starts[1:]):
        if len(set(labels[group].tolist())) > 1:
            raise LulcbenchError(
                f"Polygon {polygons[group[0]]} has several labels.", "Number connected areas of one class."
            )
    scaled = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    reasons = _METHODS[rule.method](scaled, labels, polygons, blocks, rule, seed)
    return Cleaned(np.isin(reasons, list(KEPT)), reasons)


def _none(scaled: Floats, *_: Any) -> npt.NDArray[np.str_]:
    return np.full(len(scaled), NOT_CLEANED, dtype="<U40")


def _kmeans(
    scaled: Floats, labels: Ints, polygons: Ints, blocks: npt.NDArray[np.str_], rule: SampleRule, seed: int
) -> npt.NDArray[np.str_]:
    """Clusters are those of all samples together: a polygon alone has too few to tell its modes from its noise.

    A cluster is dominant in a polygon if it is so much more frequent there than overall, without the sample itself, and
    not rarer in its class than in others. ``benchmarks/cleaning.py`` compares the methods.
    """
    from sklearn.cluster import MiniBatchKMeans

    if (scaled == scaled[0]).all():
        return np.full(len(scaled), ALIKE, dtype="<U40")
    reduced = _components(scaled, seed)
    count = int(np.clip(len(scaled) // 20, 2, rule.clusters))
    cluster = MiniBatchKMeans(count, n_init=3, random_state=seed, batch_size=4096).fit_predict(reduced)
    classes, areas = (np.unique(values, return_inverse=True)[1] for values in (labels, polygons))
    overall = np.bincount(cluster, minlength=count) / len(cluster)
    in_area, sizes = _table(areas, cluster, count), np.bincount(areas)
    others = (in_area[areas, cluster] - 1) / np.maximum(sizes[areas] - 1, 1)
    in_class = _table(classes, cluster, count) / np.bincount(classes)[:, None]
    dominant = (others >= rule.dominance * overall[cluster]) & (in_class[classes, cluster] >= overall[cluster])
    reasons = np.where(dominant, DOMINANT, OTHER).astype("<U40")
    reasons[(in_area[areas, cluster] == sizes[areas])] = ALIKE
    reasons[sizes[areas] < rule.fewest] = FEW
    return reasons


def _polygon_kmeans(
    scaled: Floats, labels: Ints, polygons: Ints, blocks: npt.NDArray[np.str_], rule: SampleRule, seed: int
) -> npt.NDArray[np.str_]:
    """Each polygon is clustered by itself, and its largest cluster is dominant."""
    from sklearn.cluster import KMeans

    reduced = _components(scaled, seed)
    reasons = np.full(len(scaled), FEW, dtype="<U40")
    order = np.argsort(polygons, kind="stable")
    for cells in np.split(order, np.flatnonzero(np.diff(polygons[order])) + 1):
        if len(cells) < max(rule.fewest, rule.parts):
            continue
        values = reduced[cells]
        if (values == values[0]).all():
            reasons[cells] = ALIKE
            continue
        count = min(rule.parts, len(np.unique(values, axis=0)))
        cluster = KMeans(count, n_init=3, random_state=seed).fit_predict(values)
        reasons[cells] = np.where(cluster == np.bincount(cluster).argmax(), DOMINANT, OTHER)
    return reasons


def _table(group: npt.NDArray[np.intp], cluster: npt.NDArray[np.integer[Any]], count: int) -> Ints:
    """Number of samples of each group in each cluster, ``(group, cluster)``."""
    table = np.zeros((int(group.max()) + 1, count), np.int64)
    np.add.at(table, (group, cluster), 1)
    return table


def _som(
    scaled: Floats, labels: Ints, polygons: Ints, blocks: npt.NDArray[np.str_], rule: SampleRule, seed: int
) -> npt.NDArray[np.str_]:
    from minisom import MiniSom

    reduced = _components(scaled, seed)
    side = rule.side
    som = MiniSom(side, side, reduced.shape[1], sigma=1.0, learning_rate=0.5, random_seed=seed)
    som.random_weights_init(reduced)
    som.train(reduced, min(5 * len(reduced), 50_000), random_order=True)
    codebook = som.get_weights().reshape(-1, reduced.shape[1])
    neuron = _nearest(reduced, codebook)
    classes, of = np.unique(labels, return_inverse=True)
    counts = np.zeros((side * side, len(classes)))
    np.add.at(counts, (neuron, of), 1)
    total = counts.sum(axis=1, keepdims=True)
    prior = counts / np.maximum(total, 1)
    posterior = _smoothed(prior, total[:, 0] > 0, side)
    own_prior, own_posterior = prior[neuron, of], posterior[neuron, of]
    return np.where(
        own_prior < rule.prior, MINORITY, np.where(own_posterior >= rule.posterior, NEURON, AMBIGUOUS)
    ).astype("<U40")


def _smoothed(prior: Floats, used: npt.NDArray[np.bool_], side: int) -> Floats:
    """Class shares of neurons, each averaged with the neurons around it: half the weight is the neuron's own."""
    grid = prior.reshape(side, side, -1)
    there = used.reshape(side, side, 1).astype(np.float64)
    padded, weight = np.pad(grid * there, ((1, 1), (1, 1), (0, 0))), np.pad(there, ((1, 1), (1, 1), (0, 0)))
    total = np.zeros_like(grid)
    number = np.zeros_like(there)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                total += padded[dy : dy + side, dx : dx + side]
                number += weight[dy : dy + side, dx : dx + side]
    around = np.where(number > 0, total / np.maximum(number, 1), grid)
    mixed: Floats = (0.5 * grid + 0.5 * around).reshape(prior.shape)
    return mixed


def _confident(
    scaled: Floats, labels: Ints, polygons: Ints, blocks: npt.NDArray[np.str_], rule: SampleRule, seed: int
) -> npt.NDArray[np.str_]:
    from cleanlab.filter import find_label_issues
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GroupKFold

    classes, of = np.unique(labels, return_inverse=True)
    groups = np.unique(blocks, return_inverse=True)[1]
    if groups.max() == 0:
        raise LulcbenchError(
            "All samples are in one spatial block: confident learning cannot validate.",
            "Use more of the release, or the method kmeans.",
        )
    p = np.full((len(scaled), len(classes)), 1e-6)
    for seen, unseen in GroupKFold(min(rule.folds, int(groups.max()) + 1)).split(scaled, of, groups):
        forest = RandomForestClassifier(rule.trees, min_samples_leaf=3, n_jobs=1, random_state=seed)
        forest.fit(scaled[seen], of[seen])
        p[np.ix_(unseen, forest.classes_)] += forest.predict_proba(scaled[unseen])
    issues = find_label_issues(of, p / p.sum(axis=1, keepdims=True), n_jobs=1)
    return np.where(issues, ISSUE, CONFIDENT).astype("<U40")


def _components(scaled: Floats, seed: int) -> Floats:
    """Principal components that hold 95 % of the variance: distances in all features are dominated by noise."""
    from sklearn.decomposition import PCA

    if min(scaled.shape) < 2:
        return scaled
    reduced: Floats = PCA(0.95, svd_solver="full", random_state=seed).fit_transform(scaled)
    return reduced


def _nearest(values: Floats, codebook: Floats) -> npt.NDArray[np.intp]:
    """Position of the nearest neuron of each sample."""
    squares = (codebook**2).sum(axis=1)
    nearest: npt.NDArray[np.intp] = (squares[None, :] - 2 * values @ codebook.T).argmin(axis=1)
    return nearest


_METHODS: dict[str, Callable[..., npt.NDArray[np.str_]]] = {
    "none": _none,
    "kmeans": _kmeans,
    "polygon-kmeans": _polygon_kmeans,
    "som": _som,
    "confident": _confident,
}


def inject_noise(labels: Ints, polygons: Ints, share: float, seed: int) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Move a share of the samples into polygons of other classes, to measure how much of the noise a method finds.

    Args:
        labels: class indices ``(n,)``.
        polygons: polygon of each sample ``(n,)``.
        share: share of the samples to move.
        seed: seed of the draw.

    Returns:
        Labels and polygons with noise, and which samples are wrong.

    Raises:
        LulcbenchError: all samples are of one class.
    """
    if share and len(np.unique(labels)) < 2:
        raise LulcbenchError(
            "All samples are of one class: none can be moved into a polygon of another.", "Set data.noise = 0."
        )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    new_labels, new_polygons = labels.copy(), polygons.copy()
    for sample in chosen:
        while True:
            other = int(rng.integers(len(labels)))
            if labels[other] != labels[sample]:
                break
        new_labels[sample], new_polygons[sample] = labels[other], polygons[other]
    return new_labels, new_polygons, new_labels != labels
