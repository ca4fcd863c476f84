"""What training minimises: the log-likelihood at every legend level at once, on the grid where labels live."""

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
    # No tensor: one made in inference mode would fail in the next training step.
    return area_weights(source, target).astype(np.float32)


def area_average(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a grid to another of the same extent by area: ``(…, h, w)`` float32 → ``(…, *size)``.

    Probabilities stay probabilities, at any ratio of pixel sizes (30 m → 50 m is 5 : 3), and float32 under autocast.
    """
    if values.shape[-2:] == size:
        return values
    rows = torch.from_numpy(_weights(values.shape[-2], size[0])).to(values.device)
    columns = torch.from_numpy(_weights(values.shape[-1], size[1])).to(values.device)
    with torch.autocast(values.device.type, enabled=False):
        return rows @ values @ columns.T


class HierarchicalLoss(nn.Module):
    """Weighted mean over legend levels of the negative log-likelihood.

    A coarse class has the summed probability of its children. Labels that stop at a coarser level (or are unknown)
    carry ``IGNORE_INDEX`` at the finer ones and count where they can be judged.

    Args:
        level: legend level of the logits.
        weights: weights of levels 1 to 4.
        smoothing: label smoothing.
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
        """The loss.

        Args:
            logits: ``(b, class, …)``, in segmentation at any resolution.
            target: ``(b, 4, …)`` uint8 class indices at levels 1 to 4; ``IGNORE_INDEX`` is left out.

        Returns:
            A scalar; 0 (with a gradient of 0) where nothing can be judged.
        """
        p = logits.float().softmax(1)
        if p.ndim == 4:
            p = area_average(p, (target.shape[-2], target.shape[-1]))
        total = p.sum() * 0
        for n, weight in zip(self.levels, self.weights, strict=True):
            total = total + weight * _nll(self.aggregate(p, n), target[:, n - 1], self.smoothing)
        return total

    def aggregate(self, p: Tensor, level: int) -> Tensor:
        """Probabilities ``(b, class, …)`` at a coarser level: summed over children."""
        parents: Tensor = getattr(self, f"parents{level}")
        n = len(legend().codes(level))
        if n == p.shape[1]:
            return p
        return torch.zeros((p.shape[0], n, *p.shape[2:]), device=p.device).index_add(1, parents, p)


class FlatLoss(nn.Module):
    """Cross-entropy with label smoothing, for legends without levels (EuroSAT)."""

    def __init__(self, smoothing: float = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of ``(b, class)`` logits against ``(b, 1)`` class indices."""
        return nn.functional.cross_entropy(
            logits.float(), target[:, 0].long(), ignore_index=IGNORE_INDEX, label_smoothing=self.smoothing
        )


def _nll(p: Tensor, target: Tensor, smoothing: float) -> Tensor:
    logp = p.clamp_min(EPSILON).log()
    loss = nn.functional.nll_loss(logp, target.long(), ignore_index=IGNORE_INDEX, reduction="sum")
    known = target != IGNORE_INDEX
    if smoothing:
        uniform = -(logp.mean(1) * known).sum()
        loss = (1 - smoothing) * loss + smoothing * uniform
    return loss / known.sum().clamp_min(1)
