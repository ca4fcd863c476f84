"""Whether the shards of an array are there while it is read, and no others.

Zarr stores no chunks of only nodata. So readers take a shard that is gone for nodata, and one that the manifest does
not list, such as that of another version in the same folder, for data.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from lulcbench.release.entries import FileInfo
from lulcbench.remote import is_remote

Window = tuple[int, Sequence[Sequence[int]]]  # row, and the positions along each further axis


class ShardFiles:
    """The shards of an array that the rows of one split are read from.

    Args:
        root: folder or URL of the release.
        array: name of the array, which is the folder of its files.
        files: all files that the split is read from, by the manifest.
        store: the open array, of TensorStore or zarr-python.
        seen: whether all these files are known to be there.
        strict: opens the array of an address again, so that reading a chunk that is not there is an error.
    """

    def __init__(
        self,
        root: str,
        array: str,
        files: Iterable[FileInfo],
        store: Any,
        seen: bool,
        strict: Callable[[], Any] | None = None,
    ) -> None:
        self._root, self._array, self._store, self._strict = root, array, store, strict
        self._strict_store: Any = None
        self._indices: dict[int, npt.NDArray[np.bool_]] = {}
        parts = ((file, PurePosixPath(file.path).parts[1:3]) for file in files)
        self._listed = {int(at[1]): file for file, at in parts if at[0] == "c"}
        self._seen = frozenset(self._listed if seen else ())
        self._tiles = _tiles(store)

    def check(self, rows: Iterable[int]) -> None:
        """Check, once per shard, those of some rows before they are read.

        Raises:
            FileNotFoundError: a shard is missing, or one is there that the manifest does not list.
            Exception: errors of TensorStore, if the address cannot be read.
        """
        new = {int(row) // self._tiles for row in rows} - self._seen
        if new:
            self._ask(new)
            self._seen |= new  # several threads may check the same shards

    def check_again(self, windows: Sequence[Window], values: npt.NDArray[Any]) -> None:
        """Check that the shards of windows that were read were there, since they would have read as nodata.

        Every request to an address takes time, so there only parts are read again that are nodata although the index
        of the shard has their chunk. If it is found now, its values are written to ``values``.

        Args:
            windows: what was read: the row, and the positions along each further axis of the array.
            values: what was read, ``(window, …)``.

        Raises:
            FileNotFoundError, Exception: as ``check``.
        """
        if not is_remote(self._root):
            shards = {int(row) // self._tiles for row, _ in windows} & self._listed.keys()
            if shards:
                self._ask(shards)
            return
        fill = self._store.fill_value
        fill = 0 if fill is None else fill
        again = []
        for (row, axes), part in zip(windows, values, strict=True):
            if int(row) // self._tiles in self._listed and _has(part, fill):
                again += [(part, *doubt, int(row)) for doubt in self._doubts(int(row), axes, part, fill)]
        if not again or self._strict is None:
            return
        store = self._strict_store = self._strict_store or self._strict()
        futures = [store.oindex[(row, *positions)].read() for _, _, positions, row in again]
        for (part, places, _, row), future in zip(again, futures, strict=True):
            try:
                part[np.ix_(*places)] = future.result()
            except ValueError as error:  # of TensorStore, which has no type of error for this
                self._strict_store = None  # which remembers what is missing
                if "NOT_FOUND" not in str(error):
                    raise
                raise FileNotFoundError(f"{self._path(row // self._tiles)} is missing, or a part of it") from error

    def _doubts(
        self, row: int, axes: Sequence[Sequence[int]], values: npt.NDArray[Any], fill: Any
    ) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """Parts of a window that are nodata though their chunk is stored: places in the window, and in the array."""
        shard = row // self._tiles
        if shard not in self._indices:
            self._indices[shard] = self._read_index(shard)
        stored, chunk = self._indices[shard], self._store.chunk_layout.read_chunk.shape
        along: list[list[tuple[int, list[int], list[int]]]] = []
        for axis, size in zip(axes, chunk[1:], strict=True):
            groups: dict[int, tuple[list[int], list[int]]] = {}
            for place, position in enumerate(axis):
                places, positions = groups.setdefault(position // size, ([], []))
                places.append(place)
                positions.append(position)
            along.append([(number, *group) for number, group in groups.items()])
        for parts in product(*along):
            inside, outside = [part[1] for part in parts], [part[2] for part in parts]
            number = (row % self._tiles // chunk[0], *(part[0] for part in parts))
            if stored[number] and not _has_other(values[np.ix_(*inside)], fill):
                yield inside, outside

    def _read_index(self, shard: int) -> npt.NDArray[np.bool_]:
        """Which chunks of a shard are stored; its last bytes are offset and size of each, and a checksum."""
        layout = self._store.chunk_layout
        grid = [-(-n // m) for n, m in zip(layout.write_chunk.shape, layout.read_chunk.shape, strict=True)]
        file, size = self._listed[shard], 16 * math.prod(grid) + 4
        if list(layout.write_chunk.shape) == list(layout.read_chunk.shape):  # no shard, but a chunk
            return np.ones(grid, np.bool_)
        key = file.path.removeprefix(f"{self._array}/")
        answer = self._store.kvstore.read(key, byte_range=slice(file.bytes - size, file.bytes)).result()
        if answer.state != "value" or len(answer.value) != size:
            raise FileNotFoundError(f"{file.path} is missing or not {file.bytes} bytes long")
        entries = np.frombuffer(answer.value[:-4], "<u8").reshape(*grid, 2)
        stored: npt.NDArray[np.bool_] = (entries != np.iinfo(np.uint64).max).any(axis=-1)
        return stored

    def _ask(self, shards: Collection[int]) -> None:
        missing = self._missing_here(shards) if not is_remote(self._root) else self._missing_there(shards)
        for shard in sorted(shards):
            path = self._path(shard)
            if shard in missing and shard in self._listed:
                raise FileNotFoundError(f"{path} is missing or not {self._listed[shard].bytes} bytes long")
            if shard not in missing and shard not in self._listed:
                raise FileNotFoundError(f"{path} is not part of the release, but would be read as if it were")

    def _missing_here(self, shards: Collection[int]) -> set[int]:
        missing = set()
        for shard in shards:
            try:
                size = os.stat(Path(self._root, self._path(shard))).st_size  # noqa: PTH116 (called for every batch)
            except (FileNotFoundError, NotADirectoryError):
                size = -1
            if size < 0 or (shard in self._listed and size != self._listed[shard].bytes):
                missing.add(shard)
        return missing

    def _missing_there(self, shards: Collection[int]) -> set[int]:
        """Those of which there is no last byte; many shards are requested at a time."""
        answers = {}
        for shard in shards:
            size = self._listed[shard].bytes if shard in self._listed else 1
            key = self._path(shard).removeprefix(f"{self._array}/")
            answers[shard] = self._store.kvstore.read(key, byte_range=slice(size - 1, size))
        return {shard for shard, answer in answers.items() if answer.result().state != "value"}

    def _path(self, shard: int) -> str:
        """Path of a shard below the root; a shard has whole tiles."""
        if shard in self._listed:
            return self._listed[shard].path
        return f"{self._array}/c/{shard}" + "/0" * (len(self._store.shape) - 1)


def _tiles(store: Any) -> int:
    """Tiles in a shard of an open array, of TensorStore or zarr-python."""
    shape: Any = (
        store.chunk_layout.write_chunk.shape if isinstance(store, ts.TensorStore) else store.shards or store.chunks
    )
    return int(shape[0])


def _has_other(values: npt.NDArray[Any], fill: Any) -> bool:
    """Whether a value is not the one that stands for nodata."""
    return bool((~np.isnan(values) if fill != fill else values != fill).any())


def _has(values: npt.NDArray[Any], fill: Any) -> bool:
    """Whether a value is the one that stands for nodata."""
    return bool((np.isnan(values) if fill != fill else values == fill).any())
