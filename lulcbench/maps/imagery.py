"""Imagery of a release as images of any extent: read across tiles, normalised as the model was trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import CorruptFileError, NotAvailableError
from lulcbench.grid import TILE_SIZE, Bounds, Tile, tiles_over
from lulcbench.maps.model import Image, ModelInfo, ModelInput
from lulcbench.release import ArrayKey, Release, Row
from lulcbench.release.shards import ShardReader
from lulcbench.sensors import Coding

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Source:
    """One sensor: the array, what is taken of it, and how stored values become inputs."""

    array: ArrayKey
    resolution: int
    seasons: Sequence[int]
    bands: Sequence[int]
    coding: Coding
    gain: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """Imagery of a window.

    Attributes:
        images: sensor → normalised image, float32 ``(channel, y, x)``; nodata is 0.
        composites: number of composites (seasons of all sensors) with a valid pixel: uint8 ``(y, x)`` on the grid of
            the first sensor.
    """

    images: dict[str, Image]
    composites: npt.NDArray[np.uint8]


class ReleaseImagery:
    """Reads the inputs of a model from a release.

    Tiles of all splits are read; where the release has none, there is no data. Statistics are those of the model. A
    tile that cannot be read counts as nodata and is listed in ``damaged``. Picklable.

    Args:
        release: the release.
        info: description of the model.
        year: year of the imagery.

    Attributes:
        damaged: ids of tiles that could not be read → what is wrong.

    Raises:
        NotAvailableError: the release lacks a sensor, year, band or season of the model, or has it at another
            resolution; lists everything that is missing.
    """

    def __init__(self, release: Release, info: ModelInfo, year: int) -> None:
        self.release, self.info, self.year = release, info, year
        self.damaged: dict[str, str] = {}
        self._sources = _sources(release, info, year)
        self._places: dict[tuple[int, int], tuple[str, Row]] = {}
        index = release.index()
        for ix, iy, split, row in zip(index["ix"], index["iy"], index["split"], index["row"], strict=True):
            self._places[int(ix), int(iy)] = (str(split), Row(int(row)))
        self._readers: dict[str, ShardReader] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"args": (self.release, self.info, self.year)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["args"])  # type: ignore[misc]

    def tiles(self, bounds: Bounds) -> list[Tile]:
        """Tiles of the release that touch an area."""
        return [tile for tile in tiles_over(bounds) if (tile.ix, tile.iy) in self._places]

    @property
    def bounds(self) -> Bounds:
        """Bounds of all tiles in EPSG:3035 metres."""
        columns, rows = zip(*self._places, strict=True)
        return (
            min(columns) * TILE_SIZE,
            min(rows) * TILE_SIZE,
            (max(columns) + 1) * TILE_SIZE,
            (max(rows) + 1) * TILE_SIZE,
        )

    def read(self, bounds: Bounds) -> Window:
        """Read all sensors over an area whose sides are whole numbers of pixels of every sensor."""
        images, counts = {}, None
        for sensor, source in self._sources.items():
            stored = self._stored(source, bounds)
            missing = source.coding.missing(stored)
            if source.coding.dtype == "float32":
                missing |= ~np.isfinite(stored)
            image = stored.astype(np.float32)
            image *= source.gain[..., None, None]
            image += source.bias[..., None, None]
            image[missing] = 0
            images[sensor] = image.reshape(-1, *image.shape[-2:])
            valid = (~missing.all(axis=1)).sum(axis=0, dtype=np.uint8)  # seasons
            counts = valid if counts is None else counts + _nearest(valid, counts.shape)
        assert counts is not None  # noqa: S101  # a model has inputs
        return Window(images, counts)

    def _stored(self, source: _Source, bounds: Bounds) -> npt.NDArray[Any]:
        """Stored values over an area: ``(season, band, y, x)``."""
        left, bottom, right, top = bounds
        r = source.resolution
        shape = (round((top - bottom) / r), round((right - left) / r))
        out = np.full((len(source.seasons), len(source.bands), *shape), source.coding.fill_value, source.coding.dtype)
        for tile in self.tiles(bounds):
            x0, y0, x1, y1 = tile.bounds
            # Rows and columns of the tile's part, in the tile and in the area.
            part = (max(left, x0), max(bottom, y0), min(right, x1), min(top, y1))
            height, width = round((part[3] - part[1]) / r), round((part[2] - part[0]) / r)
            there = (round((y1 - part[3]) / r), round((part[0] - x0) / r))
            y, x = round((top - part[3]) / r), round((part[0] - left) / r)
            split, row = self._places[tile.ix, tile.iy]
            try:
                values = self._reader(split).read(
                    source.array, [row], [there], (height, width), source.seasons, source.bands
                )
            except CorruptFileError as error:
                if tile.id not in self.damaged:
                    log.warning("Tile %s is left out: %s", tile.id, error.what)
                self.damaged[tile.id] = error.what
                continue
            out[..., y : y + height, x : x + width] = values[0]
        return out

    def _reader(self, split: str) -> ShardReader:
        if split not in self._readers:
            self._readers[split] = self.release.reader(split, threads=1)
        return self._readers[split]


def _nearest(values: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Sample values at the pixel centres of another grid of the same extent."""
    rows, columns = (((np.arange(n) + 0.5) * (m / n)).astype(np.intp) for n, m in zip(shape, values.shape, strict=True))
    sampled: npt.NDArray[np.uint8] = values[rows][:, columns]
    return sampled


def _sources(release: Release, info: ModelInfo, year: int) -> dict[str, _Source]:
    manifest = release.manifest
    sources: dict[str, _Source] = {}
    lacking: list[str] = []
    names = [season.name for season in manifest.seasons]
    for sensor, wanted in info.inputs.items():
        if sensor not in manifest.sensors:
            lacking.append(f"sensor {sensor}")
            continue
        has = manifest.sensors[sensor]
        if year not in has.years:
            lacking.append(f"{sensor} of {year} (it has {', '.join(map(str, has.years)) or 'no composites'})")
        if has.resolution != wanted.resolution:
            lacking.append(f"{sensor} at {wanted.resolution} m (it has {has.resolution} m)")
        lacking += [f"band {band} of {sensor}" for band in wanted.bands if band not in has.band_names]
        lacking += [f"season {season}" for season in wanted.seasons if season not in names]
        if not wanted.seasons:
            lacking.append(f"single images of {sensor}, which the model was trained on (it has seasonal composites)")
        if lacking:
            continue
        gain, bias = _affine(has.coding, wanted)
        sources[sensor] = _Source(
            ArrayKey(sensor, year),
            has.resolution,
            [names.index(season) for season in wanted.seasons],
            [has.band_names.index(band) for band in wanted.bands],
            has.coding,
            gain,
            bias,
        )
    if lacking:
        raise NotAvailableError(
            f"{release.id} lacks what {info.name} needs: {'; '.join(dict.fromkeys(lacking))}.",
            "Build a release with these, or use a model that was trained on what it has.",
        )
    return sources


def _affine(coding: Coding, wanted: ModelInput) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gain and bias of stored values: float32 ``(season, band)`` each, as ``lulcbench.datasets`` computes them."""
    mean, std = (np.array(values, np.float64).reshape(-1, len(wanted.bands)) for values in (wanted.mean, wanted.std))
    return (coding.scale / std).astype(np.float32), ((coding.offset - mean) / std).astype(np.float32)
