"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from lulcbench import grid
from lulcbench.datasets._options import Flat, Historical, Options, Windowed, Yearly, spell_out
from lulcbench.datasets._pictures import class_panels
from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Sample, WindowBatch
from lulcbench.errors import LulcbenchError
from lulcbench.release import Release

if TYPE_CHECKING:
    from lulcbench.plotting import Panel


class SegOptions(Options, Windowed, Yearly, Historical, Flat, total=False):
    """Options of ``LuisaSeg``."""


class LuisaSeg(LuisaDataset):
    """Windows of imagery with a LUISA class for every pixel.

    Unless ``labels`` is None, samples have ``mask`` in addition to the entries of ``LuisaDataset``: int64 ``(y, x)``
    class indices (``(level, y, x)`` for several levels) on the pixels of the first sensor, each with the class of the
    50 m label that contains its centre; pixels without a label are ``lulcbench.legend.IGNORE_INDEX`` = 255.

    Args:
        root: an opened release, its folder, or its URL.
        split: ``train``, ``val``, ``test`` or another that the release has.
        sensors: one sensor or several.
        mask_resolution: ``"image"``, or ``"label"`` for the 50 m labels themselves (window and stride must then be
            multiples of 50 m too).
        **options: options of ``LuisaDataset``.

    Examples:
        >>> data = LuisaSeg(root, split="train", sensors="landsat", level=3, window=1200, stride=600)
        >>> len(data)  # 4 tiles, 7 × 7 windows each
        196
        >>> sample = data[0]
        >>> sample["image"].shape, sample["mask"].shape  # 4 seasons × 6 bands
        (torch.Size([24, 40, 40]), torch.Size([40, 40]))
        >>> LuisaSeg(root, sensors="landsat", level=(1, 4))[0]["mask"].shape
        torch.Size([2, 40, 40])
    """

    @spell_out(SegOptions, LuisaDataset.__init__)
    def __init__(
        self,
        root: str | os.PathLike[str] | Release,
        split: str = "train",
        sensors: str | Sequence[str] = "sentinel2",
        *,
        mask_resolution: Literal["image", "label"] = "image",
        **options: Unpack[SegOptions],
    ) -> None:
        if mask_resolution not in ("image", "label"):
            raise LulcbenchError(f"mask_resolution is {mask_resolution!r}.", 'Use "image" or "label".')
        self.mask_resolution = mask_resolution
        super().__init__(root, split, sensors, **options)

    def _picture(self, sample: Sample, prediction: Any) -> tuple[str, list[Panel]]:
        """True colour of each sensor, mask and prediction (class indices) in legend colours."""
        masks = {"labels": sample.get("mask"), "prediction": prediction}
        return f"{sample['tile']} {int(sample['year'])}", self.rgb_panels(sample) + class_panels(masks, self.levels)

    def _targets(self, batch: WindowBatch) -> Sample:
        return {} if self.label_source is None else {"mask": self._masks(batch, self._mask_pixel())}

    def _mask_pixel(self) -> int:
        return grid.LABEL_RESOLUTION if self.mask_resolution == "label" else self.resolution()

    def _resolutions(self) -> tuple[int, ...]:
        return tuple({*super()._resolutions(), self._mask_pixel()})
