"""Imagery of a release as images of any extent: read across tiles, normalised as the model was trained."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import CorruptFileError, NotAvailableError
from lulcbench.geozarr import METADATA
from lulcbench.grid import TILE_SIZE, Bounds, Tile, tiles_over
from lulcbench.maps.model import Image, ModelInfo, ModelInput
from lulcbench.release import ArrayKey, FileInfo, Release, Row, SensorInfo
from lulcbench.release.shards import ShardReader
from lulcbench.remote import is_remote
from lulcbench.seasons import differing_seasons
from lulcbench.sensors import Coding

log = logging.getLogger(__name__)

Counts = npt.NDArray[np.uint8]
_COUNTS = Coding("uint8", 1, 0, 0)  # of clear observations


@dataclass(frozen=True, slots=True)
class Source:
    """One sensor: the array, what is taken of it, and how values become inputs.

    ``earlier`` are the arrays of earlier years whose channels come first. ``gain`` and ``bias`` are of stored values;
    for series, mean and standard deviation of each channel.
    """

    array: ArrayKey
    earlier: Sequence[ArrayKey]
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
        composites: number of composites (seasons of all sensors, in the year itself) with a valid pixel: uint8
            ``(y, x)`` on the grid of the first sensor.
        clear: number of clear observations that these composites were made from, at most 255: uint8 ``(y, x)``; None if
            the release does not hold it.
    """

    images: dict[str, Image]
    composites: Counts
    clear: Counts | None


class ReleaseImagery:
    """Reads the inputs of a model from a release.

    Tiles of all splits that are here are read; elsewhere there are no data. Statistics are those of the model. Shards
    of a local release are hashed before they are first read; the tiles of a shard that is missing or altered count as
    nodata and are listed in ``damaged``. Picklable.

    Args:
        release: the release.
        info: description of the model.
        year: year of the imagery.

    Attributes:
        has_clear: whether the release holds the number of clear observations of all sensors.
        damaged: ids of tiles that could not be read → what is wrong.

    Raises:
        NotAvailableError: the release lacks a sensor, year, band or season of the model, or has it at another
            resolution; lists everything that is missing.
    """

    def __init__(self, release: Release, info: ModelInfo, year: int) -> None:
        self.release, self.info, self.year = release, info, year
        self.damaged: dict[str, str] = {}
        self._sources = self._find_sources()
        self.has_clear = self._counts_clear
        self._places: dict[tuple[int, int], tuple[str, Row]] = {}
        index = release.index()
        here = [split for split in release.manifest.splits if self._is_here(split)]
        if not here:
            raise NotAvailableError(
                f"No split of {release.id} is here.", "Download it, or a part of it, with 'lulcbench download'."
            )
        index = index[index["split"].isin(here)]
        for ix, iy, split, row in zip(index["ix"], index["iy"], index["split"], index["row"], strict=True):
            self._places[int(ix), int(iy)] = (str(split), Row(int(row)))
        self._readers: dict[str, ShardReader] = {}
        self._shards: dict[tuple[ArrayKey, str], tuple[int, dict[int, str]]] = {}  # tiles of a shard, paths by number
        self._intact: set[Tile] = set()
        self._reading = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"args": (self.release, self.info, self.year)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["args"])  # type: ignore[misc]

    def _find_sources(self) -> dict[str, Source]:
        """Where the inputs are in the release."""
        return _sources(self.release, self.info, self.year)

    @property
    def _counts_clear(self) -> bool:
        return all(self.release.manifest.sensors[name].clear_counts for name in self.info.inputs)

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

    def present(self, bounds: Bounds) -> str:
        """SHA-256 of the tiles that touch an area and of where the release holds them."""
        places = [[tile.id, *self._places[tile.ix, tile.iy]] for tile in self.tiles(bounds)]
        return hashlib.sha256(json.dumps(sorted(places)).encode()).hexdigest()

    def read(self, bounds: Bounds) -> Window:
        """Read all sensors over an area whose sides are whole pixels of every sensor; one thread at a time."""
        with self._reading:
            return self._read(bounds)

    def _read(self, bounds: Bounds) -> Window:
        images: dict[str, Image] = {}
        composites: Counts | None = None
        clear: npt.NDArray[np.uint16] | None = None
        for sensor, source in self._sources.items():
            bands = len(source.bands)
            stored = self._stored(source, source.array, bounds, (bands,), source.coding)
            if source.earlier:
                before = [self._stored(source, key, bounds, (bands,), source.coding) for key in source.earlier]
                stored = np.concatenate([*before, stored])
            missing = source.coding.missing(stored)
            if source.coding.dtype == "float32":
                missing |= ~np.isfinite(stored)
            image = stored.astype(np.float32)
            image *= source.gain[..., None, None]
            image += source.bias[..., None, None]
            image[missing] = 0
            images[sensor] = image.reshape(-1, *image.shape[-2:])
            own_year = missing[-len(source.seasons) :]  # without observations of its own, a year is not mapped
            valid = (~own_year.all(axis=1)).sum(axis=0, dtype=np.uint8)  # seasons
            shape = valid.shape if composites is None else composites.shape
            own = _nearest(valid, shape)
            composites = own if composites is None else composites + own
            if self.has_clear:
                numbers = self._stored(source, source.array.clear, bounds, (), _COUNTS)
                total = _nearest(numbers.sum(axis=0, dtype=np.uint16), shape)
                clear = total if clear is None else clear + total
        if composites is None:
            raise ValueError("a model has inputs")
        return Window(images, composites, None if clear is None else np.minimum(clear, 255).astype(np.uint8))

    def _stored(
        self, source: Source, array: ArrayKey, bounds: Bounds, inner: tuple[int, ...], coding: Coding
    ) -> npt.NDArray[Any]:
        """Stored values of an array over an area: ``(season, *inner, y, x)``."""
        left, bottom, right, top = bounds
        r = source.resolution
        shape = (round((top - bottom) / r), round((right - left) / r))
        out = np.full((len(source.seasons), *inner, *shape), coding.fill_value, coding.dtype)
        for tile in self.tiles(bounds):
            x0, y0, x1, y1 = tile.bounds
            # Rows and columns of the tile's part, in the tile and in the area.
            part = (max(left, x0), max(bottom, y0), min(right, x1), min(top, y1))
            height, width = round((part[3] - part[1]) / r), round((part[2] - part[0]) / r)
            there = (round((y1 - part[3]) / r), round((part[0] - x0) / r))
            y, x = round((top - part[3]) / r), round((part[0] - left) / r)
            split, row = self._places[tile.ix, tile.iy]
            if self._is_damaged(tile, split, row):
                continue
            values = self._reader(split).read(array, [row], [there], (height, width), source.seasons, source.bands)
            out[..., y : y + height, x : x + width] = values[0]
        return out

    @property
    def _arrays(self) -> list[ArrayKey]:
        keys = [source.array for source in self._sources.values()]
        clear = [key.clear for key in keys if self.has_clear]
        return keys + clear + [key for source in self._sources.values() for key in source.earlier]

    def _is_here(self, split: str) -> bool:
        """Whether the release is remote, or at least one shard of a split has been downloaded."""
        if is_remote(self.release.root):
            return True
        files = [f for key in self._arrays for f in self.release.manifest.files_of(key, split) if f.split]
        return not files or any((Path(self.release.root) / file.path).is_file() for file in files)

    def _is_damaged(self, tile: Tile, split: str, row: Row) -> bool:
        """Whether a shard with the tile is missing or altered; hashes shards that have not been read yet."""
        if is_remote(self.release.root) or tile in self._intact:
            return False
        if tile.id not in self.damaged:
            try:
                self.release.verify_files(
                    path for key in self._arrays if (path := self._shard(key, split, row)) is not None
                )
            except CorruptFileError as error:
                log.warning("Tile %s is left out: %s", tile.id, error.what)
                self.damaged[tile.id] = error.what
            else:
                self._intact.add(tile)
        return tile.id in self.damaged

    def _shard(self, array: ArrayKey, split: str, row: Row) -> str | None:
        """Path of the shard that holds a row; None if it has no data and hence no file."""
        if (array, split) not in self._shards:
            metadata = f"{array}/{METADATA}"
            self.release.verify_files([metadata])
            stored = json.loads((Path(self.release.root) / metadata).read_bytes())
            tiles = int(stored["chunk_grid"]["configuration"]["chunk_shape"][0])
            files = [file.path for file in self.release.manifest.files_of(array, split) if file.split]
            self._shards[array, split] = tiles, {int(PurePosixPath(path).parts[2]): path for path in files}
        tiles, paths = self._shards[array, split]
        return paths.get(row // tiles)

    def _reader(self, split: str) -> ShardReader:
        if split not in self._readers:
            root, manifest = self.release.root, self.release.manifest
            if not is_remote(root):
                # A reader refuses an array as soon as one shard is missing; the tiles of these are left out here.
                files = (file for file in manifest.files if file.array not in self._arrays or _is_whole(root, file))
                manifest = manifest.model_copy(update={"files": tuple(files)})
            self._readers[split] = ShardReader(root, manifest, split, threads=1)
        return self._readers[split]


def _is_whole(root: str, file: FileInfo) -> bool:
    path = Path(root) / file.path
    return path.is_file() and path.stat().st_size == file.bytes


def _nearest[Dtype: np.generic](values: npt.NDArray[Dtype], shape: tuple[int, ...]) -> npt.NDArray[Dtype]:
    """Sample values at the pixel centres of another grid of the same extent."""
    rows, columns = (((np.arange(n) + 0.5) * (m / n)).astype(np.intp) for n, m in zip(shape, values.shape, strict=True))
    sampled: npt.NDArray[Dtype] = values[rows][:, columns]
    return sampled


def other_composites(sensor: str, wanted: ModelInput, has: SensorInfo) -> list[str]:
    """What a release lacks whose composites were made otherwise than those that a model was trained on."""
    if not wanted.composite or has.composite in (None, wanted.composite):
        return []
    return [f"composites of {sensor} by {wanted.composite} (it has them by {has.composite})"]


def _sources(release: Release, info: ModelInfo, year: int) -> dict[str, Source]:
    manifest = release.manifest
    sources: dict[str, Source] = {}
    lacking: list[str] = []
    names = [season.name for season in manifest.seasons]
    for sensor, wanted in info.inputs.items():
        if sensor not in manifest.sensors:
            lacking.append(f"sensor {sensor}")
            continue
        has = manifest.sensors[sensor]
        lacking += [
            f"{sensor} of {needed} (it has {', '.join(map(str, has.years)) or 'no composites'})"
            for needed in (year, *(year - before for before in wanted.history))
            if needed not in has.years
        ]
        lacking += other_composites(sensor, wanted, has)
        if has.resolution != wanted.resolution:
            lacking.append(f"{sensor} at {wanted.resolution} m (it has {has.resolution} m)")
        lacking += [f"band {band} of {sensor}" for band in wanted.bands if band not in has.band_names]
        lacking += [f"season {season.name}" for season in wanted.seasons if season.name not in names]
        lacking += [f"seasons of these days: {text}" for text in differing_seasons(manifest.seasons, wanted.seasons)]
        if not wanted.seasons:
            lacking.append(f"single images of {sensor}, which the model was trained on (it has seasonal composites)")
        if lacking:
            continue
        gain, bias = _affine(has.coding, wanted)
        sources[sensor] = Source(
            ArrayKey(sensor, year),
            [ArrayKey(sensor, year - before) for before in wanted.history],
            has.resolution,
            [names.index(season.name) for season in wanted.seasons],
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
