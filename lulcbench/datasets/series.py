"""Time series: all seasons of all years of a window, or all dates of dated imagery, in chronological order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch

from lulcbench.datasets._options import Options, Windowed, Yearly, integers, names, spell_out
from lulcbench.datasets._pictures import class_name, class_panels
from lulcbench.datasets.base import LuisaDataset
from lulcbench.datasets.batch import Sample, WindowBatch
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.release import ArrayKey, Manifest, Release

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lulcbench.plotting import Panel


NO_DATE = np.iinfo(np.int64).min  # in ``dates``, after the last date of a tile


class SeriesOptions(Options, Windowed, Yearly, total=False):
    """Options of ``LuisaSeries``: those of ``LuisaDataset``, except ``flatten``."""


class LuisaSeries(LuisaDataset):
    """Time series of windows, or of single pixels, of one sensor.

    ``image`` is float32 ``(time, band, y, x)``: all seasons of all ``years`` in chronological order; for single pixels
    (``window`` equal to the pixel size) ``(time, band)``. ``clear`` is the same without bands. ``dates`` is int64
    ``(time,)``: the middle day of each season as days since 1970-01-01. ``mask`` is as in ``LuisaSeg``, of the year
    ``year``; for single pixels a scalar.

    Of dated imagery, time is the dates of ``years``. Tiles have dates of their own: where a tile has fewer than others,
    ``image`` is nodata (0) at the end, and ``dates`` is ``NO_DATE`` (which NumPy reads as NaT).

    Args:
        root: an opened release, its folder, or its URL.
        split: ``train``, ``val``, ``test`` or another that the release has.
        sensors: one sensor.
        years: one or several years of imagery; None means all years of the sensor.
        dated: True reads dated imagery (``Manifest.dated``), False composites by season; None reads composites if the
            release has any of the sensor.
        **options: options of ``LuisaDataset``, except ``flatten``; ``year``, a single one, is that of the labels.
            ``seasons`` is of composites alone.

    Examples:
        >>> pixels = LuisaSeries(root, sensors="landsat", level=1, window=30)
        >>> sample = pixels[0]
        >>> sample["image"].shape  # 2 years × 4 seasons, 6 bands
        torch.Size([8, 6])
        >>> sample["dates"].dtype, sample["mask"].shape
        (torch.int64, torch.Size([]))
    """

    @spell_out(SeriesOptions, LuisaDataset.__init__)
    def __init__(
        self,
        root: str | os.PathLike[str] | Release,
        split: str = "train",
        sensors: str | Sequence[str] = "landsat",
        *,
        years: int | Sequence[int] | None = None,
        dated: bool | None = None,
        **options: Unpack[SeriesOptions],
    ) -> None:
        if len(names(sensors, "sensors")) > 1:
            raise LulcbenchError("LuisaSeries takes one sensor.", "Name one; sensors differ in their pixels.")
        if "flatten" in options:
            raise LulcbenchError("LuisaSeries takes no flatten.", "Its images keep their time axis.")
        if "history" in options:
            raise LulcbenchError("LuisaSeries takes no history.", "Choose years of imagery by years=(...).")
        self._asked_years = None if years is None else tuple(sorted(integers(years, "years")))
        if self._asked_years == ():
            raise LulcbenchError("No year was chosen.", "Name at least one, or none for all.")
        self.dated, self._asked_seasons = dated, options.get("seasons")
        super().__init__(root, split, sensors, flatten=False, **options)
        if len(self.years) > 1:
            raise LulcbenchError("LuisaSeries takes one label year.", "Choose years of imagery by years=(...).")
        (sensor,) = self.sensors
        if self.dated:
            self._locate_dates(self._dated_array)
        else:
            self.image_years = self._asked_years or tuple(sorted(self.release.manifest.sensor(sensor).years))
            self._locate_seasons()
        newest = max(self.image_years)
        if self.label_source is not None and self.years[0] > newest:
            raise NotAvailableError(
                f"The labels are of {self.years[0]}, newer than the imagery, which ends in {newest}: the land may have "
                "changed since.",
                f"Set year to that of an older map, such as year={newest}, or add imagery by years=(…).",
            )

    def _locate_seasons(self) -> None:
        """Seasons of all years in order of time, and their middle days."""
        by_name = {season.name: season for season in self.release.manifest.seasons}
        when = [
            (by_name[name].midpoint(year), year, k) for year in self.image_years for k, name in enumerate(self.seasons)
        ]
        self._order = sorted(when)
        self.dates = np.array([day for day, _, _ in self._order], "datetime64[D]")

    def _arrays(self, manifest: Manifest) -> list[ArrayKey]:
        (sensor,) = self.sensors
        if self.dated is None:
            self.dated = not manifest.sensor(sensor).years and bool(manifest.sensor(sensor).spans)
        if not self.dated:
            return super()._arrays(manifest)
        if self._asked_seasons is not None:
            raise LulcbenchError("Dated imagery has no seasons.", "Leave out seasons, and choose dates by `dates`.")
        if self.clear_counts:
            raise LulcbenchError(
                "Dated imagery has no numbers of clear observations.", "A pixel is clear on a date, or nodata."
            )
        return [manifest.dated(sensor, self._asked_years or ())]

    @property
    def _dated_array(self) -> ArrayKey:
        return self.release.manifest.dated(self.sensors[0], self._asked_years or ())

    def _locate_dates(self, array: ArrayKey) -> None:
        """Positions and dates of each tile that are within the years.

        Raises:
            LulcbenchError: a year has no date in any tile.
        """
        self.image_years = self._asked_years or tuple(range(array.first, array.last + 1))
        all_dates = self.release.dates(self.split, array)
        wanted = np.isin(all_dates.astype("datetime64[Y]").astype(np.int64) + 1970, self.image_years)
        wanted &= ~np.isnat(all_dates)
        years = all_dates[wanted].astype("datetime64[Y]").astype(np.int64) + 1970
        if empty := sorted(set(self.image_years) - set(years.tolist())):
            raise LulcbenchError(
                f"{self.sensors[0]} has no date in {empty[0]} in the {self.split} split.",
                "Leave the year out (years=…), or build the release with scenes of it.",
            )
        most = int(wanted.sum(axis=1).max())
        # Wanted positions first, in order; the rest are replaced by nodata.
        self._steps = np.argsort(~wanted, axis=1, kind="stable")[:, :most]
        self._known = np.take_along_axis(wanted, self._steps, axis=1)
        picked = np.take_along_axis(all_dates, self._steps, axis=1)
        #: datetime64[D] ``(tile, time)`` of the split for dated imagery, else ``(time,)``.
        self.dates = np.where(self._known, picked, np.datetime64("NaT", "D"))

    def _picture(self, sample: Sample, prediction: Any) -> tuple[str, list[Panel]]:
        """For windows, maps of labels and predictions (class indices); for single pixels, both are in the title."""
        title = sample["tile"]
        if not self._of_pixels:
            return title, class_panels({"labels": sample.get("mask"), "prediction": prediction}, self.levels)
        title += f": {class_name(sample['mask'], self.levels)}" if "mask" in sample else ""
        title += "" if prediction is None else f", predicted {class_name(prediction, self.levels)}"
        return title, []

    def _figure(self, sample: Sample, panels: list[Panel], title: str, show_titles: bool) -> Figure:
        """Mean of each band over time (nodata left out), and the panels beside it."""
        from lulcbench.plotting import line_figure

        (sensor,) = self.sensors
        image = sample["image"][..., None, None] if self._of_pixels else sample["image"]
        dates = sample["dates"].numpy().view("datetime64[D]")
        pixels = self.normalizers[sensor].denormalize(image).reshape(len(dates), len(self.bands[sensor]), -1)
        lines = np.ma.masked_invalid(pixels).mean(-1).filled(np.nan)
        known = ~np.isnat(dates)
        where = self._where(sample) | ({"bounds": None} if self._of_pixels else {})
        return line_figure(
            dates[known],
            lines[known],
            self.band_details(sensor),
            panels,
            title,
            self.release.simulated,
            show_titles,
            sensor=sensor,
            **where,
        )

    @property
    def _imagery_years(self) -> tuple[int, ...] | None:
        return self._asked_years

    @property
    def _of_pixels(self) -> bool:
        """Whether samples are single pixels, without (y, x)."""
        return self.windows.size == self.resolution()

    def _normalized(self, name: str, image: torch.Tensor) -> torch.Tensor:
        if not self._of_pixels:
            return super()._normalized(name, image)
        return super()._normalized(name, image[..., None, None])[..., 0, 0]

    def _dated_imagery(self, batch: WindowBatch) -> Sample:
        at = batch.rows - self.release.manifest.rows(self.split).start
        stored = self._images[self.sensors[0]].read_dated(
            batch, self.windows.size, self._dated_array, self._steps[at], self._known[at], self.normalize == "device"
        )
        dates = torch.from_numpy(self.dates[at].astype(np.int64))
        return {"image": stored[..., 0, 0] if self._of_pixels else stored, "dates": dates}

    def _imagery(self, batch: WindowBatch) -> Sample:
        if self.dated:
            return self._dated_imagery(batch)
        sensor = self.sensors[0]
        years = {year: self._sensor_image(sensor, batch.in_year(year)) for year in self.image_years}
        image = torch.stack([years[year][:, k] for _, year, k in self._order], 1)
        dates = torch.from_numpy(self.dates.astype(np.int64)).expand(len(batch), -1)
        entries = {"image": image}
        if self.clear_counts:
            counts = {year: self._clear("clear", batch.in_year(year))["clear"] for year in self.image_years}
            entries["clear"] = torch.stack([counts[year][:, k] for _, year, k in self._order], 1)
        return {key: value[..., 0, 0] if self._of_pixels else value for key, value in entries.items()} | {
            "dates": dates
        }

    def _targets(self, batch: WindowBatch) -> Sample:
        if self.label_source is None:
            return {}
        mask = self._masks(batch, self.resolution())
        return {"mask": mask[..., 0, 0] if self._of_pixels else mask}
