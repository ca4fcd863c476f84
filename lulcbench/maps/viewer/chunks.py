"""Chunk files of a site: tiles of single layers for display, and blocks of all layers for clicks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from isal import igzip

from lulcbench.errors import CorruptFileError
from lulcbench.maps.viewer.source import NO_CLASS, Layer, MapSource, Overview, Stored, positions

TILE = 240  # px: the side of the chunks of a map
BLOCK = 60  # px: about 20 kB of all layers of one year, with 46 classes
WINDOW = 4 * TILE  # px: side of the part of a map that is in memory at a time

Index = npt.NDArray[np.uint8]


def count(source: MapSource) -> int:
    """Number of steps in which ``write_chunks`` reports its progress."""
    return len(source.years) * sum(1 for grid in source.overviews for _ in _windows(grid))


def write_chunks(source: MapSource, folder: Path, advance: Callable[[], None]) -> dict[str, tuple[float, float]]:
    """Write all chunk files of a map.

    Args:
        source: the map.
        folder: of the map in the site.
        advance: called ``count(source)`` times.

    Returns:
        Value layer → lowest and highest value at full resolution, as stored; only of layers with data.

    Raises:
        CorruptFileError: a part of the map cannot be read, or is missing in one of its layers of classes.
    """
    ranges: dict[str, tuple[float, float]] = {}
    with ThreadPoolExecutor() as threads:
        for year in source.years:
            writer = _YearWriter(source, year, folder / str(year), threads, ranges)
            for overview, grid in enumerate(source.overviews):
                for rows, columns in _windows(grid):
                    writer.write(overview, rows, columns)
                    advance()
            writer.write_indices()
    return ranges


@dataclass
class _YearWriter:
    source: MapSource
    year: int
    folder: Path
    threads: Executor
    ranges: dict[str, tuple[float, float]]
    _indices: dict[str, list[Index]] = field(default_factory=dict)
    _counts: dict[str, npt.NDArray[np.uint16]] = field(default_factory=dict)

    def write(self, overview: int, rows: slice, columns: slice) -> None:
        """Write the tiles of a window, and at full resolution its blocks."""
        grid = self.source.overviews[overview]
        tiles: list[tuple[Path, bytes]] = []
        planes: list[Stored] = []
        fills: list[float] = []
        for layer in self.source.layers:
            values = self.source.read(layer.name, self.year, overview, rows, columns)
            tiles += self._tiles(layer.name, values, layer.fill, overview, grid, rows, columns)
            planes.append(values)
            fills.append(0 if layer.fill is None else layer.fill)
            if overview == 0 and layer.kind == "value":
                self._widen(layer.name, values if layer.fill is None else values[values != layer.fill])
            if overview == 0 and layer.kind == "class":
                self._count(layer, values, grid, rows, columns)
        if self.source.probability_level is not None:
            classes = self.source.read("probability", self.year, overview, rows, columns)
            self._check(planes, classes, overview, rows, columns)
            for code, values in zip(self.source.scheme.codes(self.source.probability_level), classes, strict=True):
                tiles += self._tiles(f"probability/{code}", values, 0, overview, grid, rows, columns)
            planes += list(classes)
            fills += [0] * len(classes)
        if overview == 0:
            tiles += self._blocks(planes, fills, grid, rows, columns)
        list(self.threads.map(lambda item: _write(*item), tiles))

    def _check(self, planes: list[Stored], classes: Stored, overview: int, rows: slice, columns: slice) -> None:
        """A pixel of a prediction has a class in every layer and probabilities, or none: lost chunks read as nodata."""
        layers = zip(self.source.layers, planes, strict=True)
        data = {layer.name: values != layer.fill for layer, values in layers if layer.kind == "class"}
        if overview == 0:  # in overviews, small ones may be rounded to 0
            data["probability"] = classes.any(axis=0)
        first = next(iter(data), "")
        for name, found in data.items():
            if (found != data[first]).any():
                raise CorruptFileError(
                    f"{self.source.folder}/{self.year}/{overview} has pixels with data in only one of {first} and "
                    f"{name}, in rows {rows.start} to {rows.stop} and columns {columns.start} to {columns.stop}: a "
                    "chunk is missing.",
                    "Write the map again.",
                )

    def write_indices(self) -> None:
        """Write which tiles and blocks exist, and the numbers of pixels of each class in each tile."""
        for name, counts in self._counts.items():
            _write(self.folder / name / "counts.bin", _little(counts))
        for name, parts in self._indices.items():
            _write(self.folder / name / "index.bin", np.concatenate([part.ravel() for part in parts]).tobytes())

    def _count(self, layer: Layer, values: Stored, grid: Overview, rows: slice, columns: slice) -> None:
        """Count the pixels of each class of the layer's level (or of all) in each tile: at most 240² = 57,600."""
        scheme = self.source.scheme
        known = positions(scheme)
        own = [i for i, code in enumerate(known) if layer.level in (0, scheme.classes[code].level)]
        own += [len(known)] if layer.mixed else []  # uncertain
        shape = (math.ceil(grid.height / TILE), math.ceil(grid.width / TILE), len(own))
        counts = self._counts.setdefault(layer.name, np.zeros(shape, np.uint16))
        for y, x, tile in _parts(values, TILE, NO_CLASS):
            found = np.bincount(tile.ravel(), minlength=256)[own]
            counts[rows.start // TILE + y, columns.start // TILE + x] = found

    def _widen(self, name: str, values: Stored) -> None:
        values = values[~np.isnan(values)]
        if values.size:
            low, high = self.ranges.get(name, (math.inf, -math.inf))
            self.ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))

    def _tiles(
        self, name: str, values: Stored, fill: float | None, overview: int, grid: Overview, rows: slice, columns: slice
    ) -> Iterator[tuple[Path, bytes]]:
        index = self._index(name, overview, grid, TILE)
        for y, x, tile in _parts(values, TILE, 0 if fill is None else fill):
            if fill is None or (tile != fill).any():
                row, column = rows.start // TILE + y, columns.start // TILE + x
                index[row, column] = 1
                yield self.folder / name / str(overview) / str(row) / f"{column}.bin", _little(tile)

    def _blocks(
        self, planes: list[Stored], fills: list[float], grid: Overview, rows: slice, columns: slice
    ) -> Iterator[tuple[Path, bytes]]:
        """Blocks with data in any class layer, which stand first."""
        index = self._index("pixels", 0, grid, BLOCK)
        parts = [list(_parts(values, BLOCK, fill)) for values, fill in zip(planes, fills, strict=True)]
        classes = sum(layer.kind == "class" for layer in self.source.layers)
        for block in zip(*parts, strict=True):
            y, x, _ = block[0]
            if any((tile != fill).any() for (_, _, tile), fill in zip(block[:classes], fills, strict=False)):
                row, column = rows.start // BLOCK + y, columns.start // BLOCK + x
                index[row, column] = 1
                yield self.folder / "pixels" / str(row) / f"{column}.bin", b"".join(_little(t) for _, _, t in block)

    def _index(self, name: str, overview: int, grid: Overview, side: int) -> Index:
        parts = self._indices.setdefault(name, [])
        if len(parts) == overview:
            parts.append(np.zeros((math.ceil(grid.height / side), math.ceil(grid.width / side)), np.uint8))
        return parts[overview]


def _windows(grid: Overview) -> Iterator[tuple[slice, slice]]:
    for y in range(0, grid.height, WINDOW):
        for x in range(0, grid.width, WINDOW):
            yield slice(y, min(y + WINDOW, grid.height)), slice(x, min(x + WINDOW, grid.width))


def _parts(values: Stored, side: int, fill: float) -> Iterator[tuple[int, int, Stored]]:
    """Row, column and values of the parts of a window; those at its end are filled up."""
    height, width = values.shape
    below, right = -height % side, -width % side
    if below or right:
        values = np.pad(values, ((0, below), (0, right)), constant_values=fill)
    for y in range(values.shape[0] // side):
        for x in range(values.shape[1] // side):
            yield y, x, values[y * side : (y + 1) * side, x * side : (x + 1) * side]


def _little(values: Stored) -> bytes:
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(igzip.compress(content, 2, mtime=0))
