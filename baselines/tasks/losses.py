"""Losses: the negative log-likelihood at all legend levels, on the grid of the labels."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.predicting.views import EPSILON
from lulcbench.grid import area_weights
from lulcbench.legend import IGNORE_INDEX, legend


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
    rows = torch.from_numpy(_weights(values.shape[-2], size[0])).to(values.device)
    columns = torch.from_numpy(_weights(values.shape[-1], size[1])).to(values.device)
    with torch.autocast(values.device.type, enabled=False):
        return rows @ values @ columns.T


class HierarchicalLoss(nn.Module):
    """Weighted mean over legend levels of the negative log-likelihood.

    The probability of a coarse class is the sum over its children. Labels that are coarser than a level, or missing,
    have ``IGNORE_INDEX`` at that level and are left out there.

    Args:
        level: legend level of the logits.
        weights: weights of levels 1 to 4.
        smoothing: strength of the label smoothing, in [0, 1).
    """

    def __init__(self, level: int, weights: tuple[float, ...] = (1, 1, 1, 1), smoothing: float = 0.0) -> None:
        super().__init__()
        self.levels = tuple(n for n in range(1, level + 1) if weights[n - 1] > 0)
        total = sum(weights[n - 1] for n in self.levels)
        self.weights = [weights[n - 1] / total for n in self.levels]
        self.smoothing = smoothing
        for n in self.levels:
            self.register_buffer(f"parents{n}", torch.from_numpy(legend().parents(level, n)), persistent=False)

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
        for n, weight in zip(self.levels, self.weights, strict=True):
            total = total + weight * _nll(self.aggregate(p, n), target[:, n - 1], self.smoothing)
        return total

    def aggregate(self, p: Tensor, level: int) -> Tensor:
        """Sum probabilities ``(b, class, …)`` over the children of each class of a coarser level."""
        parents: Tensor = getattr(self, f"parents{level}")
        n = len(legend().codes(level))
        if n == p.shape[1]:
            return p
        return torch.zeros((p.shape[0], n, *p.shape[2:]), device=p.device).index_add(1, parents, p)


class FlatLoss(nn.Module):
    """Cross-entropy with label smoothing, for flat legends (EuroSAT)."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits ``(b, class)`` for class indices ``(b, 1)``."""
        return nn.functional.cross_entropy(
            logits.float(), target[:, 0].long(), ignore_index=IGNORE_INDEX, label_smoothing=self.smoothing
        )


def _nll(p: Tensor, target: Tensor, smoothing: float) -> Tensor:
    logp = p.clamp_min(EPSILON).log()
    loss = nn.functional.nll_loss(logp, target.long(), ignore_index=IGNORE_INDEX, reduction="sum")
    labelled = target != IGNORE_INDEX
    if smoothing:
        uniform = -(logp.mean(1) * labelled).sum()
        loss = (1 - smoothing) * loss + smoothing * uniform
    return loss / labelled.sum().clamp_min(1)
