"""Dated imagery of a release as inputs of models of time series: regular series, made as they are in training."""

from __future__ import annotations

from datetime import date

import numpy as np

from lulcbench.errors import NotAvailableError
from lulcbench.grid import TILE_SIZE, Bounds
from lulcbench.maps.imagery import Counts, ReleaseImagery, Source, Window, other_composites
from lulcbench.maps.model import Image, ModelInfo, ModelInput, Series
from lulcbench.release import Release, Row
from lulcbench.sensors import Band
from lulcbench.series.indices import with_indices
from lulcbench.series.regular import cell_means, normalized, regular

_STRIP = 16  # cells: dates of a whole tile of 10 m may take more than 500 MiB


class DatedImagery(ReleaseImagery):
    """Reads the inputs of a model of series; see ``ReleaseImagery``, whose ``composites`` are the dates here.

    Values are the means of cells (``Series.cell``), on fixed days of the year, interpolated between clear dates.

    Raises:
        NotAvailableError: the release lacks the sensor, a date in the year, or a band, or has another resolution.
    """

    def _find_sources(self) -> dict[str, Source]:
        ((sensor, wanted),) = self.info.inputs.items()
        has = self.release.manifest.sensors.get(sensor)
        lacking: list[str] = []
        if has is None:
            lacking.append(f"sensor {sensor}")
        else:
            if not any(first <= self.year <= last for first, last in has.spans):
                spans = ", ".join(f"{first} to {last}" for first, last in has.spans)
                lacking.append(f"dated imagery of {sensor} of {self.year} (it has {spans or 'none'})")
            if has.resolution != wanted.resolution:
                lacking.append(f"{sensor} at {wanted.resolution} m (it has {has.resolution} m)")
            lacking += other_composites(sensor, wanted, has)
            lacking += [f"band {band} of {sensor}" for band in wanted.bands if band not in has.band_names]
        if has is None or lacking:
            raise NotAvailableError(
                f"{self.release.id} lacks what {self.info.name} needs: {'; '.join(lacking)}.",
                "Build a release with these, or use a model that was trained on what it has.",
            )
        bands = [has.band_names.index(band) for band in wanted.bands]
        array = self.release.manifest.dated(sensor, [self.year])
        mean, std = (np.array(values, np.float32) for values in (wanted.mean, wanted.std))
        self._bands: tuple[Band, ...] = tuple(has.bands[i] for i in bands)
        self._series = series_of(wanted)
        return {sensor: Source(array, (), has.resolution, (), bands, has.coding, mean, std)}

    @property
    def _counts_clear(self) -> bool:
        return False

    def _read(self, bounds: Bounds) -> Window:
        ((sensor, source),) = self._sources.items()
        cell = self._series.cell
        left, bottom, right, top = bounds
        shape = (round((top - bottom) / cell), round((right - left) / cell))
        image = np.zeros((self.info.inputs[sensor].channels, *shape), np.float32)
        dates = np.zeros(shape, np.uint8)
        for tile in self.tiles(bounds):
            split, row = self._places[tile.ix, tile.iy]
            if self._is_damaged(tile, split, row):
                continue
            x0, y0, x1, y1 = tile.bounds
            part = (max(left, x0), max(bottom, y0), min(right, x1), min(top, y1))
            rows = slice(round((y1 - part[3]) / cell), round((y1 - part[1]) / cell))
            columns = slice(round((part[0] - x0) / cell), round((part[2] - x0) / cell))
            own, seen = self._tile(source, split, row, rows)
            y, x = round((top - part[3]) / cell), round((part[0] - left) / cell)
            there = (slice(y, y + rows.stop - rows.start), slice(x, x + columns.stop - columns.start))
            image[:, *there] = own[..., columns]
            dates[there] = seen[:, columns]
        return Window({sensor: image}, dates, None)

    def _tile(self, source: Source, split: str, row: Row, rows: slice) -> tuple[Image, Counts]:
        """Some rows of cells of a tile: normalised series ``(channel, y, x)``, and numbers of clear dates."""
        side = TILE_SIZE // self._series.cell
        height = rows.stop - rows.start
        all_dates = self.release.dates(split, source.array)[row - self.release.manifest.rows(split).start]
        in_year = all_dates.astype("datetime64[Y]") == np.datetime64(date(self.year, 1, 1), "Y")
        at = np.flatnonzero(in_year)
        channels = len(source.gain)
        image, seen = np.zeros((channels, height, side), np.float32), np.zeros((height, side), np.uint8)
        if not len(at):
            return image, seen
        reader, n = self._reader(split), TILE_SIZE // source.resolution
        factor, rest = divmod(n, side)
        step = _STRIP if not rest else height
        for start in range(0, height, step):
            strip = slice(start, min(start + step, height))
            if rest:  # a cell is not a whole number of pixels
                first, pixels, cells = 0, n, slice(rows.start, rows.stop)
            else:
                first, pixels = (rows.start + start) * factor, (strip.stop - start) * factor
                cells = slice(None)
            stored = reader.read(source.array, [row], [(first, 0)], (pixels, n), at.tolist(), source.bands)[0]
            shape = (side if rest else strip.stop - start, side)
            decoded = (source.coding.decode(values) for values in stored)
            means = np.stack([cell_means(values, shape)[:, cells] for values in decoded])  # time, band, y, x
            flat = means.reshape(*means.shape[:2], -1).transpose(2, 0, 1)
            series = with_indices(
                regular(flat, all_dates[at], self.year, self._series.every), self._bands, self._series.indices
            )
            values = normalized(series.reshape(len(series), -1), source.gain, source.bias)
            image[:, strip] = values.T.reshape(channels, -1, side)
            seen[strip] = np.isfinite(means).any(axis=1).sum(axis=0).clip(max=255)  # dates with data in any band
        return image, seen


def series_of(wanted: ModelInput) -> Series:
    """How the series of an input are made."""
    if wanted.series is None:
        raise ValueError("this is an input of composites")
    return wanted.series


def open_imagery(release: Release, info: ModelInfo, year: int) -> ReleaseImagery:
    """The imagery of a year for a model of composites, or of series."""
    return (DatedImagery if info.of_series else ReleaseImagery)(release, info, year)


def years_of(release: Release, info: ModelInfo) -> tuple[int, ...]:
    """Years that a release can be mapped in: with all sensors of a model, also of its history, in ascending order.

    Raises:
        NotAvailableError: there is none.
    """
    sensors = release.manifest.sensors
    sets: list[set[int]] = []
    for name, wanted in info.inputs.items():
        has = sensors.get(name)
        spans = has.spans if has and wanted.series else ()
        dated = {year for first, last in spans for year in range(first, last + 1)}
        held = set(has.years if has else ())
        sets.append(dated if wanted.series else {year for year in held if held >= {year - n for n in wanted.history}})
    years = tuple(sorted(set.intersection(*sets)))
    if not years:
        has_arrays = [
            f"{name} ({', '.join(map(str, sensor.arrays(name))) or 'no imagery'})" for name, sensor in sensors.items()
        ]
        earlier = sorted({n for wanted in info.inputs.values() for n in wanted.history}, reverse=True)
        what = f"{'dated imagery of ' if info.of_series else ''}{', '.join(info.inputs)}"
        what += f" with imagery {' and '.join(map(str, earlier))} years before" if earlier else ""
        raise NotAvailableError(
            f"{release.id} has no year of {what}.",
            f"It has {', '.join(has_arrays) or 'no imagery'}.",
        )
    return years
