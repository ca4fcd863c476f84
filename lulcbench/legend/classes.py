"""The LUISA legend: 46 classes in a tree of four levels, the only definition of classes.

A *code* is the finest known class of a pixel. Its number of digits is its level: 3 (level 1), 31 (level 2), 311
(level 3), 3110 (level 4). Arrays may mix levels, because some sources are coarser: CORINE 112 is LUISA 112, which has
no equivalent at level 4. Code 0 is nodata. An *index* is the position of a code in ``codes(level)``, for networks and
confusion matrices; ignored pixels have ``IGNORE_INDEX``.

Source: JRC LUISA Base Map 2018 legend (CC BY 4.0), https://data.jrc.ec.europa.eu/dataset/51858b51-8f27-4006-bf82-53eba35a142c
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError

LEVELS = (1, 2, 3, 4)
NODATA = 0
IGNORE_INDEX = 255

Codes = npt.NDArray[np.uint16]
Indices = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LandClass:
    """One class of the legend.

    Attributes:
        code: LUISA code; the number of its digits is the level.
        name: English name.
        level: 1 (coarsest) to 4.
        parent: code of the parent class, or None at level 1.
        color: sRGB as ``#rrggbb``; above level 4, the mean colour of the children.
    """

    code: int
    name: str
    level: int
    parent: int | None
    color: str


class Legend:
    """The tree of classes with vectorised lookups, immutable. ``legend()`` returns it.

    Examples:
        >>> [len(legend().codes(level)) for level in LEVELS]
        [5, 14, 41, 46]
        >>> legend().classes[3110].name
        'Broad-leaved forest'
        >>> legend().remap([3110, 112, 0], level=2)  # codes of any level to codes of one
        array([31, 11,  0], dtype=uint16)
        >>> legend().encode([3110, 112, 0], level=4)  # to class indices; 255 for coarser codes and nodata
        array([ 28, 255, 255], dtype=uint8)
        >>> legend().decode([28], level=4)
        array([3110], dtype=uint16)
    """

    def __init__(self, text: str) -> None:
        rows = list(csv.DictReader(text.splitlines()))
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        self.classes: dict[int, LandClass] = {}
        for level in LEVELS:
            children: dict[int, list[dict[str, str]]] = {}
            for row in rows:
                children.setdefault(int(row[f"l{level}_code"]), []).append(row)
            for code, descendants in children.items():
                parent = int(descendants[0][f"l{level - 1}_code"]) if level > 1 else None
                color = _mean_color([row["l4_hex"] for row in descendants])
                self.classes[code] = LandClass(code, descendants[0][f"l{level}_name"], level, parent, color)
        self._codes = {n: tuple(sorted(c.code for c in self.classes.values() if c.level == n)) for n in LEVELS}
        # Lookup tables over all values of uint16, so that a call is one gather. -1 marks unknown codes.
        self._remap = {level: np.full(65536, -1, np.int32) for level in LEVELS}
        self._encode = {level: np.full(65536, -1, np.int16) for level in LEVELS}
        for level in LEVELS:
            self._remap[level][NODATA] = NODATA
            self._encode[level][NODATA] = IGNORE_INDEX
            for code in self.classes:
                target = self.ancestor(code, level)
                self._remap[level][code] = target
                self._encode[level][code] = IGNORE_INDEX if target == NODATA else self._codes[level].index(target)

    def codes(self, level: int) -> tuple[int, ...]:
        """All codes of a level (5, 14, 41 or 46) in ascending order; the position is the class index."""
        if level not in LEVELS:
            raise LulcbenchError(f"LUISA has no level {level!r}.", "Choose level 1, 2, 3 or 4.")
        return self._codes[level]

    def names(self, level: int) -> tuple[str, ...]:
        """Class names in the order of ``codes(level)``."""
        return tuple(self.classes[code].name for code in self.codes(level))

    def colors(self, level: int) -> Indices:
        """Colours of class indices: RGB as uint8 ``(256, 3)``, for ``colors[indices]``; ignored pixels are white."""
        table = np.full((256, 3), 255, np.uint8)
        for index, code in enumerate(self.codes(level)):
            table[index] = list(bytes.fromhex(self.classes[code].color[1:]))
        return table

    def ancestor(self, code: int, level: int) -> int:
        """The class at ``level`` that contains ``code``; ``NODATA`` if the code is coarser than that level.

        >>> legend().ancestor(3110, 2), legend().ancestor(31, 3)
        (31, 0)
        """
        current: int | None = code
        while current is not None and self.classes[current].level > level:
            current = self.classes[current].parent
        return current if current is not None and self.classes[current].level == level else NODATA

    def remap(self, codes: npt.ArrayLike, level: int, where: str = "array") -> Codes:
        """Map codes of any level to ``level``.

        Args:
            codes: integer codes of any shape; 0 is nodata.
            level: target level, 1 to 4.
            where: name of the array, for error messages.

        Returns:
            uint16 of the same shape; 0 for nodata and for codes coarser than ``level``.

        Raises:
            LulcbenchError: a code is not in the legend; states the codes and their first positions.
        """
        self.codes(level)
        return self._lookup(codes, self._remap[level], where).astype(np.uint16)

    def encode(self, codes: npt.ArrayLike, level: int, where: str = "array") -> Indices:
        """Convert codes of any level to class indices of ``level``: uint8, ``IGNORE_INDEX`` for ignored pixels.

        Raises:
            LulcbenchError: a code is not in the legend.
        """
        self.codes(level)
        return self._lookup(codes, self._encode[level], where).astype(np.uint8)

    def decode(self, indices: npt.ArrayLike, level: int, where: str = "array") -> Codes:
        """Convert class indices of ``level`` to codes: uint16, 0 for ``IGNORE_INDEX``.

        Raises:
            LulcbenchError: an index is neither a class of that level nor ``IGNORE_INDEX``.
        """
        table = np.full(65536, -1, np.int32)
        table[: len(self.codes(level))] = self.codes(level)
        table[IGNORE_INDEX] = NODATA
        return self._lookup(indices, table, where, "class index").astype(np.uint16)

    def parents(self, level: int, to: int) -> npt.NDArray[np.intp]:
        """Class indices at level ``to`` of all classes of the finer ``level``: intp ``(n_classes(level),)``.

        >>> legend().parents(2, 1)
        array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 4, 4])
        """
        if to > level:
            raise LulcbenchError(f"Level {to} is finer than level {level}.", "Aggregate from fine to coarse.")
        return np.array([self.codes(to).index(self.ancestor(c, to)) for c in self.codes(level)], np.intp)

    def _lookup(
        self, values: npt.ArrayLike, table: npt.NDArray[Any], where: str, noun: str = "LUISA code"
    ) -> npt.NDArray[Any]:
        array = np.asarray(values)
        if not np.issubdtype(array.dtype, np.integer):
            raise LulcbenchError(f"{where} has {array.dtype}, not integers.", f"A {noun} is an integer.")
        if array.dtype not in (np.uint8, np.uint16) and array.size and (array.min() < 0 or array.max() > 65535):
            outside = array[(array < 0) | (array > 65535)]
            raise self._unknown(array, np.unique(outside), where, noun)
        result: npt.NDArray[Any] = table[array]
        if result.size and result.min() < 0:
            raise self._unknown(array, np.unique(array[result < 0]), where, noun)
        return result

    def _unknown(self, array: npt.NDArray[Any], bad: npt.NDArray[Any], where: str, noun: str) -> LulcbenchError:
        at = [f"{v} at {tuple(int(i) for i in np.argwhere(array == v)[0])}" for v in bad[:5]]
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        return LulcbenchError(
            f"Unknown {noun} in {where}: {', '.join(at)}{more}.",
            "Known codes are in lulcbench/data/luisa_legend.csv; 0 is nodata. Is this a LUISA map, or CORINE?",
        )


def _mean_color(colors: list[str]) -> str:
    rgb = np.array([list(bytes.fromhex(color[1:])) for color in colors]).mean(axis=0).round().astype(int)
    return "#{:02x}{:02x}{:02x}".format(*rgb)


@cache
def legend() -> Legend:
    """The LUISA legend, read once."""
    return Legend(data_text("luisa_legend.csv"))


def data_text(name: str) -> str:
    """Read a text file of ``lulcbench/data``."""
    return resources.files("lulcbench").joinpath("data", name).read_text(encoding="utf-8")
