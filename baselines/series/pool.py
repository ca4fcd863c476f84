"""Series of the label cells of a release: the mean of the clear pixels of each cell of 50 m, on fixed days of years."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lulcbench._parallel import executor, in_order, slots
from lulcbench.errors import LulcbenchError
from lulcbench.grid import LABEL_RESOLUTION, TILE_SIZE, pixels
from lulcbench.legend import IGNORE_INDEX, ClassScheme
from lulcbench.release import AUTO, Release, Row
from lulcbench.sensors import Band
from lulcbench.series.indices import available, with_indices
from lulcbench.series.regular import cell_means, days_of_year, regular

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
SIDE = pixels(TILE_SIZE, LABEL_RESOLUTION)


@dataclass(frozen=True)
class Pool:
    """Series of the cells of some tiles.

    Attributes:
        values: float32 ``(n, year, step, feature)``: bands, then indices; NaN where a year has no clear date.
        labels: class indices of the map that is the source of labels, ``(n,)``.
        polygons: number of the area of one class in one tile that a cell belongs to, ``(n,)``.
        blocks: spatial block, ``(n,)``.
        years: years of ``values``.
    """

    values: Floats
    labels: Ints
    polygons: Ints
    blocks: npt.NDArray[np.str_]
    years: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def flat(self) -> Floats:
        """Features of each year in one row: float32 ``(n, year, step · feature)``."""
        return self.values.reshape(*self.values.shape[:2], -1)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Pool:
        """The cells of some rows."""
        return Pool(self.values[rows], self.labels[rows], self.polygons[rows], self.blocks[rows], self.years)


class SeriesReader:
    """Reads regular series of dated imagery, tile by tile.

    Args:
        release: the release.
        sensor: name of the sensor.
        years: years of the imagery.
        every: days between the fixed days of a year.
        bands: names of the bands; None takes all.

    Raises:
        NotAvailableError: the release has no dated imagery of a year.
        LulcbenchError: a band is unknown.
    """

    def __init__(
        self, release: Release, sensor: str, years: Sequence[int], every: int, bands: Sequence[str] | None = None
    ) -> None:
        self.release, self.sensor, self.every = release, sensor, every
        self.years = tuple(sorted(set(years)))
        self.array = release.manifest.dated(sensor, self.years)
        info = release.manifest.sensor(sensor)
        self.resolution = info.resolution
        names = info.band_names if bands is None else tuple(bands)
        if unknown := [name for name in names if name not in info.band_names]:
            raise LulcbenchError(f"{sensor} has no band {unknown[0]!r}.", f"It has {', '.join(info.band_names)}.")
        self._at = [info.band_names.index(name) for name in names]
        self.bands: tuple[Band, ...] = tuple(info.bands[i] for i in self._at)
        self.indices = available(self.bands)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the features of a step: bands, then indices."""
        return (*(band.name for band in self.bands), *self.indices)

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of a year: ``d015:B04``, the day since 1 January and the feature."""
        return tuple(f"d{day:03d}:{name}" for day in days_of_year(self.every) for name in self.features)

    def tile(self, split: str, row: Row, cells: npt.NDArray[np.integer] | None = None) -> Floats:
        """Series of the cells of a tile: float32 ``(n, year, step, feature)``, NaN where a year has no clear date.

        Args:
            split: name of the split.
            row: row of the tile.
            cells: positions among the 96 × 96 cells, row by row from the north-west; None takes all.

        Raises:
            LulcbenchError: the tile has no date in a year.
        """
        reader = self.release.reader(split)
        stored = reader.tiles(self.array, row, Row(row + 1))[0]
        dates = self.release.dates(split, self.array)[row - self.release.manifest.rows(split).start]
        known = ~np.isnat(dates)
        coding, chosen = self.bands[0].coding, slice(None) if cells is None else cells
        values = np.stack(
            [
                cell_means(coding.decode(image[self._at])).reshape(len(self._at), -1)[:, chosen].T
                for image in stored[known]
            ],
            axis=1,
        )
        return np.stack(
            [
                with_indices(regular(values, dates[known], year, self.every), self.bands, self.indices)
                for year in self.years
            ],
            axis=1,
        )

    def pool(
        self,
        split: str,
        label_year: int,
        scheme: ClassScheme,
        most: int,
        seed: int,
        labels: str = AUTO,
        scheduler: str | None = None,
    ) -> Pool:
        """A sample of the labelled cells of a split, drawn polygon by polygon.

        Args:
            split: name of the split.
            label_year: year of the map that is the source of labels.
            scheme: the classes.
            most: largest number of cells of one polygon.
            seed: seed of the draw.
            labels: source of the labels.
            scheduler: address of a dask scheduler, whose workers read the tiles; None reads them here.

        Raises:
            NotAvailableError: the release has no such labels.
            LulcbenchError: the labels are newer than the imagery, or the split has no labelled cell with imagery.
        """
        if label_year > max(self.years):
            raise LulcbenchError(
                f"The labels are of {label_year}, newer than the imagery ({', '.join(map(str, self.years))}).",
                "Use an older map, or imagery of its year or later.",
            )
        tiles, rows = self.release.tiles(split), self.release.manifest.rows(split)
        jobs = [_TileJob(self, split, Row(row), label_year, scheme, most, seed, labels) for row in rows]
        parts: list[tuple[Floats, Ints, Ints, npt.NDArray[np.str_]]] = []
        first = 0
        with executor(1, scheduler) as workers:
            for block, (values, classes, areas, number) in zip(
                tiles.blocks, in_order(workers, _cells_of, jobs, 2 * slots(workers, 1)), strict=True
            ):
                parts.append((values, classes, areas + first, np.full(len(values), block)))
                first += number
        values, classes, polygons, blocks = (np.concatenate(column) for column in zip(*parts, strict=True))
        if not len(values):
            raise LulcbenchError(
                f"The {split} split has no labelled cell with a clear date in every year.", "Check years and labels."
            )
        return Pool(values, classes, polygons, blocks, self.years)


@dataclass(frozen=True)
class _TileJob:
    """What is drawn from one tile; see ``SeriesReader.pool``."""

    reader: SeriesReader
    split: str
    row: Row
    label_year: int
    scheme: ClassScheme
    most: int
    seed: int
    labels: str


def _cells_of(job: _TileJob) -> tuple[Floats, Ints, Ints, int]:
    """Series, classes and areas of the cells that are drawn from a tile, and the number of its areas."""
    codes = job.reader.release.labels(job.split, job.label_year, [job.row], job.labels)[0]
    classes = job.scheme.encode(codes).astype(np.int64)
    areas = _areas(classes)
    cells = _draw(areas.ravel(), job.most, np.random.default_rng([job.seed, job.row]))
    values = job.reader.tile(job.split, job.row, cells)
    whole = np.isfinite(values).all(axis=(1, 2, 3))
    cells, values = cells[whole], values[whole]
    return values, classes.ravel()[cells], areas.ravel()[cells], int(areas.max(initial=-1)) + 1


def _areas(classes: Ints) -> Ints:
    """Number of the connected area of each cell, from 0 on; -1 where ignored."""
    areas = np.full(classes.shape, -1, np.int64)
    count = 0
    for index in np.unique(classes[classes != IGNORE_INDEX]):
        found, n = ndimage.label(classes == index)
        areas[found > 0] = found[found > 0] - 1 + count
        count += n
    return areas


def _draw(areas: Ints, most: int, rng: np.random.Generator) -> Ints:
    """Positions of at most ``most`` cells of each area, in ascending order."""
    order = rng.permutation(len(areas))
    order = order[np.argsort(areas[order], kind="stable")]
    sorted_areas = areas[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_areas, sorted_areas, side="left")
    return np.sort(order[(sorted_areas >= 0) & (rank < most)])
