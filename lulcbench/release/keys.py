"""Identities of arrays, and of tiles in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, NewType

from pydantic import Field
from pydantic_core import CoreSchema, core_schema

from lulcbench.errors import LulcbenchError

Row = NewType("Row", int)
"""Position of a tile along the tile axis of the arrays."""

TilePosition = NewType("TilePosition", int)
"""Position of a tile among the tiles of its split."""

ArrayName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
"""Name of a sensor or of a source of labels."""

_CLEAR = "-clear"
_KEY = re.compile(r"([a-z0-9][a-z0-9-]{0,31})_([0-9]{4})(?:-([0-9]{4}))?")


@dataclass(frozen=True, order=True, slots=True, init=False)
class ArrayKey:
    """Identity of an array: its content, and its year or span of years.

    Its text, ``sentinel2_2018`` or ``landsat_2000-2020``, is the name of the array in the release. Keys sort by name,
    then by time.

    Attributes:
        name: name of a sensor or of a source of labels: at most 32 lower-case letters, digits and hyphens.
        first: first year.
        last: last year, the same as the first unless the array holds a span.

    Raises:
        LulcbenchError: the name or the years are not of that form, or the span ends before it begins.

    Examples:
        >>> from lulcbench.release import ArrayKey
        >>> str(ArrayKey("sentinel2", 2018)), str(ArrayKey("landsat", 2000, 2020))
        ('sentinel2_2018', 'landsat_2000-2020')
        >>> ArrayKey.parse("landsat_2000-2020").covers(2012)
        True
    """

    name: str
    first: int
    last: int

    def __init__(self, name: str, first: int, last: int | None = None) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "last", first if last is None else last)
        if not _KEY.fullmatch(str(self)) or self.last < self.first:
            raise LulcbenchError(
                f"{str(self)!r} is not the name of an array.",
                "Use <name>_<year>, or <name>_<first year>-<last year>; names are lower-case letters, digits and '-'.",
            )

    def __str__(self) -> str:
        return f"{self.name}_{self.first}" if self.first == self.last else f"{self.name}_{self.first}-{self.last}"

    @classmethod
    def parse(cls, text: str) -> ArrayKey:
        """Parse the name of an array.

        Raises:
            LulcbenchError: the text is not the name of an array.
        """
        match = _KEY.fullmatch(text)
        if not match:
            raise LulcbenchError(
                f"{text[:80]!r} is not the name of an array.", "Names of arrays are such as sentinel2_2018."
            )
        key = cls(match[1], int(match[2]), int(match[3]) if match[3] else None)
        if str(key) != text:  # each array has one name
            raise LulcbenchError(f"{text!r} is not the name of an array.", f"A single year is written as {key}.")
        return key

    @property
    def clear(self) -> ArrayKey:
        """The array with the numbers of clear observations of this array of imagery.

        Raises:
            LulcbenchError: its name would be longer than names may be.

        Examples:
            >>> str(ArrayKey("sentinel2", 2018).clear)
            'sentinel2-clear_2018'
        """
        return ArrayKey(f"{self.name}{_CLEAR}", self.first, self.last)

    def covers(self, year: int) -> bool:
        """Whether a year is the year of the array, or in its span."""
        return self.first <= year <= self.last

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _validate(cls, value: Any) -> ArrayKey:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("the name of an array is a text")
        return cls.parse(value)
