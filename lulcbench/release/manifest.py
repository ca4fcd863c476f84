"""A release: an immutable, versioned data set on disk, described by ``release.json``.

The manifest lists every file with its SHA-256; the digest of the manifest is therefore the identity of all the bytes.
The digest of the data covers only what a model learns from and is scored on: predictions, scores and trained models
name it, so that they remain valid when only texts or pictures of a release are written again.
It is read from downloads, so everything in it is checked before use.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from lulcbench import grid
from lulcbench._files import Frozen, Name, Text, write_json
from lulcbench._parsing import first_faults, parse_json, read_limited
from lulcbench.errors import (
    CorruptFileError,
    LulcbenchError,
    NotAvailableError,
    ReleaseNotFoundError,
    UnsupportedFormatError,
)
from lulcbench.legend import legend
from lulcbench.release.entries import (
    AUTO,
    COLUMN_PREFIXES,
    MANIFEST,
    TRAIN,
    FileInfo,
    LabelInfo,
    SensorInfo,
    Source,
)
from lulcbench.release.keys import ArrayKey, ArrayName
from lulcbench.remote import is_remote, join, open_store
from lulcbench.remote.stores import MAX_MANIFEST_BYTES
from lulcbench.seasons import Season

INDEX = "index.parquet"
SPLIT_TABLE = "splits.csv"
FORMAT: Final = "lulcbench-release/2"


def thumbnails_of(split: str) -> str:
    """File of the pictures of the tiles of a split, for viewers of data sets."""
    return f"thumbnails-{split}.parquet"


class Manifest(Frozen):
    """Manifest of a release. Read it with ``Manifest.load(root)``.

    Attributes:
        simulated: whether scenes were simulated; every page, file and plot made from them must state it.
        sensors: imagery, by name of the sensor.
        labels: labels, by name of their source; empty if the release has only imagery.
        splits: number of tiles of each split.
        first_rows: row of the first tile of each split along the tile axis of all arrays; its tiles follow one another.
            A tile's row is its ``row`` in ``index.parquet``. Rows between splits are padding.
    """

    format: Literal["lulcbench-release/2"] = FORMAT
    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    title: Text
    description: Text
    simulated: bool
    crs: Literal["EPSG:3035"] = "EPSG:3035"
    tile_size: Literal[4800] = 4800
    seasons: tuple[Season, ...]
    sensors: dict[ArrayName, SensorInfo]
    labels: dict[ArrayName, LabelInfo]
    regions: tuple[Name, ...]
    splits: dict[Name, Annotated[int, Field(gt=0)]]
    first_rows: dict[Name, Annotated[int, Field(ge=0)]]
    sources: tuple[Source, ...]
    files: tuple[FileInfo, ...]
    builder: str

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        paths = [file.path for file in self.files]
        if len({path.casefold() for path in paths}) != len(paths):  # file systems may not tell letters' case
            raise ValueError("a file is listed twice")
        if double := set(paths) & {path[:i] for path in paths for i, letter in enumerate(path) if letter == "/"}:
            raise ValueError(f"{min(double)!r} is both a file and a folder")
        if self.first_rows.keys() != self.splits.keys():
            raise ValueError("first_rows and splits name different splits")
        ranges = sorted((rows.start, rows.stop) for rows in map(self.rows, self.splits))
        if any(stop > start for (_, stop), (start, _) in pairwise(ranges)):
            raise ValueError(f"splits overlap: first rows {self.first_rows}, tiles {self.splits}")
        if not self.seasons and any(info.years for info in self.sensors.values()):
            raise ValueError("there is imagery by season, but no season")
        clashes = set(self.labels) & {AUTO, *self.sensors, *COLUMN_PREFIXES}
        if clashes:
            raise ValueError(f"{min(clashes)!r} cannot be the name of labels: it is in use")
        for name, labels in self.labels.items():
            if not set(labels.splits) <= set(self.splits):
                raise ValueError(f"labels of {name} are of a split that there is not: {', '.join(labels.splits)}")
        for name, info in self.sensors.items():
            if info.statistics and TRAIN not in self.splits:
                raise ValueError(f"{name} has statistics, but there is no train split")
        try:
            arrays = self.arrays
        except LulcbenchError as error:  # the name of a sensor with numbers of clear observations is too long
            raise ValueError(str(error)) from error
        if len(set(arrays)) != len(arrays):
            raise ValueError(f"two arrays have the same name: {', '.join(map(str, arrays))}")
        known = {split: set(self.split_arrays(split)) for split in self.splits} | {None: set(arrays)}
        for file in self.files:
            if file.array is not None and file.array not in known.get(file.split, ()):
                raise ValueError(f"{file.path} is of an array that the release does not have")
        return self

    @property
    def arrays(self) -> tuple[ArrayKey, ...]:
        """All arrays: imagery, numbers of clear observations, then labels."""
        imagery = (key for name, info in self.sensors.items() for key in info.arrays(name))
        counts = (key for name, info in self.sensors.items() for key in info.clear_arrays(name))
        labels = (ArrayKey(name, year) for name, info in self.labels.items() for year in info.years)
        return (*imagery, *counts, *labels)

    def split_arrays(self, split: str) -> tuple[ArrayKey, ...]:
        """The arrays that hold something of a split: all but the labels that the split lacks."""
        return tuple(key for key in self.arrays if key.name not in self.labels or split in self.labels[key.name].splits)

    @property
    def years(self) -> tuple[int, ...]:
        """All years of imagery or labels, in ascending order."""
        imagery = {year for info in self.sensors.values() for year in info.years}
        imagery |= {
            year for info in self.sensors.values() for first, last in info.spans for year in range(first, last + 1)
        }
        return tuple(sorted(imagery | {year for info in self.labels.values() for year in info.years}))

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's canonical JSON: the identity of the release and of every byte in it."""
        return hashlib.sha256(_canonical(self.model_dump(mode="json"))).hexdigest()

    @property
    def data_digest(self) -> str:
        """SHA-256 of imagery, labels, and the place, block and split of every tile.

        Releases with the same one have the same chunks of every array, coordinates, statistics and ``splits.csv``;
        names, descriptions, licences, pictures, STAC and tables may differ. Simulated and real data never share one.
        """
        of_sensors = {"resolution", "bands", "years", "spans", "statistics"}
        content = self.model_dump(
            mode="json",
            include={
                "simulated": True,
                "crs": True,
                "tile_size": True,
                "seasons": True,
                "splits": True,
                "first_rows": True,
                "sensors": {"__all__": of_sensors},
                "labels": {"__all__": {"years", "splits", "legend_digest"}},
            },
        )
        chunks = {file.path: file.sha256 for file in self.files if "/c/" in file.path or file.path == SPLIT_TABLE}
        return hashlib.sha256(_canonical(content | {"files": chunks})).hexdigest()

    @property
    def id(self) -> str:
        """``name-version``."""
        return f"{self.name}-{self.version}"

    @classmethod
    def load(cls, root: str | os.PathLike[str]) -> Manifest:
        """Read and check ``release.json`` in a folder or at a URL.

        Raises:
            ReleaseNotFoundError: there is no manifest in the folder or at the address.
            NetworkError: the address cannot be read.
            CorruptFileError: it is not a manifest, or its digest does not match its content.
            UnsupportedFormatError: it is of another format version, or was made with another legend.
        """
        if is_remote(root):
            address = join(root, MANIFEST)
            try:
                return cls.parse(open_store(root).read_bytes(MANIFEST, MAX_MANIFEST_BYTES), address)
            except FileNotFoundError as error:
                raise ReleaseNotFoundError(f"Cannot read {address}: {error}.", "Check the address.") from error
        path = Path(root) / MANIFEST
        if not path.is_file():
            raise ReleaseNotFoundError(
                f"No release at {Path(root).resolve()}: {MANIFEST} is missing.",
                "Download one with 'lulcbench download NAME --root DIR'; 'lulcbench list' shows those that are here.",
            )
        try:
            text = read_limited(path, MAX_MANIFEST_BYTES, "It is not a manifest.")
        except LulcbenchError as error:
            raise CorruptFileError(error.what, error.remedy) from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: bytes, where: str = MANIFEST) -> Manifest:
        """Parse and check a manifest like ``load``; ``where`` is its name in error messages."""
        again = "Download it again, or rebuild it with 'python -m builders build'."
        try:
            content = parse_json(text, where, again, MAX_MANIFEST_BYTES)
        except LulcbenchError as error:
            raise CorruptFileError(error.what, error.remedy) from error
        if content.get("format") != FORMAT:
            raise UnsupportedFormatError(
                f"{where} has format {content.get('format')!r}, this lulcbench reads {FORMAT!r}.",
                "Rebuild it with 'python -m builders build', or download a newer release.",
            )
        stated = content.pop("digest", None)
        try:
            release = cls.model_validate(content)
        except ValidationError as error:
            raise CorruptFileError(f"{where} is not a valid manifest: {first_faults(error)}.", again) from error
        if stated != release.digest:
            raise CorruptFileError(
                f"{where}: its digest {stated!r} does not match its content ({release.digest}).",
                "It was altered after it was written. " + again,
            )
        for labels in release.labels.values():
            if labels.legend_digest != legend().digest:
                raise UnsupportedFormatError(
                    f"{where} was made with another legend ({labels.legend_digest[:12]}…).",
                    f"This lulcbench has {legend().digest[:12]}…; install the version the release was built with.",
                )
        return release

    def write(self, root: str | os.PathLike[str]) -> Path:
        """Write ``root/release.json`` atomically, as the last step of a build. Returns its path."""
        content = self.model_dump(mode="json") | {"digest": self.digest}
        path = Path(root) / MANIFEST
        write_json(path, content)
        return path

    def array_files(
        self, splits: Sequence[str], sensors: Sequence[str] | None = None, years: Sequence[int] | None = None
    ) -> list[FileInfo]:
        """Files of arrays, restricted to splits, sensors (labels are always included) and years."""
        chosen = {key.name for name in sensors or () if name in self.sensors for key in self._arrays_of(name)}
        return [
            file
            for file in self.files
            if file.array is not None
            and (file.split is None or file.split in splits)
            and (years is None or any(file.array.covers(year) for year in years))
            and (sensors is None or file.array.name in (*chosen, *self.labels))
        ]

    def files_of(self, array: ArrayKey, split: str) -> list[FileInfo]:
        """Files that a split of an array is read from: the shards of the split, and the metadata."""
        return [file for file in self.files if file.array == array and file.split in (None, split)]

    def rows(self, split: str) -> range:
        """Rows of the tiles of a split along the tile axis; empty if there is no such split."""
        first = self.first_rows.get(split, 0)
        return range(first, first + self.splits.get(split, 0))

    @property
    def array_rows(self) -> int:
        """Length of the tile axis of all arrays."""
        return max((self.rows(split).stop for split in self.splits), default=0)

    def check_split(self, split: str) -> str:
        """Check that the release has a split, and return it.

        Raises:
            NotAvailableError: there is no such split; lists those that exist.
        """
        if split not in self.splits:
            raise NotAvailableError(f"{self.id} has no split {split!r}.", f"It has {', '.join(self.splits)}.")
        return split

    def sensor(self, name: str) -> SensorInfo:
        """Description of the imagery of a sensor.

        Raises:
            NotAvailableError: the release has no such sensor; lists those that exist.
        """
        if name not in self.sensors:
            raise NotAvailableError(
                f"{self.id} has no sensor {name!r}.", f"It has {', '.join(self.sensors) or 'no imagery'}."
            )
        return self.sensors[name]

    def label_source(self, name: str) -> LabelInfo:
        """Description of the labels of a source.

        Raises:
            NotAvailableError: the release has no such source; lists those that exist.
        """
        if name not in self.labels:
            raise NotAvailableError(f"{self.id} has no {name} labels.", f"It has {_one_of(self.labels)}.")
        return self.labels[name]

    def choose_labels(self, name: str = AUTO) -> str:
        """Name of a source of labels; the default is LUISA if the release has it, otherwise its only source.

        Raises:
            NotAvailableError: there is no such source, or no default because there are several or none; lists those
                that exist.
        """
        if name != AUTO:
            self.label_source(name)
            return name
        if "luisa" in self.labels or not self.labels:
            self.label_source("luisa")
            return "luisa"
        if len(self.labels) > 1:
            raise NotAvailableError(f"{self.id} has labels of several sources.", f"Name one: {_one_of(self.labels)}.")
        return next(iter(self.labels))

    def _arrays_of(self, sensor: str) -> tuple[ArrayKey, ...]:
        info = self.sensors[sensor]
        return info.arrays(sensor) + info.clear_arrays(sensor)

    def imagery(self, sensor: str, year: int) -> ArrayKey:
        """The array of a sensor in a year.

        Raises:
            NotAvailableError: the release lacks the sensor or the year; lists those that exist.
        """
        years = self.sensor(sensor).years
        if year not in years:
            raise NotAvailableError(f"{self.id} has no {sensor} for {year}.", f"It has {_one_of(years)}.")
        return ArrayKey(sensor, year)

    def dated(self, sensor: str, years: Iterable[int] = ()) -> ArrayKey:
        """The array of a sensor's dated imagery.

        Args:
            sensor: name of the sensor.
            years: that it must cover.

        Raises:
            NotAvailableError: the release lacks the sensor, or its dated imagery of a year; lists what exists.
        """
        spans = self.sensor(sensor).spans
        wanted = set(years)
        for first, last in spans:
            if wanted <= set(range(first, last + 1)):
                return ArrayKey(sensor, first, last)
        of = f" of {', '.join(map(str, sorted(wanted)))}" if wanted else ""
        raise NotAvailableError(
            f"{self.id} has no dated imagery{of} of {sensor}.",
            f"It has {_one_of(f'{first} to {last}' for first, last in spans)}.",
        )

    def clear_counts(self, sensor: str, year: int) -> ArrayKey:
        """The array of the numbers of clear observations of a sensor in a year.

        Raises:
            NotAvailableError: the release has no such sensor, not in that year, or does not hold these numbers.
        """
        imagery = self.imagery(sensor, year)
        if not self.sensors[sensor].clear_counts:
            having = [name for name, info in self.sensors.items() if info.clear_counts]
            raise NotAvailableError(
                f"{self.id} does not hold the number of clear observations of {sensor}.",
                f"It holds those of {_one_of(having)}.",
            )
        return imagery.clear

    def label_array(self, source: str, year: int, split: str) -> ArrayKey:
        """The array of a source of labels in a year, of a split.

        Raises:
            NotAvailableError: the release lacks the source, or labels of the year or the split; lists those that exist.
        """
        info = self.label_source(source)
        self.check_split(split)
        if year not in info.years:
            raise NotAvailableError(f"{self.id} has no {source} labels for {year}.", f"It has {_one_of(info.years)}.")
        if split not in info.splits:
            raise NotAvailableError(
                f"{self.id} has no {source} labels in its split {split!r}.", f"It has them in {_one_of(info.splits)}."
            )
        return ArrayKey(source, year)


def _one_of(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or "none"


def label_shape() -> tuple[int, int]:
    """(height, width) of a tile's labels: (96, 96) at 50 m."""
    n = grid.pixels(grid.TILE_SIZE, grid.LABEL_RESOLUTION)
    return (n, n)


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
