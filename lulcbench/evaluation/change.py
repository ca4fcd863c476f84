"""Change between two maps: transitions, gains and losses; two maps as one map of pairs of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.class_maps import NONE, ClassCodes, ClassMap, Floats, at_level, count

STEP = 10_000  # code of a pair: STEP · code of the first map + code of the second
_MAX = 200_000  # largest code of a class whose pairs fit into an int32


def check_same_pixels(one: ClassMap, other: ClassMap) -> None:
    """Check that two maps have the same pixels.

    Raises:
        LulcbenchError: they differ in shape, georeference or CRS.
    """
    a, b = one.grid, other.grid
    same = a.shape == b.shape and np.allclose(a.transform, b.transform, rtol=1e-12, atol=1e-9 * abs(a.transform[0]))
    if not same or not _same_crs(a.crs, b.crs):
        raise LulcbenchError(
            f"{one.name} and {other.name} have different pixels.",
            "Bring one to the grid of the other: gdalwarp -r near -te … -tr … -t_srs ….",
        )


def check_different(maps: Sequence[ClassMap]) -> None:
    """Check that no map is given twice: compared with itself, it would look like a perfect one or a stable landscape.

    Copies of a file are different maps; that they have the same classes is visible in the result.

    Raises:
        LulcbenchError: two maps are read from the same band or year of a file, with the same legend.
    """
    origins = [map_.origin for map_ in maps]
    if same := [map_.name for map_ in maps if origins.count(map_.origin) > 1]:
        raise LulcbenchError(
            f"Two maps are read from the same band or year of {same[0]}.",
            "Give different maps; of a file with several, name one --band or --year per map.",
        )


class PairMap:
    """Two maps of the same pixels as one map whose classes are pairs. Implements ``class_maps.ClassMap``.

    Args:
        before: the earlier map.
        after: the later map.
        level: legend level of the pairs; None for the codes of the maps.

    Raises:
        LulcbenchError: the maps have different pixels, or are the same.
    """

    def __init__(self, before: ClassMap, after: ClassMap, level: int | None) -> None:
        check_different((before, after))
        check_same_pixels(before, after)
        self._maps, self._level = (before, after), level
        self.name, self.year, self.grid = f"{before.name} → {after.name}", after.year, before.grid
        self.decisions, self.origin = before.decisions | after.decisions, before.origin + after.origin
        self.simulated = before.simulated or after.simulated

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The maps belong to the caller."""

    def locate(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Rows and columns of EPSG:3035 positions."""
        return self._maps[0].locate(x, y)

    def read(self, rows: slice, columns: slice) -> ClassCodes:
        """Codes of pairs in a window; ``NONE`` where either map has no class."""
        first, second = (at_level(map_.read(rows, columns), self._level) for map_ in self._maps)
        return pair_codes(first, second)

    def pixel_areas(self, rows: slice, columns: slice) -> float | Floats:
        """True areas of the pixels of a window in m²."""
        return self._maps[0].pixel_areas(rows, columns)


def pair_codes(first: np.typing.NDArray[np.int64], second: np.typing.NDArray[np.int64]) -> ClassCodes:
    """Codes of pairs, int32; ``NONE`` where either is.

    >>> pair_codes(np.array([311, 311, NONE]), np.array([311, 211, 5])).tolist()
    [3110311, 3110211, -1]
    """
    if first.max(initial=0) > _MAX or second.max(initial=0) >= STEP:
        raise LulcbenchError("The maps have classes above 9999.", "Give them smaller codes by a legend file.")
    return np.where((first == NONE) | (second == NONE), NONE, first * STEP + second).astype(np.int32)


def pair_name(code: int) -> str:
    """Text of the code of a pair.

    >>> pair_name(3110211)
    '311 → 211'
    """
    return f"{code // STEP} → {code % STEP}"


@dataclass(frozen=True)
class Change:
    """Change between two maps, by pixel count and true area (m²).

    Attributes:
        codes: classes of either map, ``n``.
        pixels: number of pixels by class of the first map (rows) and of the second (columns), int64 ``(n, n)``.
        areas: the same in m², float64 ``(n, n)``.
        simulated: whether a map is known to be of simulated data.
    """

    codes: tuple[int, ...]
    pixels: np.typing.NDArray[np.int64]
    areas: Floats
    simulated: bool = False

    @property
    def equal(self) -> bool:
        """Whether no pixel changes: the maps may be copies."""
        return int(self.pixels.sum()) == int(np.trace(self.pixels))

    @property
    def gain(self) -> Floats:
        """Area that became each class, m² ``(n,)``."""
        return self.areas.sum(axis=0) - np.diagonal(self.areas)

    @property
    def loss(self) -> Floats:
        """Area that ceased to be each class, m² ``(n,)``."""
        return self.areas.sum(axis=1) - np.diagonal(self.areas)


def transitions(pairs: PairMap) -> Change:
    """Count the transitions between two maps.

    Raises:
        LulcbenchError: no pixel has a class in both maps.
    """
    counted = count(pairs)
    codes = sorted({part for code in counted.pixels for part in divmod(code, STEP)})
    n = len(codes)
    pixels, areas = np.zeros((n, n), np.int64), np.zeros((n, n))
    for code, number in counted.pixels.items():
        i, j = (codes.index(part) for part in divmod(code, STEP))
        pixels[i, j], areas[i, j] = number, counted.areas[code]
    return Change(tuple(codes), pixels, areas, pairs.simulated)


def _same_crs(a: str, b: str) -> bool:
    if a == b:
        return True
    from pyproj import CRS

    first, second = CRS.from_user_input(a), CRS.from_user_input(b)
    return bool(first.equals(second, ignore_axis_order=True) or (first.to_epsg() or 0) == (second.to_epsg() or -1))
