"""Patch classification: one class for a 600 m chip."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lulcbench import grid
from lulcbench.datasets._options import Flat, Historical, Options, Yearly, number, spell_out
from lulcbench.datasets._pictures import class_name
from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Sample, WindowBatch
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import Release, label_shape

if TYPE_CHECKING:
    from lulcbench.plotting import Panel

CHIP = 600
_TILES_AT_ONCE = 512


class ClsOptions(Options, Yearly, Historical, Flat, total=False):
    """Options of ``LuisaCls``: those of ``LuisaDataset``, except those of windows, which are fixed."""


class LuisaCls(LuisaDataset):
    """Chips of 600 m with one LUISA class each.

    A tile is divided into 8 × 8 chips without overlap, of 12 × 12 label pixels. The class of a chip is the most
    frequent one at ``level``, the lower code on a tie; its *purity* is the share of that class in all 144 pixels,
    including nodata and pixels with a coarser label. Chips with at least ``purity`` are kept. The list depends only on
    the release; ``chips`` returns it.

    In addition to the entries of ``LuisaDataset``, samples have ``label`` (int64 class index) and ``purity`` (float32).
    With ``labels=None``, as for splits without labels, samples are all chips, without label and purity.

    Args:
        root: an opened release, its folder, or its URL.
        split: ``train``, ``val``, ``test`` or another that the release has.
        sensors: one sensor or several.
        purity: minimum share of the chip that its class covers, above 0 and up to 1.
        **options: options of ``LuisaDataset``, except those of windows, which are fixed.

    Attributes:
        labels: class index of each sample, uint8 ``(len(self),)``; None without labels.

    Examples:
        >>> data = LuisaCls(root, sensors="landsat", level=1, purity=0.8)
        >>> sample = data[0]
        >>> sample["image"].shape, sample["label"].dtype
        (torch.Size([24, 20, 20]), torch.int64)
        >>> bool((data.chips["purity"] >= 0.8).all())
        True
    """

    @spell_out(ClsOptions, LuisaDataset.__init__)
    def __init__(
        self,
        root: str | os.PathLike[str] | Release,
        split: str = "train",
        sensors: str | Sequence[str] = "sentinel2",
        *,
        purity: float = 0.5,
        **options: Unpack[ClsOptions],
    ) -> None:
        if not 0 < number(purity, "purity") <= 1:
            raise LulcbenchError(f"purity is {purity}.", "Use a number above 0 and at most 1.")
        for option in ("window", "stride", "phase", "seed"):
            if option in options:
                raise LulcbenchError(f"LuisaCls takes no {option}.", f"Its chips are {CHIP} m, side by side.")
        super().__init__(root, split, sensors, window=CHIP, stride=CHIP, **options)
        if not isinstance(self.level, int):
            raise LulcbenchError("LuisaCls was given several levels.", "A chip has one label: choose one level.")
        self.labels: npt.NDArray[np.uint8] | None = None
        if self.label_source is None:
            return
        labels, shares = self._majorities(self.level)
        self._subset = np.flatnonzero((labels != IGNORE_INDEX) & (shares >= purity))
        if not len(self._subset):
            raise LulcbenchError(f"No chip is as pure as {purity}.", f"The purest has {shares.max():.2f}.")
        self.labels, self._purities = labels[self._subset], shares[self._subset]

    @property
    def chips(self) -> pd.DataFrame:
        """One row per sample: tile, year, y, x (metres from the tile's upper left corner); with labels code, purity."""
        batch = self.locate(np.arange(len(self)))
        table = {"tile": batch.tiles, "year": batch.years, "y": batch.offsets[:, 0], "x": batch.offsets[:, 1]}
        if self.labels is not None:
            table |= {"code": legend().decode(self.labels, max(self.levels)), "purity": self._purities}
        return pd.DataFrame(table)

    def _picture(self, sample: Sample, prediction: Any) -> tuple[str, list[Panel]]:
        """True colour, with the label and, if there is one, the predicted class in the title."""
        title = str(sample["tile"])
        if "label" in sample:
            title += f": {class_name(sample['label'], self.levels)} ({float(sample['purity']):.0%})"
        if prediction is not None:
            title += f"\npredicted: {class_name(prediction, self.levels)}"
        return title, self.rgb_panels(sample)

    def _targets(self, batch: WindowBatch) -> Sample:
        if self.labels is None:
            return {}
        at = batch.samples
        return {
            "label": torch.from_numpy(self.labels[at].astype(np.int64)),
            "purity": torch.from_numpy(self._purities[at].astype(np.float32)),
        }

    def _majorities(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Class index (uint8) and its share of every chip, in the order of the windows: tile, window, year."""
        n = CHIP // grid.LABEL_RESOLUTION
        side = label_shape()[0] // n
        labels = np.empty((len(self._rows), side * side, len(self.years)), np.uint8)
        shares = np.empty(labels.shape, np.float32)
        for start in range(0, len(self._rows), _TILES_AT_ONCE):
            rows = self._rows[start : start + _TILES_AT_ONCE]
            tiles = slice(start, start + len(rows))
            for k, year in enumerate(self.years):
                cells = self.label_classes(rows, year, level)
                cells = cells.reshape(len(rows), side, n, side, n).swapaxes(2, 3).reshape(-1, n * n)
                # One bin per chip and class in a single bincount; argmax takes the lower class on a tie.
                bins = np.arange(len(cells))[:, None] * 256 + cells
                counts = np.bincount(bins.ravel(), minlength=len(cells) * 256).reshape(-1, 256)
                counts[:, IGNORE_INDEX] = 0
                best = counts.argmax(1)
                most = counts[np.arange(len(counts)), best]
                best[most == 0] = IGNORE_INDEX
                labels[tiles, :, k] = best.reshape(len(rows), -1)
                shares[tiles, :, k] = (most / (n * n)).reshape(len(rows), -1)
        return labels.ravel(), shares.ravel()
