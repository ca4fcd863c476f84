"""Active learning."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.series.selection import learning_curve, select, uncertainty
from lulcbench.errors import LulcbenchError


def test_the_most_uncertain_samples_come_first() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), 200)
    entropy = -(p * np.log(p)).sum(axis=1)
    np.testing.assert_allclose(uncertainty(p, "entropy"), entropy)
    assert select(p, 10, "entropy").tolist() == np.argsort(-entropy)[:10].tolist()
    top = np.sort(p, axis=1)
    assert select(p, 10, "margin").tolist() == np.argsort(top[:, -1] - top[:, -2])[:10].tolist()
    assert len(set(select(p, 50, "random").tolist())) == 50


def test_block_diverse_draws_take_every_stratum_before_any_twice() -> None:
    rng = np.random.default_rng(1)
    p, blocks = rng.dirichlet(np.ones(3), 300), np.array([f"b{i % 5}" for i in range(300)])
    chosen = select(p, 15, "block-diverse", blocks)
    assert len({(blocks[i], p[i].argmax()) for i in chosen}) == 15
    margin = uncertainty(p, "margin")
    for i in chosen:
        alike = [j for j in range(300) if blocks[j] == blocks[i] and p[j].argmax() == p[i].argmax()]
        assert margin[i] == max(margin[alike])
    with pytest.raises(LulcbenchError, match="needs the block"):
        select(p, 3, "block-diverse")
    with pytest.raises(LulcbenchError, match="0 samples of 300"):
        select(p, 0)


def test_learning_curves_begin_with_the_same_random_labels_and_grow() -> None:
    rng = np.random.default_rng(3)
    features = rng.uniform(-1, 1, (3000, 2))
    labels = (features[:, 0] > 0.85).astype(int) + 2 * (features[:, 1] > 0.9)
    blocks = np.array([f"b{i % 8}" for i in range(3000)])
    pool, test = slice(0, 2000), slice(2000, 3000)
    budgets = (40, 80, 120)
    curves = {
        strategy: learning_curve(
            features[pool], labels[pool], blocks[pool], (features[test], labels[test]), budgets, strategy, trees=20
        )
        for strategy in ("random", "margin", "block-diverse")
    }
    assert curves["margin"][0] == curves["random"][0]
    for curve in curves.values():
        assert len(curve) == len(budgets)
        assert curve[-1] > curve[0]
    with pytest.raises(LulcbenchError, match="do not ascend"):
        learning_curve(features, labels, blocks, (features, labels), (40, 20), "random")
