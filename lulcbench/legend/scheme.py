"""The classes of a map, with levels or flat: LUISA down to some level, or the classes of a legend subset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lulcbench.errors import CorruptFileError, UnsupportedFormatError
from lulcbench.legend.classes import IGNORE_INDEX, LEVELS, NODATA, Codes, Indices, LandClass, legend
from lulcbench.legend.decisions import aggregate_over, decide_over
from lulcbench.legend.subset import LegendSubset

SUBSET = "lulcbench:subset"  # attribute of maps and models: name → LUISA codes
_FLAT = "classes"  # name of the only class layer of a map without levels


class ClassScheme:
    """The classes of a map. Models predict those of the deepest level; coarser ones are their ancestors.

    ``ClassScheme.luisa(level)`` has the levels 1 to ``level``. ``ClassScheme.of_subset(subset)`` has one level, whose
    codes are 1, 2, …: the class indices plus 1.

    Attributes:
        subset: the legend subset; None for LUISA.
        depth: number of levels.
        digest: SHA-256 of the definition of the classes.
        classes: by code, all that a layer of the map may have.

    Examples:
        >>> ClassScheme.luisa(2).layers
        ('class_1', 'class_2')
        >>> city = ClassScheme.of_subset(LegendSubset({"built-up": [11, 121], "forest": [31]}))
        >>> city.layers, city.codes(), city.names
        (('classes',), (1, 2), ('built-up', 'forest'))
        >>> city.from_luisa([1111, 31, 2110, 0])
        array([1, 2, 0, 0], dtype=uint16)
    """

    def __init__(self, levels: tuple[int, ...], subset: LegendSubset | None = None) -> None:
        self.subset, self.depth = subset, len(levels)
        if subset is None:
            self.digest, self.classes = legend().digest, dict(legend().classes)
            self.layers = tuple(f"class_{level}" for level in levels)
            self._codes = {level: legend().codes(level) for level in levels}
            self._over = {level: legend().parents(self.depth, level) for level in levels}
        else:
            colors = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in subset.colors()[: len(subset.names)]]
            entries = enumerate(zip(subset.names, colors, strict=True), start=1)
            self.digest = subset.digest
            self.classes = {code: LandClass(code, name, 1, None, color) for code, (name, color) in entries}
            self.layers = (_FLAT,)
            self._codes = {1: tuple(self.classes)}
            self._over = {1: np.arange(len(self.classes), dtype=np.intp)}

    @classmethod
    def luisa(cls, level: int) -> ClassScheme:
        """The LUISA classes of a level and those above them.

        Raises:
            LulcbenchError: there is no such level.
        """
        legend().codes(level)
        return _luisa(level)

    @classmethod
    def of_subset(cls, subset: LegendSubset) -> Self:
        """The classes of a legend subset."""
        return cls((1,), subset)

    @classmethod
    def stored(cls, attributes: Mapping[str, Any], layers: Collection[str], where: str) -> ClassScheme:
        """The scheme of a map that ``lulcbench map`` wrote.

        Args:
            attributes: of its hierarchy.
            layers: names of its arrays.
            where: its name, for error messages.

        Raises:
            UnsupportedFormatError: its classes are defined otherwise than in this version.
            CorruptFileError: the definition of its classes is not valid.
        """
        classes = attributes.get(SUBSET)
        if classes is None:
            found = cls.luisa(max((n for n in LEVELS if f"class_{n}" in layers), default=LEVELS[-1]))
        elif isinstance(classes, dict) and all(isinstance(codes, list) for codes in classes.values()):
            found = cls.of_subset(LegendSubset(classes, where))
        else:
            raise CorruptFileError(f"The legend subset of {where} is not valid.", "Write the map again.")
        if attributes.get("legend_digest") != found.digest:
            raise UnsupportedFormatError(
                f"{where} has another legend than this version of lulcbench.", "Write the map again."
            )
        return found

    @property
    def levels(self) -> tuple[int, ...]:
        """1 to ``depth``."""
        return tuple(self._codes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes of the deepest level, in the order of the class indices."""
        return tuple(self.classes[code].name for code in self.codes())

    @property
    def of_labels(self) -> ClassScheme:
        """The scheme of labels that a map is compared with: LUISA with all levels, or these classes."""
        return ClassScheme.luisa(LEVELS[-1]) if self.subset is None else self

    @property
    def label(self) -> str:
        """What the classes are, for titles: ``LUISA`` or ``legend subset``."""
        return "LUISA" if self.subset is None else "legend subset"

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of a map or a model that state the legend subset; empty for LUISA."""
        if self.subset is None:
            return {}
        return {SUBSET: {name: list(own) for name, own in zip(self.subset.names, self.subset.codes, strict=True)}}

    def level_name(self, level: int) -> str:
        """A level as a part of a sentence; empty if there is one level only.

        >>> ClassScheme.luisa(2).level_name(1)
        ' of level 1'
        """
        return f" of level {level}" if self.subset is None else ""

    def luisa_codes(self, code: int) -> tuple[int, ...]:
        """LUISA codes that a class stands for."""
        return (code,) if self.subset is None else self.subset.codes[code - 1]

    def codes(self, level: int | None = None) -> tuple[int, ...]:
        """Codes of a level, the deepest by default; the position is the class index."""
        return self._codes[level or self.depth]

    def codes_over(self, level: int) -> Codes:
        """Codes at a level of all classes of the deepest level: uint16 ``(class,)``."""
        codes: Codes = np.array(self._codes[level], np.uint16)[self._over[level]]
        return codes

    def over(self, level: int) -> npt.NDArray[np.intp]:
        """Class indices at a level of all classes of the deepest level: intp ``(class,)``."""
        return self._over[level]

    def from_luisa(self, codes: npt.ArrayLike, level: int | None = None, where: str = "array") -> Codes:
        """Convert LUISA codes of any level to codes of a level, the deepest by default.

        Returns:
            uint16 of the same shape; 0 for nodata, for codes that are too coarse, and for those of none of the classes.

        Raises:
            LulcbenchError: a code is not in the LUISA legend.
        """
        if self.subset is None:
            return legend().remap(codes, level or self.depth, where)
        index = self.subset.encode(codes, where)
        return np.where(index == IGNORE_INDEX, NODATA, index.astype(np.uint16) + 1).astype(np.uint16)

    def encode(self, codes: npt.ArrayLike, level: int | None = None, where: str = "array") -> Indices:
        """Convert LUISA codes of any level to class indices of a level, the deepest by default.

        Returns:
            uint8 of the same shape; ``IGNORE_INDEX`` for nodata, for codes that are too coarse, and for those of none
            of the classes.

        Raises:
            LulcbenchError: a code is not in the LUISA legend.

        Examples:
            >>> ClassScheme.luisa(1).encode([1111, 31, 0]).tolist()
            [0, 2, 255]
        """
        if self.subset is None:
            return legend().encode(codes, level or self.depth, where)
        return self.subset.encode(codes, where)

    def decide(self, p: npt.NDArray[np.floating]) -> npt.NDArray[np.intp]:
        """Class indices ``(…)`` of probabilities ``(class, …)``, decided from the top down; see ``decide``."""
        return decide_over(p, [self._over[level] for level in self.levels])

    def aggregate(self, p: npt.NDArray[np.floating], level: int) -> npt.NDArray[np.floating]:
        """Probabilities of the classes of a level, sums over those ``(class, …)`` of the deepest one."""
        return aggregate_over(p, self._over[level])

    @property
    def artificial(self) -> npt.NDArray[np.bool_]:
        """Which classes of the deepest level are artificial surfaces alone: bool ``(class,)``."""
        tops = ({legend().ancestor(own, 1) for own in self.luisa_codes(code)} for code in self.codes())
        return np.array([top == {1} for top in tops])


@cache
def _luisa(level: int) -> ClassScheme:
    return ClassScheme(LEVELS[:level])
