"""Losses: at all legend levels or of a flat legend, from probabilities on the grid of the labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.predicting.views import EPSILON
from lulcbench.grid import area_weights
from lulcbench.legend import IGNORE_INDEX, legend

# Smallest probability in logarithms, so that they and their gradients are finite. Where it is reached, the loss has no
# gradient: it must be far below what a network that is wrong gives to the true class.
TINY = 1e-30


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Settings of the loss of class probabilities.

    Attributes:
        smoothing: strength of the label smoothing, in [0, 1).
        focal: exponent of the factor ``(1 − p)`` by which well predicted samples count less (Lin et al. 2017).
        dice: share of the Dice loss, in [0, 1).
        class_balance: exponent of the inverse frequency by which classes are weighted, in [0, 1].
    """

    smoothing: float = 0.0
    focal: float = 0.0
    dice: float = 0.0
    class_balance: float = 0.0


@cache
def _weights(source: int, target: int) -> npt.NDArray[np.float32]:
    # An array, because a tensor created in inference mode would fail in the next training step.
    return area_weights(source, target).astype(np.float32)


def area_average(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample to another grid of the same extent, averaging by area: ``(…, h, w)`` float32 → ``(…, *size)``.

    Works for any ratio of pixel sizes (30 m to 50 m is 5 : 3); probabilities still sum to 1. Computes in float32 also
    under autocast.
    """
    if values.shape[-2:] == size:
        return values
    rows = torch.from_numpy(_weights(values.shape[-2], size[0])).to(values.device, non_blocking=True)
    columns = torch.from_numpy(_weights(values.shape[-1], size[1])).to(values.device, non_blocking=True)
    with torch.autocast(values.device.type, enabled=False):
        return rows @ values @ columns.T


class ClassLoss(nn.Module):
    """Loss of class probabilities: cross-entropy with class weights, label smoothing and focus, plus Dice loss.

    Args:
        frequencies: frequency of each class in training, ``(class,)``; None if classes are not weighted.
        settings: settings of the loss.
    """

    def __init__(self, frequencies: npt.NDArray[np.float64] | None, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings
        weights = (
            None if frequencies is None else torch.from_numpy(balanced_weights(frequencies, settings.class_balance))
        )
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logp: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logp: logarithms of probabilities ``(b, class, …)``.
            target: class indices ``(b, …)``; ``IGNORE_INDEX`` is left out.

        Returns:
            A scalar; 0 if everything is ignored.
        """
        labelled = target != IGNORE_INDEX
        index = torch.where(labelled, target, 0).long()[:, None]
        loss = self._cross_entropy(logp, index, labelled)
        if self.settings.dice:
            loss = (1 - self.settings.dice) * loss + self.settings.dice * _dice(logp.exp(), index, labelled)
        return loss

    def _cross_entropy(self, logp: Tensor, index: Tensor, labelled: Tensor) -> Tensor:
        of_truth = logp.gather(1, index)[:, 0]
        loss = -of_truth
        if self.settings.smoothing:
            loss = (1 - self.settings.smoothing) * loss - self.settings.smoothing * logp.mean(1)
        if self.settings.focal:
            loss = loss * (1 - of_truth.exp()).clamp_min(0) ** self.settings.focal
        weights: Tensor | None = self.weights  # type: ignore[assignment]
        of_pixel = labelled.to(logp.dtype) if weights is None else weights[index[:, 0]] * labelled
        total = of_pixel.sum()
        return (loss * of_pixel).sum() / torch.where(total > 0, total, 1)


def balanced_weights(frequencies: npt.NDArray[np.float64], balance: float) -> npt.NDArray[np.float32]:
    """Class weights proportional to ``frequency ** -balance``, with a mean of 1 over samples.

    Classes without a sample get the largest weight of the others: they occur in no training batch.

    Example:
        >>> balanced_weights(np.array([0.8, 0.2]), 1.0)
        array([0.625, 2.5  ], dtype=float32)
    """
    known = frequencies > 0
    weights = np.where(known, frequencies, 1.0) ** -balance
    weights /= (weights * frequencies).sum() / frequencies.sum()
    weights[~known] = weights[known].max()
    return weights.astype(np.float32)


def _dice(p: Tensor, index: Tensor, labelled: Tensor) -> Tensor:
    """Soft Dice loss, averaged over the classes that occur in the labels of the batch.

    Its denominator has sums, as the generalised Dice loss of Sudre et al. (2017), whose class weights it does not have;
    that of Milletari et al. (2016) has sums of squares.
    """
    truth = torch.zeros_like(p).scatter_(1, index, 1.0) * labelled[:, None]
    p = p * labelled[:, None]
    axes = [axis for axis in range(p.ndim) if axis != 1]
    overlap, size, support = (p * truth).sum(axes), (p + truth).sum(axes), truth.sum(axes)
    occurs = support > 0
    losses = (1 - 2 * overlap / size.clamp_min(EPSILON)) * occurs
    return losses.sum() / occurs.sum().clamp_min(1)


class HierarchicalLoss(nn.Module):
    """Weighted mean over legend levels of the loss of class probabilities.

    The probability of a coarse class is the sum over its children. Labels that are coarser than a level, or missing,
    have ``IGNORE_INDEX`` at that level and are left out there.

    Args:
        level: legend level of the logits.
        weights: weights of levels 1 to 4.
        settings: settings of the loss at each level.
        frequencies: frequency of each class of ``level`` in training; required if classes are weighted.
    """

    def __init__(
        self,
        level: int,
        weights: tuple[float, ...] = (1, 1, 1, 1),
        settings: LossSettings | None = None,
        frequencies: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        settings = settings or LossSettings()
        self.levels = tuple(n for n in range(1, level + 1) if weights[n - 1] > 0)
        total = sum(weights[n - 1] for n in self.levels)
        self.weights = [weights[n - 1] / total for n in self.levels]
        self.losses = nn.ModuleList()
        for n in self.levels:
            parents = legend().parents(level, n)
            self.register_buffer(f"parents{n}", torch.from_numpy(parents), persistent=False)
            sums = None if frequencies is None else np.bincount(parents, frequencies, len(legend().codes(n)))
            self.losses.append(ClassLoss(sums, settings))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: ``(b, class, …)``, for segmentation at any resolution.
            target: ``(b, 4, …)`` uint8 class indices at levels 1 to 4; ``IGNORE_INDEX`` is left out.

        Returns:
            A scalar; 0 (with a gradient of 0) if everything is ignored.
        """
        p = logits.float().softmax(1)
        if p.ndim == 4:
            p = area_average(p, (target.shape[-2], target.shape[-1]))
        total = p.sum() * 0
        for n, weight, loss in zip(self.levels, self.weights, self.losses, strict=True):
            total = total + weight * loss(self.aggregate(p, n).clamp_min(TINY).log(), target[:, n - 1])
        return total

    def aggregate(self, p: Tensor, level: int) -> Tensor:
        """Sum probabilities ``(b, class, …)`` over the children of each class of a coarser level."""
        parents: Tensor = getattr(self, f"parents{level}")
        n = len(legend().codes(level))
        if n == p.shape[1]:
            return p
        return torch.zeros((p.shape[0], n, *p.shape[2:]), device=p.device).index_add(1, parents, p)


class FlatLoss(nn.Module):
    """Loss of the classes of a flat legend (EuroSAT, study classes).

    Args:
        settings: settings of the loss.
        frequencies: frequency of each class in training; required if classes are weighted.
    """

    def __init__(
        self, settings: LossSettings | None = None, frequencies: npt.NDArray[np.float64] | None = None
    ) -> None:
        super().__init__()
        self.loss = ClassLoss(frequencies, settings or LossSettings())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits ``(b, class, …)``, of any resolution, for class indices ``(b, 1, …)``."""
        if logits.ndim == 4:
            p = area_average(logits.float().softmax(1), (target.shape[-2], target.shape[-1]))
            logp = p.clamp_min(TINY).log()
        else:
            logp = logits.float().log_softmax(1)
        loss: Tensor = self.loss(logp, target[:, 0])
        return loss
