"""Dated images of releases: the composites of their years, or single dates."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lulcbench.errors import NotAvailableError
from lulcbench.grid import CRS, TILE_SIZE, Bounds, tiles_over
from lulcbench.maps.dated import years_of
from lulcbench.maps.dated_images import Floats, Seen, named_bands, single_input
from lulcbench.maps.imagery import ReleaseImagery
from lulcbench.maps.model import Image, ModelInfo, ModelInput
from lulcbench.release import Release, Row
from lulcbench.seasons import nearest_to_midsummer


class Composites:
    """Composites of a release, an image per year; see ``DatedImages``.

    Args:
        release: the release.
        info: the model, of seasonal composites.

    Raises:
        NotAvailableError: the release lacks what the model needs, or has fewer than two years of it.
    """

    crs: Final = CRS
    origin: Final = (0.0, 0.0)
    composites: Final = True

    def __init__(self, release: Release, info: ModelInfo) -> None:
        manifest = release.manifest
        years = years_of(release, info)
        if len(years) < 2:
            raise NotAvailableError(
                f"{release.id} has {len(years)} years of {', '.join(info.inputs)}.", "Change needs two years at least."
            )
        self.name, self.simulated, self._info = release.id, manifest.simulated, info
        self._imagery = {year: ReleaseImagery(release, info, year) for year in years}
        self.bounds = self._imagery[years[0]].bounds
        # The date of a year: the middle of the seasons that the model sees.
        wanted = {season for imagery in info.inputs.values() for season in imagery.seasons}
        self._years = {
            np.datetime64(
                int(np.mean([np.datetime64(season.midpoint(y), "D").astype(int) for season in wanted])),
                "D",
            ): y
            for y in years
        }
        sensor, first = next(iter(info.inputs.items()))
        self.bands = named_bands(sensor, first.bands)
        self._season = nearest_to_midsummer(first.seasons)

    def dates(self, bounds: Bounds) -> list[np.datetime64]:
        """The middle of each year's composites, where there are tiles."""
        return sorted(self._years) if next(iter(self._imagery.values())).tiles(bounds) else []

    def read(self, date: np.datetime64, bounds: Bounds) -> Seen:
        """What the model sees; see ``DatedImages``."""
        window = self._imagery[self._years[date]].read(bounds)
        return Seen(window.images, window.composites > 0)

    def picture(self, date: np.datetime64, bounds: Bounds) -> Floats:
        """The composite of the season nearest to midsummer; see ``DatedImages``."""
        seen = self.read(date, bounds)
        sensor, wanted = next(iter(self._info.inputs.items()))
        values = _denormalised(seen.images[sensor], wanted)
        own = values.reshape(-1, len(wanted.bands), *values.shape[1:])[-len(wanted.seasons) :][self._season]
        return np.where(seen.clear, own, np.float32(np.nan))


class Acquisitions:
    """Dated imagery of a release, an image per date; see ``DatedImages``.

    Args:
        release: the release.
        info: the model, of single images of one sensor.

    Raises:
        NotAvailableError: the release lacks what the model needs.
    """

    crs: Final = CRS
    origin: Final = (0.0, 0.0)
    composites: Final = False

    def __init__(self, release: Release, info: ModelInfo) -> None:
        self._sensor, self._input = single_input(info)
        manifest = release.manifest
        self._array, has = manifest.dated(self._sensor), manifest.sensor(self._sensor)
        lacking = [name for name in self._input.bands if name not in has.band_names]
        if lacking or has.resolution != self._input.resolution:
            raise NotAvailableError(
                f"{release.id} lacks what {info.name} needs: {', '.join(lacking)} at {self._input.resolution} m.",
                f"It has {', '.join(has.band_names)} at {has.resolution} m.",
            )
        self.name, self.simulated, self._release, self._coding = release.id, manifest.simulated, release, has.coding
        self._positions = [has.band_names.index(name) for name in self._input.bands]
        self.bands = named_bands(self._sensor, self._input.bands)
        index = release.index()
        self._places = {
            (int(ix), int(iy)): (str(split), int(row))
            for ix, iy, split, row in zip(index["ix"], index["iy"], index["split"], index["row"], strict=True)
        }
        self._days = {split: release.dates(split, self._array) for split in manifest.splits}
        columns, rows = zip(*self._places, strict=True)
        self.bounds = (
            min(columns) * TILE_SIZE,
            min(rows) * TILE_SIZE,
            (max(columns) + 1) * TILE_SIZE,
            (max(rows) + 1) * TILE_SIZE,
        )
        self._readers = {split: release.reader(split, threads=1) for split in manifest.splits}

    def dates(self, bounds: Bounds) -> list[np.datetime64]:
        """Dates of the tiles that touch an area."""
        found = {day for _, days in self._tiles(bounds) for day in days[~np.isnat(days)].tolist()}
        return [np.datetime64(day, "D") for day in sorted(found)]

    def _tiles(self, bounds: Bounds) -> list[tuple[Any, npt.NDArray[np.datetime64]]]:
        tiles = [tile for tile in tiles_over(bounds) if (tile.ix, tile.iy) in self._places]
        first = self._release.manifest.first_rows
        return [
            (tile, self._days[split][row - first[split]])
            for tile in tiles
            for split, row in [self._places[tile.ix, tile.iy]]
        ]

    def read(self, date: np.datetime64, bounds: Bounds) -> Seen:
        """What the model sees; see ``DatedImages``."""
        values = self.picture(date, bounds)
        known = np.isfinite(values).all(axis=0)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self._input.mean, self._input.std))
        image = np.where(known, (values - mean) / std, 0).astype(np.float32)
        return Seen({self._sensor: image}, known)

    def picture(self, date: np.datetime64, bounds: Bounds) -> Floats:
        """Values of the bands; see ``DatedImages``."""
        left, bottom, right, top = bounds
        r = self._input.resolution
        shape = (len(self._positions), round((top - bottom) / r), round((right - left) / r))
        out = np.full(shape, np.nan, np.float32)
        for tile, days in self._tiles(bounds):
            at = np.flatnonzero(days == date)
            if not len(at):
                continue
            x0, y0, x1, y1 = tile.bounds
            part = (max(left, x0), max(bottom, y0), min(right, x1), min(top, y1))
            height, width = round((part[3] - part[1]) / r), round((part[2] - part[0]) / r)
            there = (round((y1 - part[3]) / r), round((part[0] - x0) / r))
            y, x = round((top - part[3]) / r), round((part[0] - left) / r)
            split, row = self._places[tile.ix, tile.iy]
            stored = self._readers[split].read(
                self._array, [Row(row)], [there], (height, width), [int(at[0])], self._positions
            )
            out[:, y : y + height, x : x + width] = self._coding.decode(stored[0, 0])
        return out


def _denormalised(image: Image, wanted: ModelInput) -> npt.NDArray[np.float32]:
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (wanted.mean, wanted.std))
    return image * std + mean
