"""Time series: every season of every year at a place, in order of time."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Places, Sample
from lulcbench.errors import LulcbenchError
from lulcbench.release import Season

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LuisaSeries(LuisaDataset):
    """Time series of windows, or of single pixels, of one sensor.

    ``image`` is float32 ``(time, band, y, x)``: all seasons of all ``years`` in order of time; for single pixels
    (``window`` equal to the pixel size) ``(time, band)``. ``dates`` is int64 ``(time,)``: the middle day of each
    season as days since 1970-01-01. ``mask`` is as in ``LuisaSeg``, of the year ``year``; for single pixels a scalar.

    Args:
        root: folder of a release.
        split: ``train``, ``val`` or ``test``.
        years: years of imagery; None takes all that the release has of the sensor.
        **options: of ``LuisaDataset``, with one sensor and one year (of the labels).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        sensors: str = "landsat",
        *,
        years: tuple[int, ...] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(sensors, str):
            raise LulcbenchError(
                "LuisaSeries takes one sensor.", "Name it as a string; sensors differ in their pixels."
            )
        if "flatten" in options:
            raise LulcbenchError("LuisaSeries takes no flatten.", "Its images keep their time axis.")
        super().__init__(root, split, sensors, flatten=False, **options)
        if len(self.years) > 1:
            raise LulcbenchError("LuisaSeries takes one label year.", "Choose years of imagery by years=(...).")
        self.image_years = tuple(sorted(years or self.release.sensor(sensors).years))
        for year in self.image_years:
            self.release.check_year(year, sensors)
        by_name = {season.name: season for season in self.release.seasons}
        when = [
            (middle(by_name[name], year), year, k) for year in self.image_years for k, name in enumerate(self.seasons)
        ]
        self._order = sorted(when)
        self.dates = np.array([day for day, _, _ in self._order], "datetime64[D]")

    def plot(self, sample: Sample, prediction: torch.Tensor | None = None, suptitle: str | None = None) -> Figure:
        """Mean reflectance of each band over time (nodata left out), and its label for single pixels."""
        from lulcbench.plotting import line_figure

        reflectance = self.normalizers[self.sensors[0]].reflectance(sample["image"][..., None, None])
        pixels = reflectance.reshape(len(self.dates), len(self.bands[self.sensors[0]]), -1)
        lines = np.ma.masked_invalid(pixels).mean(-1).filled(np.nan)
        title = suptitle or str(sample["tile"])
        if sample["mask"].ndim == 0 and int(sample["mask"]) < self.num_classes:
            title += f": {self.class_names[int(sample['mask'])]}"
            title += f", predicted {self.class_names[int(prediction)]}" if prediction is not None else ""
        return line_figure(self.dates, lines, self.bands[self.sensors[0]], title, self.release.simulated)

    def _imagery(self, places: Places) -> Sample:
        sensor = self.sensors[0]
        years = {year: self._sensor_image(sensor, places.in_year(year)) for year in self.image_years}
        image = torch.stack([years[year][:, k] for _, year, k in self._order], 1)
        pixel = self.windows.size == self.resolution()
        dates = torch.from_numpy(self.dates.astype(np.int64)).expand(len(places), -1)
        return {"image": image[..., 0, 0] if pixel else image, "dates": dates}

    def _targets(self, places: Places) -> Sample:
        mask = self._masks(places, self.resolution())
        return {"mask": mask[..., 0, 0] if self.windows.size == self.resolution() else mask}


def middle(season: Season, year: int) -> datetime.date:
    """Middle day of a season; one that runs over New Year (such as 12-02 … 03-20) ends in ``year``."""
    starts_before = season.start > season.end
    start = datetime.date.fromisoformat(f"{year - starts_before}-{season.start}")
    return start + (datetime.date.fromisoformat(f"{year}-{season.end}") - start) // 2
