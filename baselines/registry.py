"""Registries: a kind of data, task or model is one class in one file, found by the name that configs give it."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lulcbench.errors import LulcbenchError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_several)]  # one name alone will do


class Part(BaseModel):
    """Base of all parts of a config: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kind(Part):
    """Base of what is registered: a section of a config whose ``kind`` says which class it is.

    A subclass declares ``kind: Literal["its-name"] = "its-name"``.
    """

    kind: str


class Registry[Base: Kind]:
    """Classes by kind.

    Args:
        what: name of a member, for errors.
        base: class of all members.

    Example:
        >>> SHAPES = Registry("shape", Kind)
        >>> @SHAPES.register
        ... class Square(Kind):
        ...     kind: str = "square"
        ...     side: Positive = 1.0
        >>> SHAPES.parse({"kind": "square", "side": 2})
        Square(kind='square', side=2.0)
    """

    def __init__(self, what: str, base: type[Base]) -> None:
        self.what, self.base = what, base
        self._classes: dict[str, type[Base]] = {}

    def register[Class: Kind](self, cls: type[Class]) -> type[Class]:
        """Class decorator: adds the class under the default of its ``kind``.

        Raises:
            TypeError: it is of another base, or there is one of that kind already.
        """
        kind = cls.model_fields["kind"].default
        if not issubclass(cls, self.base) or not isinstance(kind, str):
            raise TypeError(f"{cls.__name__} is not a {self.base.__name__} with a kind")
        if kind in self._classes:
            raise TypeError(f"there is a {self.what} {kind!r} already: {self._classes[kind].__name__}")
        self._classes[kind] = cls
        return cls  # type: ignore[return-value]  # issubclass narrowed it

    def unregister(self, kind: str) -> None:
        """Remove a class."""
        del self._classes[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def __contains__(self, kind: object) -> bool:
        return kind in self._classes

    def __getitem__(self, kind: str) -> type[Base]:
        return self._classes[kind]

    def parse(self, content: Any) -> Base:
        """A section of a config as an object of the class of its kind; for use as a pydantic validator.

        Raises:
            ValueError: there is no such kind.
            ValidationError: the section does not fit the class.
        """
        if isinstance(content, self.base):
            return content
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind not in self._classes:
            raise ValueError(f"there is no {self.what} of kind {kind!r}; there are {', '.join(self)}")
        return self._classes[kind].model_validate(content)


def discover(package: str, path: Iterable[str]) -> None:
    """Import all modules of a package, so that they register what they hold; those that begin with _ are left out."""
    for module in pkgutil.iter_modules(path):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package}.{module.name}")


def expand(path: str) -> Path:
    """A path of a config with ``$NAME`` and ``~`` replaced.

    Raises:
        LulcbenchError: a variable is not set, or empty.
    """
    for name in re.findall(r"\$\{?(\w+)", path):
        if not os.environ.get(name):
            raise LulcbenchError(f"{path}: {name} is not set.", f"Set {name} to the folder, or write the path.")
    return Path(os.path.expandvars(path)).expanduser()
