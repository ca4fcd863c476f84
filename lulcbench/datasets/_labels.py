"""Labels of tiles, and of the windows that are cut from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lulcbench.datasets.batch import WindowBatch
from lulcbench.errors import LulcbenchError
from lulcbench.grid import LABEL_RESOLUTION
from lulcbench.legend import legend
from lulcbench.release import ArrayKey, label_shape
from lulcbench.release.index import columns, fraction_column

if TYPE_CHECKING:
    import pandas as pd

    from lulcbench.release.shards import ShardReader


class Labels:
    """Reads the labels of a dataset's tiles.

    Args:
        reader: reader of the split.
        arrays: array of each year; empty if the dataset has no labels.
    """

    def __init__(self, reader: ShardReader, arrays: Mapping[int, ArrayKey]) -> None:
        self._reader = reader
        self._arrays = arrays

    def array(self, year: int) -> ArrayKey:
        """The array of a year.

        Raises:
            LulcbenchError: there are no labels of that year.
        """
        if year not in self._arrays:
            have = ", ".join(map(str, self._arrays.values())) or "none"
            raise LulcbenchError(f"There are no labels of {year}.", f"The labels of this dataset are {have}.")
        return self._arrays[year]

    def codes(self, rows: npt.NDArray[np.integer], year: int) -> npt.NDArray[np.uint16]:
        """LUISA codes of whole tiles: uint16 ``(n, 96, 96)``."""
        corners = np.zeros((len(rows), 2), np.int64)
        return self._reader.read(self.array(year), rows, corners, label_shape())

    def classes(self, rows: npt.NDArray[np.integer], year: int, level: int) -> npt.NDArray[np.uint8]:
        """Class indices of whole tiles at a level: uint8 ``(n, 96, 96)``."""
        return legend().encode(self.codes(rows, year), level, self._where(year))

    def fractions(self, tiles: pd.DataFrame, year: int, level: int) -> npt.NDArray[np.float64]:
        """Share of each tile's label pixels that each class covers, from the tile index: ``(tile, class)``."""
        array = self.array(year)
        names = [fraction_column(array, code) for code in legend().codes(level)]
        return np.asarray(columns(tiles, names), np.float64)

    def masks(
        self, windows: WindowBatch, size: int, resolution: int, levels: tuple[int, ...], out: npt.NDArray[np.int64]
    ) -> None:
        """Class indices at the pixel centres of windows.

        Args:
            windows: the windows.
            size: side of the windows, in metres.
            resolution: pixel size of the masks, in metres.
            levels: levels of the classes.
            out: int64 ``(n, level, y, x)``, to be filled.
        """
        cell, whole = LABEL_RESOLUTION, label_shape()[0]
        cells = min(-(-size // cell) + 1, whole)  # number of label pixels that a window can touch along an axis
        corners = np.minimum(windows.offsets // cell, whole - cells)
        codes = np.empty((len(windows), cells, cells), np.uint16)
        for year, at in windows.by_year():
            rows, inverse = np.unique(windows.rows[at], return_inverse=True)
            labels = self.codes(rows, year)
            for i, k, (y, x) in zip(at, inverse, corners[at], strict=True):
                codes[i] = labels[k, y : y + cells, x : x + cells]
        centres = np.arange(size // resolution) * resolution + resolution / 2
        nearest = ((windows.offsets[:, :, None] + centres) // cell).astype(np.int64) - corners[:, :, None]
        where = self._where(*np.unique(windows.years))
        for k, level in enumerate(levels):
            # Classes are looked up per label cell, then spread to the pixels, which are many more.
            coarse = legend().encode(codes, level, where).astype(np.int64)
            for i, (ys, xs) in enumerate(nearest):
                np.take(coarse[i][ys], xs, axis=1, out=out[i, k], mode="clip")

    def _where(self, *years: int) -> str:
        return f"{', '.join(str(self.array(int(year))) for year in years)} of {self._reader.split}"
