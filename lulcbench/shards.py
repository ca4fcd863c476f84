"""Reading the shards of a release: a whole batch of windows in one call, decoded by TensorStore's own threads.

Arrays are plain Zarr v3 groups ``<root>/<split>.zarr/<array>`` (``builders.pack`` writes them with zarr-python):
imagery ``(tile, season, band, y, x)`` uint16, labels ``(tile, y, x)`` uint16 LUISA codes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from lulcbench.errors import DamagedRelease, LulcbenchError
from lulcbench.memory import keep_freed_memory
from lulcbench.places import is_remote, join, kvstore
from lulcbench.release import Release

Selection = tuple[int | slice | list[int], ...]

# TensorStore's threads do not survive a fork, and it ends a forked process that uses them. This is the process that
# first used it; None as long as none did.
_user: int | None = None

# Shards never change, so what was read of them is not asked for again.
_STEADY = {"recheck_cached_data": "open", "recheck_cached_metadata": "open"}
# Over a network every question costs, so the indices of shards are kept.
_REMOTE = {"cache_pool": {"total_bytes_limit": 64 * 2**20}, "http_request_concurrency": {"limit": 64}}


class ShardReader:
    """Reads windows of one split. Picklable; opens its arrays in the process that first reads (handles do not fork).

    In a process forked from one that has read already, it falls back to zarr-python, which is slower, and warns.

    Args:
        root: folder of the release, or its URL (https, s3, hf), which is then read without downloading.
        release: its manifest.
        split: ``train``, ``val`` or ``test``.
        threads: that decode, for all reads at once; None takes one a processor.
    """

    def __init__(self, root: str | os.PathLike[str], release: Release, split: str, threads: int | None = None) -> None:
        self.root = os.fspath(root)
        self.release = release
        self.split = release.check_split(split)
        self._context: dict[str, Any] = _REMOTE if is_remote(self.root) else {}
        if threads is not None:
            self._context = self._context | {"data_copy_concurrency": {"limit": threads}}
        self._pid = os.getpid()
        self._arrays: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}

    def read(
        self,
        array: str,
        rows: Sequence[int] | npt.NDArray[np.integer],
        offsets: Sequence[tuple[int, int]] | npt.NDArray[np.integer],
        size: tuple[int, int],
        seasons: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        out: npt.NDArray[np.uint16] | None = None,
    ) -> npt.NDArray[np.uint16]:
        """Read a batch of windows.

        Args:
            array: array name such as ``sentinel2_2018`` or ``luisa_2018``.
            rows: tile row of each of n windows.
            offsets: (y, x) of each window's upper left pixel.
            size: (height, width) of all windows in pixels.
            seasons: season positions to take, in that order; None takes all (imagery only).
            bands: band positions to take, in that order; None takes all (imagery only).
            out: C-contiguous array of the right shape to read into; memory that is used again spares the system
                handing out fresh pages, which takes longer than decoding.

        Returns:
            uint16 ``(n, season, band, height, width)`` for imagery, ``(n, height, width)`` for labels.

        Raises:
            LulcbenchError: an array or shard is missing, truncated or altered; names it.
        """
        store = self._open(array)
        picks = [_pick(seasons), _pick(bands)] if len(store.shape) == 5 else []
        corners = [(int(row), int(y), int(x)) for row, (y, x) in zip(rows, offsets, strict=True)]
        inner = [
            len(range(n)[p]) if isinstance(p, slice) else len(p) for n, p in zip(store.shape[1:3], picks, strict=False)
        ]
        if out is None:
            out = np.empty((len(corners), *inner, *size), np.uint16)
        if not corners:
            return out
        try:
            read_windows(store, selections(corners, size, picks), out)
        except Exception as error:  # TensorStore and zarr each raise what the storage below them happens to raise
            raise self._broken(array, error) from error
        return out

    def tiles(self, array: str, start: int, stop: int) -> npt.NDArray[np.uint16]:
        """Read tiles ``start`` to ``stop`` (exclusive) whole: uint16 ``(stop - start, …)``; raises as ``read`` does."""
        store = self._open(array)
        try:
            result: npt.NDArray[np.uint16] = store[start:stop].read().result()
        except Exception as error:
            raise self._broken(array, error) from error
        return result

    def _open(self, array: str) -> Any:
        global _user
        if self._pid != os.getpid():
            self._arrays, self._pid = {}, os.getpid()
        if array not in self._arrays:
            path = join(self.root, f"{self.split}.zarr", array)
            if not is_remote(self.root):
                self._check_files(array, Path(path))
            try:
                if _user in (None, os.getpid()):
                    _user = os.getpid()
                    keep_freed_memory()
                    spec = {"driver": "zarr3", "kvstore": kvstore(self.root, f"{self.split}.zarr", array)}
                    store = ts.open(spec | _STEADY | {"context": self._context}, open=True, read=True).result()
                else:
                    store = _open_forked(path)
            except LulcbenchError:
                raise
            except Exception as error:  # see read
                raise self._broken(array, error) from error
            if store.shape[0] != self.release.splits[self.split]:  # type: ignore[index]
                raise LulcbenchError(
                    f"{path} holds {store.shape[0]} tiles, the manifest says {self.release.splits[self.split]}.",  # type: ignore[index]
                    "Run 'lulcbench verify --repair'.",
                )
            self._arrays[array] = store
        return self._arrays[array]

    def _check_files(self, array: str, path: Path) -> None:
        """A missing shard would read as nodata, so all files must be here, and of the right size."""
        files = [file for file in self.release.files if file.split == self.split and file.array == array]
        if not files or not path.is_dir():
            names = sorted({f.array for f in self.release.files if f.split == self.split and f.array})
            raise LulcbenchError(
                f"{path} is missing.",
                f"{self.release.id} has {', '.join(names)} in {self.split}; fetch with 'lulcbench download'.",
            )
        for file in files:
            found = Path(self.root) / file.path
            if not found.is_file() or found.stat().st_size != file.bytes:
                raise self._broken(array, f"{file.path} is missing or not {file.bytes} bytes long")

    def _broken(self, array: str, error: Exception | str) -> LulcbenchError:
        return DamagedRelease(
            f"Cannot read {join(self.root, f'{self.split}.zarr', array)}: {error}.",
            "A shard is missing, truncated or altered; find and mend it with 'lulcbench verify --repair'.",
        )


def _pick(positions: Sequence[int] | None) -> slice | list[int]:
    """Positions as a slice where they are a run, which is cheaper to read."""
    if positions is None:
        return slice(None)
    chosen = [int(i) for i in positions]
    run = chosen == list(range(chosen[0], chosen[0] + len(chosen)))
    return slice(chosen[0], chosen[0] + len(chosen)) if run else chosen


def selections(
    corners: Iterable[tuple[int, int, int]], size: tuple[int, int], picks: Sequence[slice | list[int]]
) -> list[Selection]:
    """Outer indices of windows of ``size`` (height, width) at (row, y, x); ``picks`` select along season and band."""
    return [(row, *picks, slice(y, y + size[0]), slice(x, x + size[1])) for row, y, x in corners]


def read_windows(store: Any, windows: Sequence[Selection], out: npt.NDArray[np.uint16]) -> None:
    """Read windows of an open array into ``out``: with TensorStore all at once, with zarr-python one by one."""
    if isinstance(store, ts.TensorStore):
        # Translating to origin 0 lets windows of different places stack.
        origin = (0,) * (out.ndim - 1)
        parts = [store.oindex[window].translate_to[origin] for window in windows]
        ts.array(out).write(ts.stack(parts)).result()
    else:
        for i, window in enumerate(windows):
            out[i] = store.oindex[window]


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
