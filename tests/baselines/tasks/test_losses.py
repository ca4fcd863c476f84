"""Losses: each against what it must be by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.tasks.losses import FlatLoss, HierarchicalLoss, area_average
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend

RNG = np.random.default_rng(0)


def targets(codes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([legend().encode(codes, level) for level in LEVELS], 1))


def test_hierarchical_loss_is_the_mean_log_likelihood_of_the_levels() -> None:
    codes = RNG.choice(legend().codes(4), (2, 6, 6)).astype(np.uint16)
    logits = torch.randn(2, 46, 6, 6)
    p = logits.softmax(1).numpy()
    expected = []
    for level in LEVELS:
        parents, index = legend().parents(4, level), legend().encode(codes, level)
        coarse = np.stack([p[:, parents == c].sum(1) for c in range(len(legend().codes(level)))], 1)
        expected.append(-np.log(np.take_along_axis(coarse, index[:, None].astype(int), 1)).mean())
    assert float(HierarchicalLoss(4)(logits, targets(codes))) == pytest.approx(np.mean(expected), rel=1e-5)


def test_autocast_leaves_the_loss_in_full_precision() -> None:
    logits = torch.randn(1, 46, 40, 40)
    target = targets(RNG.choice(legend().codes(4), (1, 24, 24)).astype(np.uint16))
    loss = HierarchicalLoss(4)(logits, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(HierarchicalLoss(4)(logits, target)) == float(loss)


def test_ignored_pixels_move_nothing_and_coarse_labels_count_where_they_can() -> None:
    codes = np.full((1, 4, 4), 3110, np.uint16)
    loss, logits = HierarchicalLoss(4), torch.randn(1, 46, 4, 4, requires_grad=True)
    codes[0, :2] = 0
    value = loss(logits, targets(codes))
    value.backward()
    assert logits.grad is not None
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().max() > 0
    assert float(loss(logits.detach(), targets(np.zeros_like(codes)))) == 0
    coarse = targets(np.full((1, 4, 4), 112, np.uint16))
    assert (coarse[:, 3] == IGNORE_INDEX).all()
    assert float(loss(logits.detach(), coarse)) > 0


def test_flat_loss_ignores_and_smooths() -> None:
    logits, target = torch.randn(3, 10), torch.tensor([[1], [IGNORE_INDEX], [2]], dtype=torch.uint8)
    expected = -logits.log_softmax(1)[[0, 2], [1, 2]].mean()
    assert float(FlatLoss()(logits, target)) == pytest.approx(float(expected))
    assert float(FlatLoss(0.1)(logits, target)) != pytest.approx(float(expected))


@pytest.mark.parametrize("size", [160, 480])
def test_area_average_keeps_sums(size: int) -> None:
    p = torch.randn(1, 5, size, size).softmax(1)
    coarse = area_average(p, (96, 96))
    assert coarse.shape == (1, 5, 96, 96)
    torch.testing.assert_close(coarse.sum(1), torch.ones(1, 96, 96))
    torch.testing.assert_close(coarse.mean((2, 3)), p.mean((2, 3)))


def test_area_average_learns_after_it_only_looked() -> None:
    p = torch.rand(1, 2, 13, 13, requires_grad=True)
    with torch.inference_mode():
        area_average(p, (7, 7))
    area_average(p, (7, 7)).sum().backward()
    assert p.grad is not None
