"""Base class of the datasets: selection of tiles, windows and bands, and reading of batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from lulcbench import grid
from lulcbench.datasets._buffers import Buffers
from lulcbench.datasets._epochs import Epochs
from lulcbench.datasets._fetch import fetch
from lulcbench.datasets._images import Images
from lulcbench.datasets._labels import Labels
from lulcbench.datasets._options import (
    BandStatistics,
    check_choices,
    choose_bands,
    choose_history,
    choose_seasons,
    choose_statistics,
    integer,
    integers,
    names,
    number,
)
from lulcbench.datasets._pictures import Pictured
from lulcbench.datasets._transforms import Transform, apply
from lulcbench.datasets.batch import Sample, Samples, WindowBatch, positions
from lulcbench.datasets.normalize import Normalizer
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from lulcbench.release import AUTO, ArrayKey, Manifest, Release
from lulcbench.release.index import select
from lulcbench.seasons import Season
from lulcbench.windows import Phase, Windows


class LuisaDataset(Pictured, Dataset[Sample]):
    """Windows of the imagery of one split, tile by tile, row by row. Base class of the labelled datasets.

    A sample is a dict with these entries, to which subclasses add others:

    - ``image``: float32. ``(season·band, y, x)``, the season varying slowest; with ``flatten=False``
      ``(season, band, y, x)``. With ``history``, the seasons of earlier years come first. With several sensors a dict
      of such images by sensor name. Values are normalised by the statistics of the train split (or in the unit of the
      bands); nodata is 0. Rows run from north to south.
    - ``clear``, with ``clear_counts=True``: uint8 ``(season, y, x)``, the number of clear observations that the
      composite of a pixel was made from (0 where it is nodata; 255 is 255 or more); a dict like ``image``.
    - ``tile``: id of the tile; ``bounds``: float64 ``(left, bottom, right, top)`` in metres; ``transform``: float64
      ``(9,)``, the affine transform of the pixels of the first sensor, row by row as in torchgeo; ``crs``:
      ``"EPSG:3035"``; ``year``: int.

    Arguments for several names also accept a single one: ``regions="east"``.

    Args:
        root: an opened release, its folder, or a URL (https, s3, hf) from which it is streamed.
        split: ``train``, ``val``, ``test`` or another that the release has.
        sensors: one sensor or several.
        year: one or several years; with several, every window is one sample per year.
        history: how many years before ``year`` earlier composites of the same seasons are from, such as 6 or (1, 2):
            images have their seasons too, the earliest year first.
        labels: source of the labels, such as ``luisa`` or ``corine``; by default LUISA, or the only one. None reads
            imagery alone, as for splits without labels.
        level: level of the classes, 1 to 4; several give masks a leading level dimension.
        window: side of the windows in metres, a whole number of pixels of every sensor; None means complete tiles.
        stride: metres between windows; None means no overlap. The last window is flush with the tile's edge.
        seasons: names of the seasons, in this order, or seasons that must have the same days here; None means all.
        bands: names of the bands, in this order: of the only sensor, or a dict by sensor; None means all.
        transforms: called with each sample. Pixels that transforms of torchvision v2, Kornia, torchgeo and
            albumentations fill (corners of a rotation, padding) are ignored (255) in masks, regardless of their fill
            values; interpolated masks are an error. Other callables are checked: if a mask gets more pixels of a class
            than before, wrap the callable in ``lulcbench.datasets.SpatialTransform`` or ``LabelTransform``. Crops
            require images and masks of one size, hence sensors of one resolution. ``bounds`` and ``transform`` remain
            those of the window.
        normalize: True: normalised; False: values in the unit of the bands, such as reflectance; ``"device"``: stored
            integers, to be passed through ``finish`` on the device, as ``LuisaDataModule`` does (stored floats are
            normalised).
        statistics: mean and standard deviation to normalise with, by sensor and band, in the band's unit:
            ``{"sentinel2": {"B04": (0.07, 0.05)}}``. None means those of the train split of the release; those of the
            training data of a model are ``train.statistics``.
        flatten: fold the seasons into the channels.
        phase: whether windows move between epochs, see ``lulcbench.windows.Windows``. They move when ``set_epoch`` is
            called, as ``WindowSampler`` and ``LuisaDataModule`` do, but a plain ``DataLoader(shuffle=True)`` does not.
        seed: seed of the positions of moving windows.
        query: pandas query on the tile index, such as ``"luisa_2018_311 > 0.3"``.
        regions: only tiles of these regions.
        classes: only tiles with at least one of these LUISA codes in these labels, in any year.
        max_cloud: only tiles with at most this cloud fraction (0…1).
        fraction: only a fixed subset of the tiles, such as 0.01 or 0.1 (see ``lulcbench.release.index.few``).
        clear_counts: read the numbers of clear observations too. Transforms of other libraries, which would not move
            them with the images, are then an error.
        keys: entries of samples to keep, such as ``("image", "mask")`` for libraries that pass all of them to the
            model (TerraTorch, the Trainer of Hugging Face); None means all.
        download: download missing files first: True means the release named like the last part of ``root``, a string
            the name or address of a release (see ``lulcbench.download.download``).

    Attributes:
        release: the opened release.
        tiles: DataFrame, one row per tile, see ``lulcbench.release.Release.index``.
        windows: grid of the windows.
        normalizers: normalizer of each sensor.
        statistics: mean and standard deviation by which images are normalised, by sensor and band; None if they are
            not.
        label_source: source of the labels; None without labels.

    Raises:
        NotAvailableError: the release lacks something that was requested; lists what exists.
        LulcbenchError: an option is invalid, or options contradict each other.

    Examples:
        >>> data = LuisaDataset(root, split="val", sensors=("sentinel2", "landsat"), window=1200)
        >>> len(data), data.in_channels
        (32, {'sentinel2': 20, 'landsat': 24})
        >>> {name: tuple(image.shape) for name, image in data[0]["image"].items()}
        {'sentinel2': (20, 120, 120), 'landsat': (24, 40, 40)}
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Release,
        split: str = "train",
        sensors: str | Sequence[str] = "sentinel2",
        *,
        year: int | Sequence[int] = 2018,
        history: int | Sequence[int] = (),
        labels: str | None = AUTO,
        level: int | Sequence[int] = 3,
        window: int | None = 1200,
        stride: int | None = None,
        seasons: str | Season | Sequence[str | Season] | None = None,
        bands: str | Sequence[str] | dict[str, str | Sequence[str]] | None = None,
        transforms: Transform | None = None,
        normalize: bool | str = True,
        statistics: BandStatistics | None = None,
        flatten: bool = True,
        phase: Phase = "fixed",
        seed: int = 0,
        query: str | None = None,
        regions: str | Sequence[str] | None = None,
        classes: int | Sequence[int] | None = None,
        max_cloud: float | None = None,
        fraction: float | None = None,
        clear_counts: bool = False,
        keys: str | Sequence[str] | None = None,
        download: bool | str = False,
    ) -> None:
        self.root = root.root if isinstance(root, Release) else os.fspath(root)
        self.split = split
        self.sensors = names(sensors, "sensors")
        self.years = integers(year, "year")
        self.history = choose_history(history)
        self.label_source = labels
        levels = integers(level, "level")
        self.level = levels[0] if levels and np.ndim(level) == 0 else levels
        self.transforms = transforms
        self.normalize = normalize if normalize == "device" else bool(normalize)
        self.flatten = flatten
        self.clear_counts = bool(clear_counts)
        self.keys = None if keys is None else names(keys, "keys")
        if self.normalize is False and statistics is not None:
            raise LulcbenchError("statistics were given, but normalize is False.", "Leave one of them out.")
        check_choices(self.sensors, self.years, self.levels, normalize, transforms)
        if download:
            years = None if self._imagery_years is None else tuple(sorted({*self._imagery_years, *self.label_years}))
            fetch(download, self.root, splits=split, sensors=self.sensors, years=years)
        self.release = Release.open(root)
        self.root = self.release.root
        manifest = self.release.manifest
        arrays = self._arrays(manifest)
        label_arrays: dict[int, ArrayKey] = {}
        if self.label_source is not None:
            self.label_source = manifest.choose_labels(self.label_source)
            held = manifest.label_source(self.label_source).years
            for label_year in (*self.label_years, *held):
                label_arrays[label_year] = manifest.label_array(self.label_source, label_year, split)
        elif classes is not None:
            raise LulcbenchError("classes were chosen, but no labels.", "Name the source of the labels: labels=….")
        self._buffers = Buffers()
        self._reader = self.release.reader(split)
        self.tiles = select(
            self.release.index(split),
            regions=None if regions is None else names(regions, "regions"),
            classes=None if classes is None else integers(classes, "classes"),
            max_cloud=None if max_cloud is None else number(max_cloud, "max_cloud"),
            labels=list(label_arrays.values()),
            imagery=arrays,
            query=query,
            fraction=None if fraction is None else number(fraction, "fraction"),
        ).reset_index(drop=True)
        self._tile_labels = Labels(self._reader, label_arrays)
        # Row, id and upper-left corner (x, y) of each tile.
        self._rows = self.tiles["row"].to_numpy(np.int64)
        self._ids: list[str] = self.tiles["id"].tolist()
        self._corners = (self.tiles[["ix", "iy"]].to_numpy(np.int64) + np.array((0, 1))) * grid.TILE_SIZE
        self.windows = Windows.of(
            None if window is None else integer(window, "window"),
            None if stride is None else integer(stride, "stride"),
            self._resolutions(),
            phase,
            integer(seed, "seed"),
        )
        self.seasons, self._season_index = choose_seasons(manifest, seasons)
        self.bands, self._band_index = choose_bands(manifest, self.sensors, bands)
        self.statistics = (
            None if self.normalize is False else choose_statistics(manifest, self.sensors, self.bands, statistics)
        )
        scaling = self.statistics or {name: dict.fromkeys(self.bands[name], (0.0, 1.0)) for name in self.sensors}
        self.normalizers = {
            name: Normalizer(manifest.sensor(name).coding, *zip(*values.values(), strict=True))
            for name, values in scaling.items()
        }
        self._images = {
            name: Images(
                self._reader,
                manifest,
                name,
                self.history,
                self._season_index,
                bands,
                self.normalizers[name],
                self._buffers,
            )
            for name, bands in self._band_index.items()
        }
        self._subset: npt.NDArray[np.int64] | None = None  # samples to keep, if a subclass keeps only some
        self._epochs = Epochs()

    def __len__(self) -> int:
        return len(self._rows) * self.windows.per_tile * len(self.years) if self._subset is None else len(self._subset)

    def __repr__(self) -> str:
        years = self._imagery_years or self.release.manifest.sensor(self.sensors[0]).years
        parts = {
            "sensors": self.sensors,
            "years": sorted(years),
            "label years": self.label_years,
            "levels": self.levels,
            "window": (f"{self.windows.size} m",),
            "stride": (f"{self.windows.stride} m",),
            "tiles": (len(self.tiles),),
            "samples": (len(self),),
        }
        lines = [f"    {name}: {', '.join(map(str, values))}" for name, values in parts.items()]
        return "\n".join([f"{type(self).__name__} of {self.release.id}, {self.split}", *lines])

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        """Read one sample, or those of a slice at once; negative indices count from the end."""
        if isinstance(index, slice):
            indices = range(*index.indices(len(self)))
            return self.__getitems__(indices) if indices else []
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Sample]:
        """Read several samples in one call, as torch's DataLoader does for its batches."""
        if self.transforms is None:
            return Samples(self.read(indices), len(indices))
        samples = Samples(self._read(indices), len(indices))
        return [self._kept(apply(self.transforms, sample)) for sample in samples]

    def read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Sample:
        """Read a batch, without transforms: entries of samples with a leading batch dimension (strings in a list)."""
        return self._kept(self._read(indices))

    def _kept(self, sample: Sample) -> Sample:
        """The entries that were chosen."""
        if self.keys is None:
            return sample
        for key in self.keys:
            if key not in sample:
                raise LulcbenchError(f"Samples have no entry {key!r}.", f"keys are some of {', '.join(sample)}.")
        return {key: sample[key] for key in self.keys}

    def _read(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Sample:
        if self.windows.phase != "fixed":
            self._epochs.count(len(indices), len(self), self.windows.phase)
        batch = self.locate(indices)
        return self._imagery(batch) | self._targets(batch) | self._about(batch)

    def finish(self, batch: Sample) -> Sample:
        """Normalise a batch or a sample that was read with ``normalize="device"``, on any device.

        Images that are not stored integers are unchanged.
        """
        done = {}
        for key in batch:
            if key.startswith("image"):
                images = self._by_sensor(batch[key])
                images = {name: self._normalized(name, image) for name, image in images.items()}
                done[key] = images if isinstance(batch[key], dict) else images[self.sensors[0]]
        return batch | done

    def set_epoch(self, epoch: int) -> None:
        """Move the windows to their positions in an epoch, in all workers (fixed windows do not move)."""
        self._epochs.set(epoch)

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return self._epochs.epoch

    @property
    def fixed(self) -> bool:
        """Whether samples are the same in every epoch: without transforms, and with windows that do not move."""
        return self.transforms is None and self.windows.phase == "fixed"

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels of the labels."""
        return (self.level,) if isinstance(self.level, int) else self.level

    @property
    def num_classes(self) -> int:
        """Number of classes at the (finest) level."""
        return len(legend().codes(max(self.levels)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes at the (finest) level, in the order of their indices."""
        return legend().names(max(self.levels))

    @property
    def in_channels(self) -> dict[str, int]:
        """Number of channels (season · band, of all years) of each sensor."""
        seasons = (len(self.history) + 1) * len(self.seasons)
        return {name: seasons * len(self.bands[name]) for name in self.sensors}

    def resolution(self, sensor: str | None = None) -> int:
        """Pixel size in metres of a sensor, by default of the first."""
        return self.release.manifest.sensor(sensor or self.sensors[0]).resolution

    def locate(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> WindowBatch:
        """Locate the windows of samples in the current epoch.

        Raises:
            IndexError: an index is out of range (which also ends plain iteration).
            LulcbenchError: an index is not a whole number.
        """
        index = positions(indices, len(self))
        window, year = np.divmod(index if self._subset is None else self._subset[index], len(self.years))
        tile, offsets = window // self.windows.per_tile, self.windows.offsets(window, self.epoch)
        left, top = (self._corners[tile] + offsets[:, ::-1] * (1, -1)).T
        size = self.windows.size
        return WindowBatch(
            samples=index,
            rows=self._rows[tile],
            tiles=[self._ids[i] for i in tile],
            years=np.array(self.years)[year],
            offsets=offsets,
            bounds=np.stack([left, top - size, left + size, top], -1).astype(np.float64),
        )

    def class_fractions(self, year: int, level: int) -> npt.NDArray[np.float64]:
        """Share of each tile's label pixels that each class covers: ``(tile, class)``, in the order of ``tiles``."""
        return self._tile_labels.fractions(self.tiles, year, level)

    def label_classes(self, rows: npt.NDArray[np.integer], year: int, level: int) -> npt.NDArray[np.uint8]:
        """Class indices of whole tiles on the 50 m label grid: uint8 ``(n, 96, 96)``, ``IGNORE_INDEX`` where ignored.

        Args:
            rows: rows of the tiles, see ``tiles``.
            year: of the labels.
            level: of the classes.

        Raises:
            NotAvailableError: the dataset has no labels of that year.
        """
        return self._tile_labels.classes(rows, year, level)

    def _normalized(self, name: str, image: torch.Tensor) -> torch.Tensor:
        return image if image.is_floating_point() else self.normalizers[name](image)

    def _imagery(self, batch: WindowBatch) -> Sample:
        return {"image": self._image(batch)} | self._clear("clear", batch)

    def _targets(self, batch: WindowBatch) -> Sample:
        return {}

    @property
    def label_years(self) -> tuple[int, ...]:
        """Years of the labels of samples; empty without labels."""
        return self.years if self.label_source is not None else ()

    def _arrays(self, manifest: Manifest) -> list[ArrayKey]:
        """The arrays of the imagery of samples.

        Raises:
            NotAvailableError: the release lacks one, or the numbers of clear observations that were requested.
        """
        pairs = [
            (name, year)
            for name in self.sensors
            for year in dict.fromkeys((*self.years, *(self._imagery_years or manifest.sensor(name).years)))
        ]
        for name, year in pairs:
            manifest.imagery(name, year)
            if self.clear_counts:
                manifest.clear_counts(name, year)
        return [
            manifest.imagery(name, year)
            for name in self.sensors
            for year in self._imagery_years or manifest.sensor(name).years
        ]

    @property
    def _imagery_years(self) -> tuple[int, ...] | None:
        """Years of the imagery of samples; None means all years of the sensor."""
        return tuple(dict.fromkeys(year - before for before in (*self.history, 0) for year in self.years))

    def _resolutions(self) -> tuple[int, ...]:
        return tuple(self.resolution(name) for name in self.sensors)

    def _image(self, batch: WindowBatch) -> torch.Tensor | dict[str, torch.Tensor]:
        images = {name: self._sensor_image(name, batch) for name in self.sensors}
        return images if len(images) > 1 else images[self.sensors[0]]

    def _sensor_image(self, name: str, batch: WindowBatch) -> torch.Tensor:
        image = self._images[name].read(batch, self.windows.size, as_stored=self.normalize == "device")
        return image.flatten(1, 2) if self.flatten else image

    def _clear(self, key: str, batch: WindowBatch) -> Sample:
        """The entry with the numbers of clear observations, if they were requested."""
        if not self.clear_counts:
            return {}
        counts = {name: self._images[name].read_clear_counts(batch, self.windows.size) for name in self.sensors}
        return {key: counts if len(counts) > 1 else counts[self.sensors[0]]}

    def _masks(self, batch: WindowBatch, resolution: int) -> torch.Tensor:
        """Class indices at the pixel centres of the windows: int64 ``(n, [level,] y, x)``."""
        n = self.windows.size // resolution
        masks = self._buffers.empty((len(batch), len(self.levels), n, n), torch.int64)
        self._tile_labels.masks(batch, self.windows.size, resolution, self.levels, masks.numpy())
        return masks[:, 0] if isinstance(self.level, int) else masks

    def _about(self, batch: WindowBatch) -> Sample:
        pixel = self.resolution()
        transform = np.zeros((len(batch), 9))
        transform[:, [0, 4, 8]] = pixel, -pixel, 1
        transform[:, [2, 5]] = batch.bounds[:, [0, 3]]
        return {
            "tile": batch.tiles,
            "bounds": torch.from_numpy(batch.bounds),
            "transform": torch.from_numpy(transform),
            "crs": [grid.CRS] * len(batch),
            "year": torch.from_numpy(batch.years),
        }
