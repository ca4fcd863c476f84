"""Figures of samples, with labels and with predictions as models return them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from lulcbench.datasets.batch import Sample
from lulcbench.datasets.normalize import Normalizer
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.release import Release
from lulcbench.seasons import nearest_to_midsummer
from lulcbench.sensors import Band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lulcbench.plotting import Panel


class Pictured:
    """Plotting methods of ``LuisaDataset``, which sets the attributes."""

    release: Release
    sensors: tuple[str, ...]
    seasons: tuple[str, ...]
    bands: dict[str, tuple[str, ...]]
    normalizers: dict[str, Normalizer]
    transforms: Any
    label_source: str | None
    _band_index: dict[str, list[int]]

    def plot(
        self,
        sample: Sample,
        show_titles: bool = True,
        suptitle: str | None = None,
        *,
        prediction: Any = None,
    ) -> Figure:
        """Plot a sample: true colour of each sensor; subclasses add labels and predictions.

        Args:
            sample: sample of this dataset, transformed or not.
            show_titles: write a title above each panel.
            suptitle: title of the figure; None means the name of the sample. Simulated data are always marked.
            prediction: class indices in the form of the labels; None means ``sample["prediction"]``, if it exists.

        Raises:
            LulcbenchError: ``sample`` is a batch, or a prediction has another form or is not a class.
        """
        if "tile" not in sample or not any(key.startswith("image") for key in sample):
            raise LulcbenchError(
                f"The sample has only {', '.join(sample)}.", "Plot samples with image and tile: choose keys=None."
            )
        if not isinstance(sample["tile"], str):
            raise LulcbenchError("This is a batch of samples.", "Plot one of them: dataset.plot(dataset[0]).")
        title, panels = self._picture(sample, sample.get("prediction") if prediction is None else prediction)
        return self._figure(sample, panels, suptitle or title, show_titles)

    def rgb_panels(self, sample: Sample, key: str = "image", title: str | None = None) -> list[Panel]:
        """True colour of each sensor in a sample, of the season nearest to midsummer."""
        from lulcbench.plotting import rgb_panel

        panels, season = [], self.shown_season
        for name, image in self._by_sensor(sample[key]).items():
            stored = image.reshape(-1, len(self.bands[name]), *image.shape[-2:])[-len(self.seasons) :]
            values = self.normalizers[name].denormalize(stored[season])
            panels.append(
                rgb_panel(
                    values, self.band_details(name), f"{name}{f' {title}' if title else ''}, {self.seasons[season]}"
                )
            )
        return panels

    @property
    def shown_season(self) -> int:
        """Position among ``seasons`` of the season that figures show: the one nearest to midsummer."""
        by_name = {season.name: season for season in self.release.manifest.seasons}
        return nearest_to_midsummer([by_name[name] for name in self.seasons])

    def band_details(self, sensor: str) -> list[Band]:
        """The chosen bands of a sensor as the release describes them: wavelength, unit, coding."""
        bands = self.release.manifest.sensor(sensor).bands
        return [bands[i] for i in self._band_index[sensor]]

    def _picture(self, sample: Sample, prediction: Any) -> tuple[str, list[Panel]]:
        """Title and panels of the figure of a sample; subclasses extend it."""
        return sample["tile"], self.rgb_panels(sample)

    def _figure(self, sample: Sample, panels: list[Panel], title: str, show_titles: bool) -> Figure:
        from lulcbench.plotting import figure

        return figure(panels, title, self.release.simulated, show_titles, **self._where(sample))

    def _where(self, sample: Sample) -> dict[str, Any]:
        """Bounds and credit of a figure; without bounds if a transform or augmentation may have moved the pixels."""
        from lulcbench.plotting import credit

        moved = self.transforms is not None or bool(sample.get("augmented", False))
        given = None if moved else sample.get("bounds")
        bounds = None if given is None else tuple(torch.as_tensor(given).tolist())
        sources = () if self.label_source is None else (self.label_source,)
        return {"bounds": bounds, "credit": credit(self.release, self.sensors, sources)}

    def _by_sensor(self, image: Any) -> dict[str, torch.Tensor]:
        return image if isinstance(image, dict) else {self.sensors[0]: image}


def finest(classes: Any, levels: tuple[int, ...], ndim: int = 2) -> npt.NDArray[np.int64]:
    """Class indices at the finest of their levels.

    Args:
        classes: integers, ``(y, x)`` or ``(level, y, x)``; if ``ndim`` is 0, a scalar or ``(level,)``.
        levels: levels of ``classes``.
        ndim: 2 for maps, 0 for single classes.

    Raises:
        LulcbenchError: they have another shape or type, such as probabilities.
    """
    indices = torch.as_tensor(classes).detach().cpu()
    if indices.ndim == ndim + 1 and len(indices) == len(levels):
        indices = indices[levels.index(max(levels))]
    if indices.ndim != ndim or indices.is_floating_point():
        what = f"{indices.dtype} of shape {tuple(indices.shape)}"
        form = "(y, x)" if ndim else "a single number"
        raise LulcbenchError(f"A prediction is {what}.", f"Give class indices, {form}, such as logits.argmax(0).")
    return indices.to(torch.int64).numpy()


def class_panels(masks: dict[str, Any], levels: tuple[int, ...]) -> list[Panel]:
    """Maps of class indices in legend colours, by their titles; those that are None are left out."""
    from lulcbench.plotting import class_panel

    return [class_panel(finest(m, levels), max(levels), title) for title, m in masks.items() if m is not None]


def class_name(label: Any, levels: tuple[int, ...]) -> str:
    """Name of the class of a single label or prediction.

    Raises:
        LulcbenchError: it is not a class.
    """
    from lulcbench.plotting import check_classes

    index, names = finest(label, levels, 0), legend().names(max(levels))
    check_classes(index, len(names), "The prediction")
    return "ignored" if index == IGNORE_INDEX else names[int(index)]
