"""An opened release: manifest, index and arrays, each read and checked once."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench._files import hash_file
from lulcbench.errors import CorruptFileError
from lulcbench.grid import pixels
from lulcbench.release.entries import AUTO, NO_DATE, FileInfo
from lulcbench.release.index import SplitTiles, read_table
from lulcbench.release.keys import ArrayKey, Row
from lulcbench.release.manifest import INDEX, Manifest, label_shape
from lulcbench.release.shards import ShardReader
from lulcbench.remote import is_remote, join, open_store, pinned

log = logging.getLogger(__name__)
_REPAIR = "Run 'lulcbench check-files --repair', or download the release again."


class Release:
    """A release, opened for reading. Every function that needs a release takes one.

    Open it once and pass it on: the manifest is read once, and the index is hashed once. Pickling keeps the root and
    the manifest; readers open their arrays in the process that reads, since handles do not survive a fork.

    Attributes:
        root: folder or URL of the release; ``hf://`` addresses are pinned to a commit.
        manifest: the checked content of ``release.json``.

    Examples:
        >>> release = Release.open(root)
        >>> release.manifest.splits
        {'train': 4, 'val': 2, 'test': 2}
        >>> release.index("train").shape[0], release.tiles("test").regions
        (4, ('east', 'east'))
        >>> release.labels("test", 2018, rows=release.manifest.rows("test")).shape
        (2, 96, 96)
        >>> release.clear_counts("test", "landsat", 2018, rows=release.manifest.rows("test")).shape
        (2, 4, 160, 160)
    """

    def __init__(self, root: str | os.PathLike[str], manifest: Manifest) -> None:
        self.root = os.fspath(root)
        self.manifest = manifest
        self._files = {file.path: file for file in manifest.files}
        self._verified: set[str] = set()
        self._index: io.BytesIO | Path | None = None
        self._dates: dict[ArrayKey, npt.NDArray[np.datetime64]] = {}
        self._tables: dict[str | None, pd.DataFrame] = {}
        self._readers: dict[str, ShardReader] = {}

    @classmethod
    def open(cls, root: str | os.PathLike[str] | Release) -> Release:
        """Open the release at a folder or URL (``https``, ``s3``, ``hf``); an opened release is returned as it is.

        Raises:
            ReleaseNotFoundError: there is no release.
            CorruptFileError: its manifest is damaged.
            UnsupportedFormatError: it is of another format version, or was made with another legend.
            NetworkError: the address cannot be read.
        """
        if isinstance(root, Release):
            return root
        address = pinned(root)
        release = cls(address, Manifest.load(address))
        log.debug("%s is opened at %s", release.id, address)
        return release

    def __repr__(self) -> str:
        return f"Release({self.root!r}: {self.id}, {self.digest[:12]}…)"

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def id(self) -> str:
        """``name-version``."""
        return self.manifest.id

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest: the identity of the release and of every byte in it."""
        return self.manifest.digest

    @property
    def data_digest(self) -> str:
        """Digest of imagery, labels and splits, which predictions and scores refer to: see ``Manifest.data_digest``."""
        return self.manifest.data_digest

    @property
    def simulated(self) -> bool:
        """Whether the scenes were simulated; every page, file and plot made from them must state it."""
        return self.manifest.simulated

    def index(self, split: str | None = None) -> pd.DataFrame:
        """The tiles of a split (or of all splits), in the order of their rows in the arrays.

        Returns:
            One row per tile, without geometry: ``id``, ``split``, ``row``, ``region``, ``block``, ``ix``, ``iy``, class
            fractions ``<source>_<year>_<code>`` (NaN in splits without labels of that source),
            ``valid_<sensor>_<year>``, ``cloud_<sensor>_<year>`` and ``clear_<sensor>_<year>``, the mean number of clear
            observations of a pixel in a season. A copy.

        Raises:
            NotAvailableError: the release has no such split.
            CorruptFileError: the index is missing, is not the one of the manifest, or disagrees with it.
            NetworkError: it cannot be read from its address.
        """
        if split not in self._tables:
            if split is not None:
                self.manifest.check_split(split)
            self._tables[split] = read_table(self._checked_index(), join(self.root, INDEX), self.manifest, split)
        return self._tables[split].copy(deep=False)

    def tiles(self, split: str) -> SplitTiles:
        """Ids, regions and spatial blocks of the tiles of a split, in array order; raises as ``index``."""
        return SplitTiles.of(self.index(split))

    def reader(self, split: str, threads: int | None = None) -> ShardReader:
        """Create a reader of the arrays of a split.

        Args:
            split: name of the split.
            threads: number of decoding threads, shared by all reads; None means one per processor.

        Raises:
            NotAvailableError: the release has no such split.
        """
        return ShardReader(self.root, self.manifest, split, threads)

    def labels(
        self, split: str, year: int, rows: Sequence[Row] | npt.NDArray[np.integer], source: str = AUTO
    ) -> npt.NDArray[np.uint16]:
        """Labels of whole tiles, in LUISA codes: uint16 ``(n, 96, 96)``, 0 where unlabelled.

        Args:
            split: name of the split.
            year: year of the labels.
            rows: of the tiles, see ``index``.
            source: source of the labels; by default LUISA, or the only one.

        Raises:
            NotAvailableError: there are no such labels of that year and split.
            CorruptFileError: a shard is missing or damaged.
        """
        array = self.manifest.label_array(self.manifest.choose_labels(source), year, split)
        return self._reader(split).read(array, rows, [(0, 0)] * len(rows), label_shape())

    def dates(self, split: str, array: ArrayKey) -> npt.NDArray[np.datetime64]:
        """Dates of a dated array in a split: datetime64[D] ``(tile, time)``, NaT after the last date of a tile.

        Args:
            split: name of the split.
            array: the array, see ``Manifest.dated``.

        Raises:
            NotAvailableError: the release has no such split.
            CorruptFileError: the coordinate is missing or altered, or dates of a tile do not ascend.
            NetworkError: it cannot be read from its address.
        """
        if array not in self._dates:
            self._dates[array] = self._read_dates(array)
        own = self.manifest.rows(self.manifest.check_split(split))
        return self._dates[array][own.start : own.stop]

    def _read_dates(self, array: ArrayKey) -> npt.NDArray[np.datetime64]:
        """The coordinate ``date_<array>``; its files are hashed first."""
        import zarr  # takes long to import, and only dated imagery needs it
        from zarr.core.buffer import default_buffer_prototype
        from zarr.storage import MemoryStore

        name = f"date_{array}"
        paths = [path for path in self._files if path.startswith(f"{name}/")]
        if f"{name}/zarr.json" not in paths:
            raise CorruptFileError(f"{self.id} lists no dates of {array}.", "Rebuild the release.")
        if not is_remote(self.root):
            self.verify_files(paths)
        contents = {
            path: self._fetch(path) if is_remote(self.root) else (Path(self.root) / path).read_bytes() for path in paths
        }
        buffers = {path: default_buffer_prototype().buffer.from_bytes(data) for path, data in contents.items()}
        stored = np.asarray(zarr.open_array(MemoryStore(buffers), path=name, mode="r")[...])
        if stored.shape[0] != self.manifest.array_rows or stored.dtype != np.int32:
            raise CorruptFileError(f"{name} is {stored.dtype} {stored.shape}.", _REPAIR)
        missing = stored == NO_DATE
        dates = np.where(missing, np.datetime64("NaT", "D"), stored.astype("datetime64[D]"))
        if (np.diff(dates, axis=1) <= np.timedelta64(0, "D")).any() or (missing[:, :-1] & ~missing[:, 1:]).any():
            raise CorruptFileError(f"Dates of a tile of {array} do not ascend.", "Rebuild the release.")
        return dates

    def clear_counts(
        self, split: str, sensor: str, year: int, rows: Sequence[Row] | npt.NDArray[np.integer]
    ) -> npt.NDArray[np.uint8]:
        """Numbers of clear observations in the composites of whole tiles: uint8 ``(n, season, y, x)``.

        0 where the image is nodata; 255 is 255 or more.

        Args:
            split: name of the split.
            sensor: name of the sensor.
            year: of the imagery.
            rows: of the tiles, see ``index``.

        Raises:
            NotAvailableError: the release does not hold them for that sensor and year, or has no such split.
            CorruptFileError: a shard is missing or damaged.
        """
        array = self.manifest.clear_counts(sensor, year)
        side = pixels(self.manifest.tile_size, self.manifest.sensor(sensor).resolution)
        return self._reader(split).read(array, rows, [(0, 0)] * len(rows), (side, side))

    def _reader(self, split: str) -> ShardReader:
        if split not in self._readers:
            self._readers[split] = self.reader(split)
        return self._readers[split]

    def verify_files(self, paths: Iterable[str]) -> None:
        """Check the SHA-256 of files of a local release, once per file, so that scores refer to exactly these bytes.

        Raises:
            CorruptFileError: a file is missing or altered, or not in the manifest.
        """
        for name in paths:
            if name in self._verified:
                continue
            listed, path = self._listed(name), Path(self.root) / name
            if not path.is_file():
                raise CorruptFileError(f"{path} is missing.", _REPAIR)
            if path.stat().st_size != listed.bytes or hash_file(path) != listed.sha256:
                raise CorruptFileError(
                    f"{path} is not the file that {self.id} was published with (its SHA-256 differs).", _REPAIR
                )
            self._verified.add(name)

    def _listed(self, name: str) -> FileInfo:
        if name not in self._files:
            raise CorruptFileError(
                f"{self.id} lists no file {name}.", "The manifest is incomplete; rebuild the release."
            )
        return self._files[name]

    def _checked_index(self) -> io.BytesIO | Path:
        """The index, after its hash was checked: other rows would assign positions to the wrong tiles."""
        if self._index is None and is_remote(self.root):
            self._index = io.BytesIO(self._fetch(INDEX))
        elif self._index is None:
            self.verify_files([INDEX])
            self._index = Path(self.root) / INDEX
        return self._index

    def _fetch(self, name: str) -> bytes:
        """Read a file of a remote release and check its hash."""
        listed, address = self._listed(name), join(self.root, name)
        try:
            content = open_store(self.root).read_bytes(name, listed.bytes)
        except FileNotFoundError as error:
            raise CorruptFileError(f"Cannot read {address}: {error}.", "The release there is incomplete.") from error
        if hashlib.sha256(content).hexdigest() != listed.sha256:
            raise CorruptFileError(
                f"{address} is not the file that {self.id} was published with (its SHA-256 differs).",
                "The release there was altered; use another address.",
            )
        return content
