"""Augmentations of whole batches on the device that keep sensors of different resolution, and their labels, aligned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lulcbench.datasets._options import integer
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError


class Dihedral(nn.Module):
    """Turns each sample by one of the eight symmetries of the square: every image and mask of it by the same.

    Exact at any resolution, since windows are square. Works on all entries of a batch whose key begins with ``image``
    or ``mask``.
    """

    def forward(self, batch: Sample) -> Sample:
        """Batch → batch; draws from torch's global generator.

        Raises:
            LulcbenchError: something is not square, or series of single pixels.
        """
        turns: torch.Tensor | None = None

        def turn(key: str, value: Any) -> Any:
            nonlocal turns
            if isinstance(value, dict):
                return {name: turn(key, part) for name, part in value.items()}
            # Series of single pixels, (n, time, band), have nothing to turn.
            spatial = value.ndim >= (4 if key.startswith("image") else 3)
            if not spatial or value.shape[-1] != value.shape[-2]:
                raise LulcbenchError(f"Cannot turn {tuple(value.shape)}: it is not square.", "Leave Dihedral out.")
            if turns is None:
                turns = torch.randint(8, (len(value),)).to(value.device)
            out = torch.empty_like(value)
            for k in range(8):
                at = turns == k
                part = torch.rot90(value[at], k % 4, (-2, -1))
                out[at] = part.flip(-1) if k >= 4 else part
            return out

        return {key: turn(key, value) if key.startswith(("image", "mask")) else value for key, value in batch.items()}


class BandDropout(nn.Module):
    """Sets whole bands of a sample to 0, the mean, in all its seasons at once.

    Args:
        p: probability for each band of each sample.
        bands: which bands images have: ``dataset.bands``, or the number of bands of each sensor, such as
            ``{"sentinel2": 10}``, or of the only one. Images are ``(n, season·band, y, x)``, ``(n, season, band, y,
            x)`` or, of single pixels, ``(n, time, band)``.
    """

    def __init__(self, p: float, bands: int | dict[str, int] | dict[str, Sequence[str]]) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise LulcbenchError(f"p is {p}.", "Use a probability from 0 to below 1.")
        self.p = p
        several = bands if isinstance(bands, dict) else {"": bands}
        self.bands = {
            name: len(each) if isinstance(each, list | tuple) else integer(each, "bands")
            for name, each in several.items()
        }
        if not self.bands or min(self.bands.values()) < 1:
            raise LulcbenchError(f"bands is {bands!r}.", "Give dataset.bands, or how many there are.")

    def forward(self, batch: Sample) -> Sample:
        """Batch → batch; draws from torch's global generator.

        Raises:
            LulcbenchError: an image is of an unknown sensor or has other channels.
        """
        # The years of a pair lose the same bands.
        kept: dict[str, torch.Tensor] = {}

        def drop(image: torch.Tensor, name: str) -> torch.Tensor:
            count = self._count(name)
            of_pixels, folded = image.ndim == 3, image.ndim == 4
            channels = image.shape[-1 if of_pixels else -3] if image.ndim in (3, 4, 5) else 0
            if not channels or channels % count or not (folded or channels == count):
                raise LulcbenchError(
                    f"Images of shape {tuple(image.shape)} do not have {count} bands.",
                    "Give BandDropout dataset.bands, and whole batches.",
                )
            if name not in kept:
                kept[name] = torch.rand(len(image), 1, count, 1, 1) >= self.p
            pixels = (1, 1) if of_pixels else image.shape[-2:]
            seasons = image.reshape(len(image), -1, count, *pixels)
            return (seasons * kept[name].to(image)).view(image.shape)

        out = dict(batch)
        for key, value in batch.items():
            if key.startswith("image"):
                several = isinstance(value, dict)
                out[key] = {name: drop(part, name) for name, part in value.items()} if several else drop(value, "")
        return out

    def _count(self, name: str) -> int:
        """Number of bands of a sensor; of the only one if there is no name."""
        if not name and len(self.bands) == 1:
            return next(iter(self.bands.values()))
        if name not in self.bands:
            what = f"images of {name}" if name else "images of one sensor"
            known = ", ".join(f"{sensor or 'one sensor'}: {count}" for sensor, count in self.bands.items())
            raise LulcbenchError(f"BandDropout was given {what}, but bands for {known}.", "Give it dataset.bands.")
        return self.bands[name]
