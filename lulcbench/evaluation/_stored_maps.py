"""Maps of ``lulcbench map`` and predictions files, as class maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import CorruptFileError, LulcbenchError, UnsupportedFormatError
from lulcbench.evaluation.class_maps import NONE, ClassCodes, Floats, MapGrid, windows
from lulcbench.evaluation.confusion import divide
from lulcbench.geozarr import check_chunks
from lulcbench.grid import CRS, LABEL_RESOLUTION, TILE_SIZE, Tile
from lulcbench.legend import NODATA, ClassScheme
from lulcbench.predictions import Predictions
from lulcbench.release import Release, TilePosition

_SIDE = TILE_SIZE // LABEL_RESOLUTION
_REMEDY = "Write the map again with 'lulcbench map'."


class _OnGrid:
    """A map in EPSG:3035 with north up."""

    name: str
    grid: MapGrid
    year: int | None
    decisions: dict[str, int]
    origin: tuple[str, ...]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def locate(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Rows and columns of EPSG:3035 positions."""
        size, _, left, _, _, top = self.grid.transform
        return (top - y) / size, (x - left) / size

    def pixel_areas(self, rows: slice, columns: slice) -> float:
        """Area of a pixel in m²."""
        return float(self.grid.transform[0]) ** 2


class ZarrMap(_OnGrid):
    """The finest classes of a map that ``lulcbench map`` wrote, at full resolution.

    Attributes:
        scheme: its classes.
        folder: of the map.

    Raises:
        LulcbenchError: the folder has no complete map, or none of that year, or several years without a choice.
    """

    def __init__(self, path: str | os.PathLike[str], year: int | None = None) -> None:
        import zarr

        self.folder = Path(path)
        self.name, self.decisions = self.folder.name, {}
        attributes = _attributes(self.folder)
        years = _years(attributes)
        if year not in (None, *years) or (year is None and len(years) != 1):
            raise _no_such_year(path, years, year)
        self.year = years[0] if year is None else year
        check_chunks(self.folder, attributes, f"{self.year}/0")
        self.origin = (str(self.folder.resolve()), str(self.year))
        self.simulated = attributes.get("lulcbench:simulated") is not False
        try:
            group = zarr.open_group(self.folder / str(self.year) / "0", mode="r")
            self.scheme = ClassScheme.stored(attributes, list(group.array_keys()), str(path))
            name = self.scheme.layers[-1]
            self._array = zarr.open_array(self.folder / str(self.year) / "0" / name, mode="r")
            stored: Any = group.attrs["spatial:transform"]
            transform = [float(number) for number in stored]
        except LulcbenchError:
            raise
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CorruptFileError(f"The map {path} cannot be read: {error}.", _REMEDY) from error
        shape = self._array.shape
        self.grid = MapGrid((shape[0], shape[1]), tuple(transform), CRS)

    def read(self, rows: slice, columns: slice) -> ClassCodes:
        """Class codes of a window."""
        codes = np.asarray(self._array[rows, columns]).astype(np.int32)
        return np.where(codes == NODATA, NONE, codes).astype(np.int32)

    def probabilities(self, x: Floats, y: Floats, level: int, codes: list[int]) -> tuple[Floats, Floats]:
        """Probabilities at points and their means over the map.

        Args:
            x: EPSG:3035 metres ``(n,)``, inside the map.
            y: likewise.
            level: legend level of the classes, at most that of the map.
            codes: the classes.

        Returns:
            ``(n, k)`` and ``(k,)``.
        """
        import zarr

        array: Any = zarr.open_array(self.folder / str(self.year) / "0" / "probability", mode="r")
        known = self.scheme.codes(level)
        fold = (self.scheme.over(level)[:, None] == np.arange(len(known))).astype(np.float64)
        columns = [known.index(code) for code in codes]
        total, pixels = np.zeros(len(fold)), 0
        for rows, across in windows(self.grid.shape):
            values = np.asarray(array[:, rows, across], np.float64).reshape(len(fold), -1)
            sums = values.sum(axis=0)
            filled = sums > 0
            total += (values[:, filled] / sums[filled]).sum(axis=1)
            pixels += int(filled.sum())
        i, j = (part.astype(np.int64) for part in self.locate(x, y))
        at = np.stack([np.asarray(array[:, row, column], np.float64) for row, column in zip(i, j, strict=True)])
        at = divide(at, at.sum(axis=1, keepdims=True))
        return (at @ fold)[:, columns], (total / max(pixels, 1) @ fold)[columns]


class PredictionsMap(_OnGrid):
    """Predicted codes of a split on the 50 m grid; pixels between its tiles have no class.

    Raises:
        LulcbenchError: the file is refused, has not the wanted year, or has several years without a choice.
    """

    def __init__(
        self, path: str | os.PathLike[str], release: str | os.PathLike[str] | Release, year: int | None
    ) -> None:
        self.name, self.decisions = Path(path).name, {}
        self._predictions = Predictions.open(path, release)
        info = self._predictions.info
        if year not in (None, *info.years) or (year is None and len(info.years) != 1):
            self._predictions.__exit__(None, None, None)
            raise _no_such_year(path, list(info.years), year)
        self.year = info.years[0] if year is None else year
        self.origin = (str(Path(path).resolve()), str(self.year))
        self.simulated = self._predictions.release.simulated
        self._position = info.years.index(self.year)
        tiles = [Tile.from_id(tile) for tile in info.tiles]
        first = min(tile.ix for tile in tiles), max(tile.iy for tile in tiles)
        last = max(tile.ix for tile in tiles), min(tile.iy for tile in tiles)
        self._rows = {(first[1] - tile.iy, tile.ix - first[0]): TilePosition(i) for i, tile in enumerate(tiles)}
        shape = (_SIDE * (first[1] - last[1] + 1), _SIDE * (last[0] - first[0] + 1))
        left, top = first[0] * TILE_SIZE, (first[1] + 1) * TILE_SIZE
        self.grid = MapGrid(shape, (LABEL_RESOLUTION, 0.0, left, 0.0, -LABEL_RESOLUTION, top), CRS)
        self._cache: tuple[TilePosition, ClassCodes] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._predictions.__exit__(kind, error, trace)

    def read(self, rows: slice, columns: slice) -> ClassCodes:
        """Class codes of a window."""
        result = np.full((rows.stop - rows.start, columns.stop - columns.start), NONE, np.int32)
        for i in range(rows.start // _SIDE, -(-rows.stop // _SIDE)):
            for j in range(columns.start // _SIDE, -(-columns.stop // _SIDE)):
                position = self._rows.get((i, j))
                if position is None:
                    continue
                top, left = max(rows.start, i * _SIDE), max(columns.start, j * _SIDE)
                bottom, right = min(rows.stop, (i + 1) * _SIDE), min(columns.stop, (j + 1) * _SIDE)
                tile = self._tile(position)[top - i * _SIDE : bottom - i * _SIDE, left - j * _SIDE : right - j * _SIDE]
                result[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start] = tile
        return result

    def _tile(self, position: TilePosition) -> ClassCodes:
        if self._cache is None or self._cache[0] != position:
            codes = self._predictions.codes(position)[self._position].astype(np.int32)
            self._cache = (position, np.where(codes == NODATA, NONE, codes).astype(np.int32))
        return self._cache[1]


def years_of_map(path: Path) -> list[int]:
    """Years of a map that ``lulcbench map`` wrote."""
    return _years(_attributes(path))


def years_of_predictions(path: Path, release: str | os.PathLike[str] | Release) -> list[int]:
    """Years of a predictions file."""
    with Predictions.open(path, release) as predictions:
        return list(predictions.info.years)


def _attributes(folder: Path) -> dict[str, Any]:
    path = folder / "zarr.json"
    attributes = parse_json(read_limited(path, 2**26, _REMEDY), str(path), _REMEDY, 2**26).get("attributes")
    if not isinstance(attributes, dict) or attributes.get("lulcbench:format") != "lulcbench-map/1":
        raise UnsupportedFormatError(f"{folder} is not a map of lulcbench.", _REMEDY)
    return attributes


def _years(attributes: Mapping[str, Any]) -> list[int]:
    return [int(number) for number in attributes.get("years", [])]


def _no_such_year(path: str | os.PathLike[str], years: list[int], year: int | None) -> LulcbenchError:
    wanted = "" if year is None else f", not {year}"
    return LulcbenchError(f"{path} has the years {years}{wanted}.", "Choose one with --year.")
