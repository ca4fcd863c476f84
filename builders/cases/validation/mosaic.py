"""The tiles of a release as one mosaic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from builders.readers.area import Area
from lulcbench.errors import NotAvailableError
from lulcbench.grid import TILE_SIZE, Tile
from lulcbench.legend import legend
from lulcbench.release import ArrayKey, Release


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Values on the pixel grid of an area: ``(…, y, x)``; nodata or NaN where the release has no tile."""

    values: npt.NDArray[Any]
    area: Area

    def window(self, bounds: tuple[float, float, float, float]) -> tuple[slice, slice]:
        """Rows and columns of the pixels whose centres lie within bounds, clipped to the area."""
        left, top, step = self.area.bounds[0], self.area.bounds[3], self.area.resolution
        rows = [round((top - y) / step) for y in (bounds[3], bounds[1])]
        columns = [round((x - left) / step) for x in (bounds[0], bounds[2])]
        height, width = self.area.shape
        return slice(max(rows[0], 0), min(rows[1], height)), slice(max(columns[0], 0), min(columns[1], width))


def paint(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Legend colours of codes of any level, ``(y, x, 3)``; nodata is white."""
    table = np.full((65536, 3), 255, np.uint8)
    for code, land in legend().classes.items():
        table[code] = list(bytes.fromhex(land.color[1:]))
    return table[codes]


def labels(release: Release, year: int) -> Mosaic:
    """LUISA codes of all splits, uint16."""
    return _mosaic(release, ArrayKey(release.manifest.choose_labels(), year))


def reflectance(release: Release, sensor: str, year: int) -> Mosaic:
    """Reflectance ``(season, band, y, x)`` of all splits, float32 with NaN for nodata."""
    stored = _mosaic(release, ArrayKey(sensor, year))
    return Mosaic(release.manifest.sensor(sensor).coding.decode(stored.values), stored.area)


def _mosaic(release: Release, array: ArrayKey) -> Mosaic:
    table = release.index()[["id", "row"]].to_dict("records")
    tiles = [Tile.from_id(row["id"]) for row in table]
    stored = zarr.open_group(release.root, mode="r").get(str(array))
    if not isinstance(stored, zarr.Array):
        raise NotAvailableError(f"{release.root} has no array {array}.", "See what there is with 'lulcbench info'.")
    area = Area.of(tiles, TILE_SIZE / stored.shape[-1])
    values = np.full((*stored.shape[1:-2], *area.shape), stored.fill_value, stored.dtype)
    for row, tile in zip(table, tiles, strict=True):
        values[(..., *area.window(tile))] = stored[row["row"]]
    return Mosaic(values, area)
