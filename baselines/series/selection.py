"""Active learning: which samples of an unlabelled pool to label next."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError

Floats = npt.NDArray[np.floating[Any]]
Strategy = Literal["random", "entropy", "margin", "block-diverse"]


def uncertainty(p: Floats, strategy: Strategy) -> npt.NDArray[np.float64]:
    """How uncertain a model is of each sample, higher for those to label first.

    Args:
        p: class probabilities ``(n, class)``.
        strategy: ``entropy`` of the probabilities; ``margin``, one minus the difference of the two largest, which
            ``block-diverse`` uses as well; ``random`` gives 0.

    Examples:
        >>> uncertainty(np.array([[0.5, 0.5], [0.9, 0.1]]), "margin").round(2).tolist()
        [1.0, 0.2]
    """
    values = np.asarray(p, np.float64)
    if strategy == "random":
        return np.zeros(len(values))
    if strategy == "entropy":
        entropy: npt.NDArray[np.float64] = -(values * np.log(np.maximum(values, 1e-12))).sum(axis=1)
        return entropy
    ordered = np.sort(values, axis=1)
    margin: npt.NDArray[np.float64] = 1 - (ordered[:, -1] - ordered[:, -2])
    return margin


def select(
    p: Floats, count: int, strategy: Strategy = "margin", blocks: npt.NDArray[np.str_] | None = None, seed: int = 0
) -> npt.NDArray[np.intp]:
    """Rows of the samples to label next.

    Args:
        p: class probabilities of the pool ``(n, class)``.
        count: number of samples.
        strategy: see ``uncertainty``. ``block-diverse`` takes the most uncertain sample of each stratum in turn, a
            stratum being a predicted class in a spatial block, so that neighbours, which tell much the same, are not
            labelled together.
        blocks: spatial block of each sample, for ``block-diverse``.
        seed: breaks ties.

    Returns:
        ``(count,)``, the first to label first.

    Raises:
        LulcbenchError: the pool is smaller than the number of samples, or blocks are missing.

    Examples:
        >>> p = np.array([[0.6, 0.4], [0.55, 0.45], [0.9, 0.1]])
        >>> select(p, 2).tolist()
        [1, 0]
        >>> select(p, 2, "block-diverse", np.array(["a", "a", "b"])).tolist()
        [1, 2]
    """
    if not 0 < count <= len(p):
        raise LulcbenchError(f"{count} samples of {len(p)} were requested.", "Choose at least one, at most the pool.")
    order = np.random.default_rng(seed).permutation(len(p))
    order = order[np.argsort(-uncertainty(p, strategy)[order], kind="stable")]
    if strategy != "block-diverse":
        return order[:count]
    if blocks is None or len(blocks) != len(p):
        raise LulcbenchError("The strategy block-diverse needs the block of each sample.", "Give blocks, one per row.")
    keys = np.array([f"{block}/{best}" for block, best in zip(blocks, np.argmax(p, axis=1), strict=True)])[order]
    strata = np.unique(keys, return_inverse=True)[1]
    turn = np.zeros(len(order), np.intp)  # which of its stratum a sample is
    seen = np.zeros(strata.max() + 1, np.intp)
    for position, stratum in enumerate(strata):
        turn[position] = seen[stratum]
        seen[stratum] += 1
    return order[np.argsort(turn, kind="stable")][:count]


def learning_curve(
    features: Floats,
    labels: npt.NDArray[np.int64],
    blocks: npt.NDArray[np.str_],
    test: tuple[Floats, npt.NDArray[np.int64]],
    budgets: tuple[int, ...],
    strategy: Strategy,
    trees: int = 60,
    seed: int = 0,
) -> list[float]:
    """Simulated study of budgets: accuracy of a forest after each budget of labels that a strategy chose.

    Args:
        features: pool ``(n, feature)``.
        labels: its labels, which are revealed when a sample is chosen, ``(n,)``.
        blocks: its spatial blocks, ``(n,)``.
        test: features and labels of other blocks.
        budgets: numbers of labels, in ascending order; the first is drawn at random.
        strategy: see ``select``.
        trees: trees of the forest.
        seed: seed of forest and draws.

    Raises:
        LulcbenchError: budgets do not ascend, or exceed the pool.
    """
    from sklearn.ensemble import RandomForestClassifier

    if list(budgets) != sorted(set(budgets)) or budgets[-1] > len(features):
        raise LulcbenchError(f"Budgets {budgets} do not ascend, or exceed the pool.", "Correct them.")
    chosen = np.random.default_rng(seed).permutation(len(features))[: budgets[0]]
    scores: list[float] = []
    forest = None
    for budget in budgets:
        if forest is not None:
            left = np.setdiff1d(np.arange(len(features)), chosen)
            p = forest.predict_proba(features[left])
            chosen = np.concatenate([chosen, left[select(p, budget - len(chosen), strategy, blocks[left], seed)]])
        forest = RandomForestClassifier(trees, min_samples_leaf=2, n_jobs=1, random_state=seed)
        forest.fit(features[chosen], labels[chosen])
        scores.append(float((forest.predict(test[0]) == test[1]).mean()))
    return scores
