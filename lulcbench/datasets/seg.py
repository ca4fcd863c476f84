"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import torch

from lulcbench import grid
from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Places, Sample
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LuisaSeg(LuisaDataset):
    """Windows of imagery with a LUISA class for every pixel.

    Samples hold ``mask`` besides what ``LuisaDataset`` says: int64 ``(y, x)`` class indices (``(level, y, x)`` for
    several levels) on the pixels of the first sensor, each taken from the 50 m label that its centre lies in; pixels
    that cannot be judged are ``lulcbench.legend.IGNORE_INDEX`` = 255.

    Args:
        root: folder of a release.
        split: ``train``, ``val`` or ``test``.
        mask_resolution: ``"image"`` or ``"label"``, which gives the 50 m labels themselves (window and stride must
            then be multiples of 50 m too).
        **options: of ``LuisaDataset``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        mask_resolution: Literal["image", "label"] = "image",
        **options: Any,
    ) -> None:
        if mask_resolution not in ("image", "label"):
            raise LulcbenchError(f"mask_resolution is {mask_resolution!r}.", 'Use "image" or "label".')
        self.mask_resolution = mask_resolution
        super().__init__(root, split, **options)

    def plot(self, sample: Sample, prediction: torch.Tensor | None = None, suptitle: str | None = None) -> Figure:
        """Picture of a sample: true colour of each sensor, mask and prediction in legend colours."""
        from lulcbench.plotting import class_panel, figure

        panels, level = self._rgb_panels(sample), max(self.levels)
        for title, mask in (("labels", sample["mask"]), ("prediction", prediction)):
            if mask is not None:
                panels.append(class_panel(self._finest(mask), level, title))
        return figure(panels, suptitle or f"{sample['tile']} {int(sample['year'])}", self.release.simulated)

    def _targets(self, places: Places) -> Sample:
        return {"mask": self._masks(places, self._mask_pixel())}

    def _mask_pixel(self) -> int:
        return grid.LABEL_RESOLUTION if self.mask_resolution == "label" else self.resolution()

    def _resolutions(self) -> tuple[int, ...]:
        return tuple({*super()._resolutions(), self._mask_pixel()})
