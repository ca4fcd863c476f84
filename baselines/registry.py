"""Registries: each kind of data, task or model is one class in one file; configs select it by name."""

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


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_as_tuple)]  # a string is one name


class Part(BaseModel):
    """Base class of all sections of a config: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kind(Part):
    """Base class of registered sections, whose ``kind`` selects the class.

    A subclass declares ``kind: Literal["its-name"] = "its-name"``.
    """

    kind: str


class Registry[Base: Kind]:
    """Registry of classes by kind.

    Args:
        what: what the classes are, for error messages, such as ``model``.
        base: base class of all registered classes.

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
        """Class decorator: register the class under the default of its ``kind``.

        Raises:
            TypeError: the class has another base class, or the kind is already registered.
        """
        kind = cls.model_fields["kind"].default
        if not issubclass(cls, self.base) or not isinstance(kind, str):
            raise TypeError(f"{cls.__name__} is not a {self.base.__name__} with a kind")
        if kind in self._classes:
            raise TypeError(f"{self.what} {kind!r} is already registered: {self._classes[kind].__name__}")
        self._classes[kind] = cls
        return cls  # type: ignore[return-value]  # issubclass narrowed it

    def unregister(self, kind: str) -> None:
        """Remove the class of a kind."""
        del self._classes[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def __contains__(self, kind: object) -> bool:
        return kind in self._classes

    def __getitem__(self, kind: str) -> type[Base]:
        return self._classes[kind]

    def parse(self, content: Any) -> Base:
        """Validate a section of a config with the class of its kind; for use as a pydantic validator.

        Raises:
            ValueError: the kind is unknown.
            ValidationError: the section is not valid for the class.
        """
        if isinstance(content, self.base):
            return content
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind not in self._classes:
            raise ValueError(f"there is no {self.what} of kind {kind!r}; there are {', '.join(self)}")
        return self._classes[kind].model_validate(content)


def discover(package: str, path: Iterable[str]) -> None:
    """Import all modules of a package, except those that begin with ``_``, so that their classes are registered."""
    for module in pkgutil.iter_modules(path):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package}.{module.name}")


def expand(path: str) -> Path:
    """Expand ``$NAME`` and ``~`` in a path of a config.

    Raises:
        LulcbenchError: a variable is not set, or empty.
    """
    for name in re.findall(r"\$\{?(\w+)", path):
        if not os.environ.get(name):
            raise LulcbenchError(f"{path}: {name} is not set.", f"Set {name} to the folder, or write the path.")
    return Path(os.path.expandvars(path)).expanduser()
