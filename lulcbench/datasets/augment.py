"""Augmentations of whole batches on the device that keep sensors of different resolution, and their labels, aligned."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError


class Dihedral(nn.Module):
    """Turns each sample by one of the eight symmetries of the square: every image and mask of it by the same.

    Exact at any resolution, since windows are square. Works on all entries whose key begins with ``image`` or ``mask``.
    """

    def forward(self, batch: Sample) -> Sample:
        """Batch → batch; draws from torch's global generator."""
        turns: torch.Tensor | None = None

        def turn(value: Any) -> Any:
            nonlocal turns
            if isinstance(value, dict):
                return {name: turn(part) for name, part in value.items()}
            if turns is None:
                turns = torch.randint(8, (len(value),)).to(value.device)
            if value.shape[-1] != value.shape[-2]:
                raise LulcbenchError(f"Cannot turn {tuple(value.shape)}: it is not square.", "Leave Dihedral out.")
            out = torch.empty_like(value)
            for k in range(8):
                at = turns == k
                part = torch.rot90(value[at], k % 4, (-2, -1))
                out[at] = part.flip(-1) if k >= 4 else part
            return out

        return {key: turn(value) if key.startswith(("image", "mask")) else value for key, value in batch.items()}


class BandDropout(nn.Module):
    """Sets whole bands of a sample to 0, the mean, in all its seasons at once.

    Args:
        p: probability for each band of each sample.
        bands: number of bands of each sensor, such as ``{"sentinel2": 10}``, or of the only one; channels are
            season · band, as datasets give them.
    """

    def __init__(self, p: float, bands: int | dict[str, int]) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise LulcbenchError(f"p is {p}.", "Use a probability from 0 to below 1.")
        self.p = p
        self.bands = bands

    def forward(self, batch: Sample) -> Sample:
        """Batch → batch; draws from torch's global generator."""
        # The years of a pair lose the same bands.
        kept: dict[str, torch.Tensor] = {}

        def drop(image: torch.Tensor, name: str) -> torch.Tensor:
            count = self.bands[name] if isinstance(self.bands, dict) else self.bands
            if name not in kept:
                kept[name] = torch.rand(len(image), 1, count, 1, 1) >= self.p
            seasons = image.reshape(len(image), -1, count, *image.shape[-2:])
            return (seasons * kept[name].to(image)).view(image.shape)

        out = dict(batch)
        for key, value in batch.items():
            if key.startswith("image"):
                several = isinstance(value, dict)
                out[key] = {name: drop(part, name) for name, part in value.items()} if several else drop(value, "")
        return out
