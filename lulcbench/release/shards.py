"""Reading the shards of a release: a whole batch of windows in one call, decoded by TensorStore's own threads.

A release is one Zarr v3 hierarchy with an array in each folder ``<root>/<array>`` (``builders.stages`` writes them with
zarr-python): imagery ``(tile, season, band, y, x)`` or ``(tile, time, band, y, x)`` in its sensor's coding, numbers of
clear observations ``(tile, season, y, x)`` uint8, labels ``(tile, y, x)`` uint16 class codes. A shard holds tiles of
only one split.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from lulcbench._native import keep_freed_memory
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError, NotAvailableError
from lulcbench.release._shard_files import ShardFiles, Window
from lulcbench.release.entries import FileInfo
from lulcbench.release.keys import ArrayKey, Row
from lulcbench.release.manifest import Manifest
from lulcbench.remote import is_remote, join, open_store

Selection = tuple[int | slice | list[int], ...]

# Chunks that pixels are taken from at a time: few enough that they stay in the processor's cache until they are used.
_PIXEL_BYTES = 4 * 2**20

# TensorStore's threads do not survive a fork, and it aborts a forked process that uses them. Id of the process that
# used it first.
_user: int | None = None

# Shards are immutable: cached content is never validated again.
_STEADY = {"recheck_cached_data": "open", "recheck_cached_metadata": "open"}
# The indices of shards are cached, because every request over a network takes time.
_REMOTE = {"cache_pool": {"total_bytes_limit": 64 * 2**20}, "http_request_concurrency": {"limit": 64}}


class ShardReader:
    """Reads windows of one split.

    It can be pickled; arrays are opened in the process that reads, since handles do not survive a fork.

    In a process that was forked after its parent had read, it warns and reads through zarr-python, which is slower.

    Args:
        root: folder of the release, or a URL (https, s3, hf) from which it is streamed.
        manifest: manifest of the release.
        split: name of the split.
        threads: number of decoding threads, shared by all reads; None means one per processor.
    """

    def __init__(
        self, root: str | os.PathLike[str], manifest: Manifest, split: str, threads: int | None = None
    ) -> None:
        self.root = os.fspath(root)
        self.manifest = manifest
        self.split = manifest.check_split(split)
        self._context: dict[str, Any] = _REMOTE if is_remote(self.root) else {}
        if threads is not None:
            self._context = self._context | {"data_copy_concurrency": {"limit": threads}}
        self._pid = os.getpid()
        self._arrays: dict[ArrayKey, Any] = {}
        self._lapses: dict[ArrayKey, float] = {}  # array → time at which its addresses expire, of the monotonic clock
        self._shards: dict[ArrayKey, ShardFiles] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}, "_lapses": {}, "_shards": {}}

    def read(
        self,
        array: ArrayKey,
        rows: Sequence[Row] | npt.NDArray[np.integer],
        offsets: Sequence[tuple[int, int]] | npt.NDArray[np.integer],
        size: tuple[int, int],
        seasons: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """Read a batch of windows.

        Args:
            array: the array.
            rows: row of the tile of each of n windows, along the tile axis.
            offsets: (y, x) of each window's upper left pixel.
            size: (height, width) of all windows in pixels.
            seasons: positions of seasons (or dates) to take, in that order; None takes all (not of labels).
            bands: band positions to take, in that order; None takes all (imagery only).
            out: C-contiguous array to read into; reusing memory avoids page faults, which take longer than decoding.

        Returns:
            ``(n, season, band, height, width)`` of the stored type for imagery, uint8 ``(n, season, height, width)``
            for numbers of clear observations, uint16 ``(n, height, width)`` for labels.

        Raises:
            NotAvailableError: the release, or what was downloaded of it, does not hold the array.
            CorruptFileError: an array or shard is missing, truncated or altered; names it. Alterations of chunks are
                always found in labels, which have checksums, and in others where they cannot be decompressed;
                ``verify`` finds all.
            NetworkError: it cannot be streamed.
        """
        store = self._open(array)
        self._check_rows(rows)
        picks = [_pick(seasons), _pick(bands)][: len(store.shape) - 3]
        corners = [(int(row), int(y), int(x)) for row, (y, x) in zip(rows, offsets, strict=True)]
        inner = [
            len(range(n)[p]) if isinstance(p, slice) else len(p) for n, p in zip(store.shape[1:3], picks, strict=False)
        ]
        if out is None:
            out = np.empty((len(corners), *inner, *size), _dtype(store))
        if not corners:
            return out
        with self._faults_named(array):
            self._shards[array].check(row for row, _, _ in corners)
            read_windows(store, selections(corners, size, picks), out)
            self._shards[array].check_again(_windows(store, corners, size, picks), out)
        return out

    def read_pixels(
        self,
        array: ArrayKey,
        rows: Sequence[Row] | npt.NDArray[np.integer],
        places: npt.NDArray[np.integer],
        bands: Sequence[int] | None = None,
    ) -> npt.NDArray[Any]:
        """Read the series of single pixels of an array of imagery; each chunk is decoded once.

        Args:
            array: the array.
            rows: row of the tile of each of n pixels.
            places: (y, x) of each pixel in its tile, ``(n, 2)``.
            bands: band positions to take, in that order; None takes all.

        Returns:
            ``(n, season or time, band)`` of the stored type.

        Raises:
            NotAvailableError, CorruptFileError, NetworkError: as ``read``.
        """
        store, places, rows = self._open(array), np.asarray(places), np.asarray(rows, np.int64)
        side = _chunk_side(store)
        times, bands_stored, height, width = store.shape[1:]
        across, down = -(-width // side), -(-height // side)
        picked = slice(None) if bands is None else list(bands)
        depth = len(range(bands_stored)[picked]) if isinstance(picked, slice) else len(picked)
        out = np.empty((len(rows), times * depth), _dtype(store))
        # One number per chunk sorts faster than rows of numbers.
        chunk_of = (rows * down + places[:, 0] // side) * across + places[:, 1] // side
        order = np.argsort(chunk_of, kind="stable")
        chunks, starts = np.unique(chunk_of[order], return_index=True)
        ends = [*starts[1:].tolist(), len(rows)]
        pixel = (places[:, 0] % side * side + places[:, 1] % side)[order]
        chunk_rows, corners = chunks // (down * across), np.column_stack([chunks // across % down, chunks % across])
        step = max(1, _PIXEL_BYTES // max(1, times * depth * side * side * out.itemsize))
        buffer = np.empty((min(step, len(chunks)), times, depth, side, side), out.dtype)
        for first in range(0, len(chunks), step):
            some = slice(first, min(first + step, len(chunks)))
            windows = buffer[: some.stop - first]
            self.read(array, chunk_rows[some], corners[some] * side, (side, side), None, bands, windows)
            for window, start, end in zip(windows, starts[some].tolist(), ends[some], strict=True):
                out[order[start:end]] = window.reshape(times * depth, -1)[:, pixel[start:end]].T
        return out.reshape(len(rows), times, depth)

    def tiles(self, array: ArrayKey, start: Row, stop: Row) -> npt.NDArray[Any]:
        """Read complete tiles from ``start`` to ``stop`` (exclusive): ``(stop - start, …)``; raises as ``read``."""
        store = self._open(array)
        self._check_rows(range(start, stop))
        with self._faults_named(array):
            self._shards[array].check(range(start, stop))
            result: npt.NDArray[Any] = store[start:stop].read().result()
            whole = [range(n) for n in store.shape[1:]]
            self._shards[array].check_again([(row, whole) for row in range(start, stop)], result)
        return result

    def _open(self, array: ArrayKey) -> Any:
        global _user
        if self._pid != os.getpid():
            self._arrays, self._lapses, self._shards, self._pid = {}, {}, {}, os.getpid()
        if array not in self._arrays or time.monotonic() > self._lapses.get(array, math.inf):
            path = join(self.root, str(array))
            files = self._files(array)
            if not is_remote(self.root):
                self._check_files(array, files)
            complete, strict = not is_remote(self.root), None
            with self._faults_named(array):
                if _user in (None, os.getpid()):
                    _user = os.getpid()
                    keep_freed_memory()
                    asked = time.monotonic()
                    view = open_store(self.root).kvstore(str(array), files)
                    complete |= view.complete
                    self._lapses[array] = asked + (math.inf if view.lifetime is None else view.lifetime)
                    spec = {"driver": "zarr3", "kvstore": view.spec, "context": self._context} | _STEADY
                    store: Any = ts.open(spec, open=True, read=True).result()
                    strict = partial(_open_strictly, spec)
                    if is_remote(self.root):
                        self._check_metadata(array, files, store.kvstore.read("zarr.json").result().value)
                else:
                    store = _open_forked(path)
            if store.shape[0] != self.manifest.array_rows:
                raise CorruptFileError(
                    f"{path} has {store.shape[0]} rows, the manifest says {self.manifest.array_rows}.",
                    "Run 'lulcbench check-files --repair'.",
                )
            self._shards[array] = ShardFiles(self.root, str(array), files, store, complete, strict)
            self._arrays[array] = store
        return self._arrays[array]

    def _check_rows(self, rows: Sequence[Row] | npt.NDArray[np.integer] | range) -> None:
        """Refuse rows of other splits, which may not have been downloaded and would read as nodata."""
        own = self.manifest.rows(self.split)
        requested = np.asarray(rows)
        if requested.size and (requested.min() < own.start or requested.max() >= own.stop):
            row = requested.min() if requested.min() < own.start else requested.max()
            raise NotAvailableError(
                f"Row {row} is not in the {self.split} split.",
                f"Its rows are {own.start} to {own.stop - 1}; 'row' of the index tells those of tiles.",
            )

    def _files(self, array: ArrayKey) -> list[FileInfo]:
        """List all files that the split is read from."""
        files = self.manifest.files_of(array, self.split)
        shards = [Path(self.root) / file.path for file in files if file.split]
        path = join(self.root, str(array))
        present = is_remote(self.root) or not shards or any(shard.is_file() for shard in shards)
        if not files or not present:
            held = sorted({f.array for f in self.manifest.files if f.split in (None, self.split) and f.array})
            raise NotAvailableError(
                f"{path} is missing, or its {self.split} split is.",
                f"{self.manifest.id} has {', '.join(map(str, held))} in {self.split}; fetch with 'lulcbench download'.",
            )
        return files

    def _check_files(self, array: ArrayKey, files: list[FileInfo]) -> None:
        """Check that all files exist with their full size, since a missing shard would read as nodata."""
        for file in files:
            path = Path(self.root) / file.path
            if not path.is_file() or path.stat().st_size != file.bytes:
                raise self._broken(array, f"{file.path} is missing or not {file.bytes} bytes long")
        metadata = Path(self.root) / str(array) / "zarr.json"
        self._check_metadata(array, files, metadata.read_bytes() if metadata.is_file() else b"")

    def _check_metadata(self, array: ArrayKey, files: list[FileInfo], content: bytes) -> None:
        """Check the metadata against the manifest, since they determine how all other bytes are read."""
        path = f"{array}/zarr.json"
        if hashlib.sha256(content).hexdigest() not in {file.sha256 for file in files if file.path == path}:
            raise self._broken(array, f"{path} is not the file that the release was published with")

    @contextmanager
    def _faults_named(self, array: ArrayKey) -> Iterator[None]:
        """Turn errors of TensorStore and zarr, which raise those of the storage below them, into ours."""
        try:
            yield
        except LulcbenchError:
            raise
        except FileNotFoundError as error:
            raise self._broken(array, str(error)) from error
        except Exception as error:
            raise self._broken(array, error) from error

    def _broken(self, array: ArrayKey, error: Exception | str) -> LulcbenchError:
        if "ignored by server" in str(error):  # the message of TensorStore, which has no type of error for this
            return NetworkError(
                f"Cannot stream {self.root}: its server does not know range requests, so it sends no part of a file.",
                "Download the release ('lulcbench download'), or serve it with a server that does, such as nginx.",
            )
        if is_remote(self.root):
            return (CorruptFileError if isinstance(error, str) else NetworkError)(
                f"Cannot read {join(self.root, str(array))}: {error}.",
                "The network failed, or what is there is incomplete or altered; try again, or another place.",
            )
        return CorruptFileError(
            f"Cannot read {join(self.root, str(array))}: {error}.",
            "A shard is missing, truncated or altered; find and repair it with 'lulcbench check-files --repair'.",
        )


def _chunk_side(store: Any) -> int:
    """Side of the chunks of an open array of imagery, in pixels."""
    if not isinstance(store, ts.TensorStore):
        return int(store.chunks[-1])
    shape = store.chunk_layout.read_chunk.shape
    if shape is None or shape[-1] is None:
        raise TypeError("an array of shards has chunks")
    return int(shape[-1])


def _dtype(store: Any) -> np.dtype[Any]:
    """Data type of an open array, of TensorStore or zarr-python."""
    return np.dtype(store.dtype.numpy_dtype if isinstance(store, ts.TensorStore) else store.dtype)


def _pick(positions: Sequence[int] | None) -> slice | list[int]:
    """Convert consecutive positions to a slice, which is faster to read."""
    if positions is None:
        return slice(None)
    chosen = [int(i) for i in positions]
    run = chosen == list(range(chosen[0], chosen[0] + len(chosen)))
    return slice(chosen[0], chosen[0] + len(chosen)) if run else chosen


def selections(
    corners: Iterable[tuple[int, int, int]], size: tuple[int, int], picks: Sequence[slice | list[int]]
) -> list[Selection]:
    """Outer indices of windows of ``size`` (height, width) at (row, y, x); ``picks`` select seasons and bands."""
    return [(row, *picks, slice(y, y + size[0]), slice(x, x + size[1])) for row, y, x in corners]


def _windows(
    store: Any,
    corners: Iterable[tuple[int, int, int]],
    size: tuple[int, int],
    picks: Sequence[slice | list[int]],
) -> list[Window]:
    """Positions along each axis of windows of ``size`` at (row, y, x)."""
    inner = [range(n)[p] if isinstance(p, slice) else p for n, p in zip(store.shape[1:-2], picks, strict=True)]
    return [(row, [*inner, range(y, y + size[0]), range(x, x + size[1])]) for row, y, x in corners]


def read_windows(store: Any, windows: Sequence[Selection], out: npt.NDArray[Any]) -> None:
    """Read windows of an open array into ``out``: in one call with TensorStore, one after another with zarr-python."""
    if isinstance(store, ts.TensorStore):
        # Translated to origin 0, windows at different positions can be stacked.
        origin = (0,) * (out.ndim - 1)
        parts = [store.oindex[window].translate_to[origin] for window in windows]
        ts.array(out).write(ts.stack(parts)).result()
    else:
        for i, window in enumerate(windows):
            out[i] = store.oindex[window]


def _open_strictly(spec: dict[str, Any]) -> Any:
    """Open an array again, without what was found missing before; reading a chunk that is not there is an error."""
    return ts.open(spec | {"fill_missing_data_reads": False}, open=True, read=True).result()


def _open_forked(path: str) -> Any:
    if is_remote(path):
        raise LulcbenchError(
            f"Cannot stream {path} in a process forked from one that has read already.",
            "Use num_workers=0, or multiprocessing_context='spawn' or 'forkserver'.",
        )
    import zarr

    warnings.warn(
        "This process was forked from one that had read shards already, so it reads them with zarr-python, several "
        "times slower. Use num_workers=0 (as fast), or multiprocessing_context='spawn' or 'forkserver'.",
        UserWarning,
        stacklevel=2,
    )
    return zarr.open_array(path, mode="r")
