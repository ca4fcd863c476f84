"""Change detection: the same windows in two years."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import torch

from lulcbench.datasets._options import Flat, Options, Windowed, integers, spell_out
from lulcbench.datasets._pictures import class_panels, finest
from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Sample, WindowBatch
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import AUTO, Release

if TYPE_CHECKING:
    from lulcbench.plotting import Panel


class ChangeOptions(Options, Windowed, Flat, total=False):
    """Options of ``LuisaChange``: those of ``LuisaDataset``, except the year."""


class LuisaChange(LuisaDataset):
    """Windows of imagery of two years, with the class before, the class after and whether it changed.

    Instead of ``image``, samples have ``image_from`` and ``image_to`` (and ``clear_from`` and ``clear_to`` instead of
    ``clear``), and also ``mask_from`` and ``mask_to`` (class indices as in ``LuisaSeg``) and ``mask`` (0 same class, 1
    changed, 255 if either is ignored). With several levels, masks have a leading level dimension: a change at level 4
    may not be one at level 1. ``year`` is the later year.

    Args:
        root: an opened release, its folder, or its URL.
        split: ``train``, ``val``, ``test`` or another that the release has.
        sensors: one sensor or several, with imagery of both years.
        years: the earlier and the later year.
        layout: ``"pair"``, or ``"torchgeo"`` for its ``ChangeDetectionTask``: instead of the entries above, samples
            have ``image`` ``(2, channel, y, x)`` (and ``clear`` ``(2, season, y, x)``), and ``mask`` is ``(1, y, x)``.
        **options: options of ``LuisaDataset``, except ``year``.

    Examples:
        >>> data = LuisaChange(root, sensors="landsat", level=1)
        >>> sample = data[0]
        >>> sample["image_from"].shape, sample["image_to"].shape
        (torch.Size([24, 40, 40]), torch.Size([24, 40, 40]))
        >>> data.transitions(1).shape  # label pixels from (rows) and to (columns) each class
        (5, 5)
        >>> sample = LuisaChange(root, sensors="landsat", level=1, layout="torchgeo")[0]
        >>> sample["image"].shape, sample["mask"].shape
        (torch.Size([2, 24, 40, 40]), torch.Size([1, 40, 40]))
    """

    @spell_out(ChangeOptions, LuisaDataset.__init__)
    def __init__(
        self,
        root: str | os.PathLike[str] | Release,
        split: str = "train",
        sensors: str | Sequence[str] = "landsat",
        *,
        years: Sequence[int] = (2012, 2018),
        layout: Literal["pair", "torchgeo"] = "pair",
        **options: Unpack[ChangeOptions],
    ) -> None:
        self.pair = integers(years, "years")
        if len(self.pair) != 2 or not self.pair[0] < self.pair[1]:
            raise LulcbenchError(f"years is {years}.", "Give the earlier and the later year.")
        if options.get("labels", AUTO) is None:
            raise LulcbenchError("LuisaChange needs labels.", "Name their source: labels=….")
        if taken := {"year", "history"} & set(options):
            raise LulcbenchError(f"LuisaChange takes no {min(taken)}.", "Use years=(earlier, later).")
        if layout not in ("pair", "torchgeo"):
            raise LulcbenchError(f"layout is {layout!r}.", 'Use "pair" or "torchgeo".')
        self.layout = layout
        super().__init__(root, split, sensors, year=self.pair[1], **options)
        if layout == "torchgeo" and not (len(self.sensors) == 1 and isinstance(self.level, int)):
            raise LulcbenchError(
                'layout="torchgeo" takes one sensor and one level.', "Choose one of each, as ChangeDetectionTask does."
            )
        for name in self.sensors:
            self.release.manifest.imagery(name, self.pair[0])
            if self.clear_counts:
                self.release.manifest.clear_counts(name, self.pair[0])

    def _picture(self, sample: Sample, prediction: Any) -> tuple[str, list[Panel]]:
        """Both years, their labels, and what changed into what."""
        from lulcbench.plotting import change_panel, transition_panel

        panels: list[Panel] = []
        for when, year in zip(("from", "to"), self.pair, strict=True):
            if self.layout == "torchgeo":
                one = {"image": sample["image"][("from", "to").index(when)]}
                panels += self.rgb_panels(one, "image", str(year))
                continue
            panels += self.rgb_panels(sample, f"image_{when}", str(year))
            panels += class_panels({f"labels {year}": sample[f"mask_{when}"]}, self.levels)
        if self.layout == "torchgeo":
            panels.append(change_panel(finest(sample["mask"].squeeze(0), self.levels), "changed"))
            prediction = None if prediction is None else prediction.squeeze(0)
        else:
            before, after = (finest(sample[f"mask_{when}"], self.levels) for when in ("from", "to"))
            title = f"change {self.pair[0]} → {self.pair[1]}"
            panels.append(transition_panel(before, after, max(self.levels), title))
        if prediction is not None:
            panels.append(change_panel(finest(prediction, self.levels), "predicted change"))
        return sample["tile"], panels

    @property
    def label_years(self) -> tuple[int, ...]:
        """Both years."""
        return self.pair

    @property
    def _imagery_years(self) -> tuple[int, ...]:
        return self.pair

    def _imagery(self, batch: WindowBatch) -> Sample:
        sample: Sample = {}
        for when, year in zip(("from", "to"), self.pair, strict=True):
            sample[f"image_{when}"] = self._image(batch.in_year(year))
            sample |= self._clear(f"clear_{when}", batch.in_year(year))
        if self.layout == "torchgeo":
            names = ("image", "clear") if self.clear_counts else ("image",)
            return {name: torch.stack([sample[f"{name}_from"], sample[f"{name}_to"]], dim=1) for name in names}
        return sample

    def _targets(self, batch: WindowBatch) -> Sample:
        before, after = (self._masks(batch.in_year(year), self.resolution()) for year in self.pair)
        changed = (before != after).to(torch.int64)
        changed[(before == IGNORE_INDEX) | (after == IGNORE_INDEX)] = IGNORE_INDEX
        if self.layout == "torchgeo":
            return {"mask": changed[:, None]}
        return {"mask_from": before, "mask_to": after, "mask": changed}

    def transitions(self, level: int) -> np.ndarray:
        """Label pixels of all tiles by class before and after: int64 ``(class, class)``; labelled in both years."""
        n = len(legend().codes(level))
        counts = np.zeros((n, n), np.int64)
        for row in self._rows:
            before, after = (self._tile_labels.classes(np.array([row]), year, level)[0] for year in self.pair)
            labelled = (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
            pairs = before[labelled].astype(np.int64) * n + after[labelled]
            counts += np.bincount(pairs, minlength=n * n).reshape(n, n)
        return counts
