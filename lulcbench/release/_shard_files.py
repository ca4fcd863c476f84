"""Whether the shards of an array are there while it is read, and no others.

Zarr stores no chunks of only nodata. So readers take a shard that is gone for nodata, and one that the manifest does
not list, such as that of another version in the same folder, for data.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from lulcbench.release.entries import FileInfo
from lulcbench.remote import is_remote


class ShardFiles:
    """The shards of an array that the rows of one split are read from.

    Args:
        root: folder or URL of the release.
        array: name of the array, which is the folder of its files.
        files: all files that the split is read from, by the manifest.
        store: the open array, of TensorStore or zarr-python.
        seen: whether all these files are known to be there.
    """

    def __init__(self, root: str, array: str, files: Iterable[FileInfo], store: Any, seen: bool) -> None:
        self._root, self._array, self._store = root, array, store
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

    def check_again(self, rows: Sequence[int] | npt.NDArray[np.integer], values: npt.NDArray[Any]) -> None:
        """Check that the shards of rows that were read are there still, since they would have read as nodata.

        Every request to an address takes time, so there only those of rows with nodata are asked for; a chunk that
        could not be found has nothing else.

        Args:
            rows: rows that were read.
            values: what was read of each, ``(row, …)``.

        Raises:
            FileNotFoundError, Exception: as ``check``.
        """
        if is_remote(self._root):
            fill = self._store.fill_value
            rows = [row for row, part in zip(rows, values, strict=True) if _has(part, 0 if fill is None else fill)]
        shards = {int(row) // self._tiles for row in rows} & self._listed.keys()
        if shards:
            self._ask(shards)

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
        """Those of which there is no last byte; many shards are asked for at a time."""
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


def _has(values: npt.NDArray[Any], fill: Any) -> bool:
    """Whether a value is the one that stands for nodata."""
    return bool((np.isnan(values) if fill != fill else values == fill).any())
