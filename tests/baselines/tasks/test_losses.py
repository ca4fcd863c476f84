"""Losses: each against what it must be by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.tasks.losses import FlatLoss, HierarchicalLoss, LossSettings, area_average, balanced_weights
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
    smoothed = torch.nn.functional.cross_entropy(
        logits, target[:, 0].long(), ignore_index=IGNORE_INDEX, label_smoothing=0.1
    )
    assert float(FlatLoss(LossSettings(smoothing=0.1))(logits, target)) == pytest.approx(float(smoothed))


def test_class_weights_focal_and_dice_loss_are_those_of_their_papers() -> None:
    logits, target = torch.randn(50, 3), torch.from_numpy(RNG.choice([0, 0, 0, 1], (50, 1)))
    target[:5] = IGNORE_INDEX
    labelled = target[:, 0] != IGNORE_INDEX
    p, truth = logits.softmax(1)[labelled], target[labelled, 0]
    of_truth = p[torch.arange(len(p)), truth]
    focal = (-((1 - of_truth) ** 2) * of_truth.log()).mean()
    assert float(FlatLoss(LossSettings(focal=2.0))(logits, target)) == pytest.approx(float(focal), rel=1e-5)

    frequencies = np.array([0.75, 0.25, 0.0])
    weights = torch.from_numpy(balanced_weights(frequencies, 0.5))
    assert (weights.numpy() * frequencies).sum() == pytest.approx(1)
    assert float(weights[1] / weights[0]) == pytest.approx(3**0.5)
    assert weights[2] == weights[1]
    weighted = torch.nn.functional.cross_entropy(logits[labelled], truth, weights)
    settings = LossSettings(class_balance=0.5)
    assert float(FlatLoss(settings, frequencies)(logits, target)) == pytest.approx(float(weighted), rel=1e-5)

    onehot = torch.nn.functional.one_hot(truth, 3)
    dice = 1 - 2 * (p * onehot).sum(0) / (p + onehot).sum(0)
    plain = torch.nn.functional.cross_entropy(logits[labelled], truth)
    expected = 0.7 * plain + 0.3 * dice[:2].mean()  # no label is of the third class
    assert float(FlatLoss(LossSettings(dice=0.3))(logits, target)) == pytest.approx(float(expected), rel=1e-5)


def test_weights_of_coarse_classes_are_those_of_their_summed_frequencies() -> None:
    codes = RNG.choice(legend().codes(4), (2, 6, 6)).astype(np.uint16)
    logits, frequencies = torch.randn(2, 46, 6, 6), RNG.random(46)
    parents = legend().parents(4, 1)
    weights = balanced_weights(np.bincount(parents, frequencies), 1.0)
    p, index = logits.softmax(1).numpy(), legend().encode(codes, 1).astype(int)
    coarse = np.stack([p[:, parents == c].sum(1) for c in range(5)], 1)
    nll = -np.log(np.take_along_axis(coarse, index[:, None], 1))[:, 0]
    expected = (nll * weights[index]).sum() / weights[index].sum()
    loss = HierarchicalLoss(4, (1, 0, 0, 0), LossSettings(class_balance=1.0), frequencies)
    assert float(loss(logits, targets(codes))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "settings", [LossSettings(focal=2.0, dice=0.5), LossSettings(smoothing=0.1, class_balance=1.0)]
)
def test_losses_of_nothing_labelled_are_zero_with_a_gradient_of_zero(settings: LossSettings) -> None:
    logits = torch.randn(1, 46, 4, 4, requires_grad=True)
    loss = HierarchicalLoss(4, settings=settings, frequencies=np.ones(46))
    value = loss(logits, targets(np.zeros((1, 4, 4), np.uint16)))
    value.backward()
    assert float(value.detach()) == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


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


@pytest.mark.parametrize("margin", [5.0, 20.0, 50.0])
@pytest.mark.parametrize("loss", ["flat", "hierarchical"])
def test_the_gradient_of_a_pixel_that_is_wrong_with_confidence_is_that_of_cross_entropy(
    margin: float, loss: str
) -> None:
    logits = torch.zeros(1, len(legend().codes(1)), 1, 1)
    logits[0, 1] = margin
    logits.requires_grad_()
    target = torch.zeros(1, 1 if loss == "flat" else 4, 1, 1, dtype=torch.uint8)
    target[:, 1:] = IGNORE_INDEX
    module = FlatLoss() if loss == "flat" else HierarchicalLoss(1, (1.0, 1.0, 1.0, 1.0))
    (gradient,) = torch.autograd.grad(module(logits, target), logits)
    expected = torch.nn.functional.cross_entropy(logits, target[:, 0].long())
    (of_torch,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient / gradient[0, 1], of_torch / of_torch[0, 1])
    assert gradient[0, 1] > 0.1
