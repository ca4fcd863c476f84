"""Segmentation with a second output per pixel, the distance to class edges (Bischke et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.registry import Count
from baselines.tasks.base import TASKS
from baselines.tasks.losses import area_average
from baselines.tasks.segmentation import Segmentation, SegmentationConfig
from lulcbench.datasets.batch import Sample
from lulcbench.legend import IGNORE_INDEX

if TYPE_CHECKING:
    from baselines.data import DataConfig, DataInfo


@TASKS.register
class EdgesConfig(SegmentationConfig):
    """Segmentation, and the truncated signed distance to class edges as a second task.

    Both losses are weighted by learnt variances (Kendall et al. 2018).

    Attributes:
        edge_level: legend level of the classes whose edges count.
        truncation: distance in label pixels (50 m) from which on all distances are equal.
    """

    kind: Literal["segmentation-edges"] = "segmentation-edges"  # type: ignore[assignment]  # another value
    addition: ClassVar[str] = "with distances to edges"
    edge_level: Annotated[int, Field(ge=1, le=4)] = 2
    truncation: Count = 5

    def check(self, data: DataConfig) -> None:
        """Check that the data have LUISA levels."""
        super().check(data)
        if data.legend_level is None:
            raise ValueError(f"task {self.kind} requires LUISA levels, which a legend subset does not have")

    def build(self, info: DataInfo) -> SegmentationWithEdges:
        """Build the task for these data."""
        return SegmentationWithEdges(self, info)


class SegmentationWithEdges(Segmentation):
    """See ``EdgesConfig``. The last output of networks is the distance, before tanh.

    Args:
        config: settings of the task.
        info: description of the data.
    """

    def __init__(self, config: EdgesConfig, info: DataInfo) -> None:
        super().__init__(config, info)
        self.edge_level, self.truncation = config.edge_level, config.truncation
        self.outputs = len(info.classes) + 1
        self.log_variances = nn.Parameter(torch.zeros(2))  # of classes and distance

    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        """Loss of the classes and squared error of the distance, weighted by their learnt variances.

        With σ² = exp(s): exp(−s) · loss + s / 2 for classes, exp(−s) · error / 2 + s / 2 for the distance.
        """
        classes = super().loss(outputs[:, :-1], batch)
        distance, labelled = self.distance(batch["mask"])
        predicted = area_average(outputs[:, -1:].float().tanh(), (distance.shape[-2], distance.shape[-1]))[:, 0]
        error = ((predicted - distance) ** 2 * labelled).sum() / labelled.sum().clamp_min(1)
        s = self.log_variances
        return (-s[0]).exp() * classes + (-s[1]).exp() * error / 2 + s.sum() / 2

    def activate(self, outputs: Tensor) -> Tensor:
        """Class probabilities, from all outputs but the last."""
        return super().activate(outputs[:, :-1])

    def metrics(self, p: Tensor, truth: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Metrics of the classes, and the weights of both losses."""
        weights = (-self.log_variances.detach()).exp()
        one = torch.ones((), device=weights.device)
        names = ("class_weight", "distance_weight")
        return super().metrics(p, truth) | {name: (w, one) for name, w in zip(names, weights, strict=True)}

    def distance(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance to the nearest edge between labelled pixels of different classes.

        It is positive in artificial surfaces and negative elsewhere, in units of the truncation: in [−1, 1].

        Args:
            mask: ``(b, 4, y, x)`` class indices at levels 1 to 4.

        Returns:
            Distances ``(b, y, x)``, float32, and whether pixels are labelled.
        """
        classes = mask[:, self.edge_level - 1].long()
        labelled = classes != IGNORE_INDEX
        edge = torch.zeros_like(labelled)
        for axis in (1, 2):
            n = classes.shape[axis]
            first, second = (classes.narrow(axis, start, n - 1) for start in (0, 1))
            differ = (first != second) & (first != IGNORE_INDEX) & (second != IGNORE_INDEX)
            edge.narrow(axis, 0, n - 1).logical_or_(differ)
            edge.narrow(axis, 1, n - 1).logical_or_(differ)
        # Pixels at an edge are half a pixel from it.
        distance = (truncated_distance(edge, self.truncation) + 0.5).clamp_max(self.truncation) / self.truncation
        sign = torch.where(mask[:, 0] == ARTIFICIAL, 1.0, -1.0)
        return sign * distance, labelled


ARTIFICIAL = 0  # index of artificial surfaces at level 1


def truncated_distance(edge: Tensor, limit: int) -> Tensor:
    """Euclidean distance to the nearest pixel of a set, at most ``limit``: bool ``(b, y, x)`` → float32.

    Example:
        >>> truncated_distance(torch.tensor([[[True, False, False, False]]]), 2)
        tensor([[[0., 1., 2., 2.]]])
    """
    squared = torch.where(edge, 0.0, float(limit**2))
    for axis in (1, 2):  # the squared distance separates
        n = squared.shape[axis]
        best = squared.clone()
        for step in range(1, min(limit, n - 1) + 1):
            near, far = squared.narrow(axis, 0, n - step), squared.narrow(axis, step, n - step)
            for target, source in ((best.narrow(axis, 0, n - step), far), (best.narrow(axis, step, n - step), near)):
                torch.minimum(target, source + step**2, out=target)
        squared = best
    return squared.sqrt()
