"""Reading the shards of a release: a whole batch of windows in one call, decoded by TensorStore's own threads.

Arrays are plain Zarr v3 groups ``<root>/<split>.zarr/<array>`` (``builders.pack`` writes them with zarr-python):
imagery ``(tile, season, band, y, x)`` uint16, labels ``(tile, y, x)`` uint16 LUISA codes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from lulcbench.errors import LulcbenchError
from lulcbench.release import Release


class ShardReader:
    """Reads windows of one split. Picklable; opens its arrays in the process that first reads (handles do not fork).

    Args:
        root: folder of the release.
        release: its manifest.
        split: ``train``, ``val`` or ``test``.
    """

    def __init__(self, root: str | os.PathLike[str], release: Release, split: str) -> None:
        self.root = Path(root)
        self.release = release
        self.split = release.check_split(split)
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
    ) -> npt.NDArray[np.uint16]:
        """Read a batch of windows.

        Args:
            array: array name such as ``sentinel2_2018`` or ``luisa_2018``.
            rows: tile row of each of n windows.
            offsets: (y, x) of each window's upper left pixel.
            size: (height, width) of all windows in pixels.
            seasons: season positions to take, in that order; None takes all (imagery only).
            bands: band positions to take, in that order; None takes all (imagery only).

        Returns:
            uint16 ``(n, season, band, height, width)`` for imagery, ``(n, height, width)`` for labels.

        Raises:
            LulcbenchError: an array or shard is missing, truncated or altered; names it.
        """
        store = self._open(array)
        parts = []
        for row, (y, x) in zip(rows, offsets, strict=True):
            part = store[int(row)]
            if bands is not None:
                part = part[:, list(bands)]
            if seasons is not None:
                part = part[list(seasons)]
            parts.append(part[..., int(y) : int(y) + size[0], int(x) : int(x) + size[1]])
        try:
            # Translating to origin 0 lets windows of different places stack; the batch decodes each chunk once.
            stacked = ts.stack([part.translate_to[(0,) * part.rank] for part in parts])
            result: npt.NDArray[np.uint16] = stacked.read().result()
        except Exception as error:
            raise self._broken(array, error) from error
        return result

    def _open(self, array: str) -> Any:
        if self._pid != os.getpid():
            self._arrays, self._pid = {}, os.getpid()
        if array not in self._arrays:
            path = self.root / f"{self.split}.zarr" / array
            if not (path / "zarr.json").is_file():
                raise LulcbenchError(
                    f"{path} is missing.",
                    f"Download it with 'lulcbench download {self.release.name} --split {self.split}', "
                    "or see what is there with 'lulcbench info'.",
                )
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
            try:
                store = ts.open(spec, open=True, read=True).result()
            except Exception as error:
                raise self._broken(array, error) from error
            if store.shape[0] != self.release.splits[self.split]:  # type: ignore[index]
                raise LulcbenchError(
                    f"{path} holds {store.shape[0]} tiles, the manifest says {self.release.splits[self.split]}.",  # type: ignore[index]
                    "Run 'lulcbench verify --repair'.",
                )
            self._arrays[array] = store
        return self._arrays[array]

    def _broken(self, array: str, error: Exception) -> LulcbenchError:
        return LulcbenchError(
            f"Cannot read {self.root / f'{self.split}.zarr' / array}: {error}.",
            "A shard is missing, truncated or altered; find and mend it with 'lulcbench verify --repair'.",
        )
