"""Legend subsets: study classes, each of some LUISA codes, declared in a TOML file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from lulcbench._parsing import MAX_TEXT_BYTES, parse_toml, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.legend.classes import IGNORE_INDEX, LEVELS, Indices, legend

_KEYS = {"title", "classes"}


class LegendSubset:
    """Study classes; pixels of other LUISA classes are ignored.

    Args:
        classes: name → LUISA codes of any level; a code stands for all its descendants.
        where: name of the subset, for error messages.

    Attributes:
        names: names of the classes; the position is the class index.
        codes: codes of each class, as given.
        digest: SHA-256 of names and codes, in their order, and of the LUISA legend.

    Raises:
        LulcbenchError: there are fewer than two classes or more than 254, a class has no code, a code is unknown, or
            two classes overlap.

    Examples:
        >>> subset = LegendSubset({"built-up": [11, 121], "forest": [31]})
        >>> subset.encode(np.array([1111, 1210, 3120, 31, 2110, 0]))
        array([  0,   0,   1,   1, 255, 255], dtype=uint8)
        >>> LegendSubset({"urban": [11], "dense": [1111]})
        Traceback (most recent call last):
            ...
        lulcbench.errors.LulcbenchError: subset: code 1111 is in 'urban' and in 'dense'.
          → A code stands for all its descendants: name each of them once.
    """

    def __init__(self, classes: Mapping[str, Sequence[int]], where: str = "subset") -> None:
        if not 2 <= len(classes) < IGNORE_INDEX:
            raise LulcbenchError(f"{where} has {len(classes)} classes.", f"Name 2 to {IGNORE_INDEX - 1}.")
        self.names = tuple(classes)
        self.codes = tuple(tuple(codes) for codes in classes.values())
        of_leaf: dict[int, int] = {}  # code of level 4 → class index
        for index, (name, codes) in enumerate(zip(self.names, self.codes, strict=True)):
            if not codes:
                raise LulcbenchError(f"{where}: class {name!r} has no codes.", "List its LUISA codes.")
            for code in codes:
                if code not in legend().classes:
                    raise LulcbenchError(
                        f"{where}: {code!r} of class {name!r} is not a LUISA code.",
                        "Known codes are in lulcbench/data/luisa_legend.csv.",
                    )
                for leaf in self._leaves(code):
                    if leaf in of_leaf:
                        other = self.names[of_leaf[leaf]]
                        raise LulcbenchError(
                            f"{where}: code {leaf} is in {other!r} and in {name!r}.",
                            "A code stands for all its descendants: name each of them once.",
                        )
                    of_leaf[leaf] = index
        content = json.dumps([self.names, self.codes, legend().digest])
        self.digest = hashlib.sha256(content.encode()).hexdigest()
        self._table = np.full(65536, IGNORE_INDEX, np.uint8)
        for code in legend().classes:
            found = {of_leaf.get(leaf, IGNORE_INDEX) for leaf in self._leaves(code)}
            # A coarse code is of a class only if all its descendants are.
            self._table[code] = found.pop() if len(found) == 1 else IGNORE_INDEX

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a TOML file with a ``title`` and a table ``classes``: name → codes.

        Raises:
            LulcbenchError: the file is missing or is not TOML, has other keys, or its classes are invalid.
        """
        path = Path(path)
        remedy = 'Write title = "…" and, under [classes], name = [codes].'
        if not path.is_file():
            raise LulcbenchError(f"The legend subset {path} is missing.", remedy)
        content = parse_toml(read_limited(path, MAX_TEXT_BYTES), str(path), remedy)
        if unknown := sorted(set(content) - _KEYS):
            raise LulcbenchError(f"{path} has the unknown key {unknown[0]!r}.", remedy)
        classes = content.get("classes")
        if not isinstance(classes, dict) or not all(
            isinstance(codes, list) and all(type(code) is int for code in codes) for codes in classes.values()
        ):
            raise LulcbenchError(f"{path} has no valid table 'classes'.", remedy)
        return cls(classes, str(path))

    def encode(self, codes: npt.ArrayLike, where: str = "array") -> Indices:
        """Convert LUISA codes of any level to class indices: uint8, ``IGNORE_INDEX`` for ignored pixels.

        Raises:
            LulcbenchError: a code is not in the legend.
        """
        array = np.asarray(codes)
        legend().encode(array, 1, where)  # refuses unknown codes
        encoded: Indices = self._table[array]
        return encoded

    def table(self, level: int) -> Indices:
        """Class indices of the subset for class indices of a LUISA level: uint8 ``(256,)``, for ``table[indices]``.

        Classes of a level that are only partly in a class of the subset are ignored.
        """
        table = np.full(256, IGNORE_INDEX, np.uint8)
        codes = legend().codes(level)
        table[: len(codes)] = self._table[list(codes)]
        return table

    def crosswalk(self, level: int) -> Indices:
        """As ``table``, for maps of a level that must distinguish all classes of the subset.

        Raises:
            LulcbenchError: the level is too coarse for a class; names these classes.

        Examples:
            >>> forests = LegendSubset({"broadleaved": [311], "coniferous": [312]})
            >>> [forests.names[i] for i in forests.crosswalk(3) if i != 255]
            ['broadleaved', 'coniferous']
            >>> forests.crosswalk(2)
            Traceback (most recent call last):
                ...
            lulcbench.errors.LulcbenchError: Level 2 has no class of broadleaved, coniferous.
              → Use maps of level 3 or finer.
        """
        table = self.table(level)
        if lacking := [name for index, name in enumerate(self.names) if not (table == index).any()]:
            finest = max(legend().classes[code].level for codes in self.codes for code in codes)
            raise LulcbenchError(
                f"Level {level} has no class of {', '.join(lacking)}.", f"Use maps of level {finest} or finer."
            )
        return table

    def colors(self) -> Indices:
        """Colours of class indices: RGB as uint8 ``(256, 3)``, the means of their codes; ignored pixels are white."""
        table = np.full((256, 3), 255, np.uint8)
        for index, codes in enumerate(self.codes):
            rgb = [list(bytes.fromhex(legend().classes[code].color[1:])) for code in codes]
            table[index] = np.mean(rgb, axis=0).round()
        return table

    @staticmethod
    def _leaves(code: int) -> list[int]:
        level = legend().classes[code].level
        return [leaf for leaf in legend().codes(LEVELS[-1]) if legend().ancestor(leaf, level) == code]
