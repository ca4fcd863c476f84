"""Stores: the files below one address of any type.

``open_store(url)`` returns the ``Store`` of an address. Each type of address is one class in one module of
``lulcbench/remote/backends/``; adding a module there requires no other change.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from lulcbench._parsing import parse_json
from lulcbench.errors import CorruptFileError, LulcbenchError, NetworkError
from lulcbench.remote.addresses import is_remote, join, scheme_of
from lulcbench.remote.retry import retrying

Progress = Callable[[int, int], None]  # called with the amount done and the total

MAX_MANIFEST_BYTES = 64 * 2**20


class ListedFile(Protocol):
    """A file as a manifest lists it: path below the release, size in bytes, SHA-256."""

    @property
    def path(self) -> str: ...  # noqa: D102
    @property
    def bytes(self) -> int: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Kvstore:
    """TensorStore's view of a folder.

    Attributes:
        spec: a TensorStore key-value store specification.
        lifetime: seconds after which the specification expires; None if it does not.
        complete: whether all files of the folder are known to exist. Otherwise a missing file reads as nodata.
    """

    spec: dict[str, Any]
    lifetime: float | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """A release to publish: a folder of files, and the manifest, which completes the release.

    Attributes:
        folder: folder of the files.
        files: all files except the manifest.
        manifest: path of the manifest in the folder.
        id: name and version, such as ``luisa-sim-1.0.0``.
        version: such as ``1.0.0``.
        digest: digest of the content, which the manifest states.
    """

    folder: Path
    files: Sequence[ListedFile]
    manifest: str
    id: str
    version: str
    digest: str

    @property
    def folders(self) -> list[str]:
        """Folders of arrays, sorted; readers would take other files in them for shards of the release."""
        return sorted({file.path.partition("/")[0] for file in self.files if "/" in file.path})

    def check_same(self, manifest: bytes, where: str) -> None:
        """Refuse to replace another release.

        Raises:
            LulcbenchError: the manifest at ``where`` is of another release.
        """
        try:
            digest = parse_json(manifest, where, max_bytes=MAX_MANIFEST_BYTES).get("digest")
        except LulcbenchError:
            digest = None
        if digest != self.digest:
            raise LulcbenchError(
                f"{where} is another release of that version.", "Raise 'version' in the recipe: releases are immutable."
            )


class Store(ABC):
    """The files below one address.

    Subclasses list their URL schemes, by which ``open_store`` finds them.

    Args:
        url: the address.

    Attributes:
        url: the address; with a fixed revision after ``pinned``.
        has_revisions: whether stores of this type have branches, tags or commits.
        revision: the one that the address names.
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    remedy: ClassVar[str] = "Check address and network."
    has_revisions: ClassVar[bool] = False
    revision: str | None = None

    def __init__(self, url: str) -> None:
        self.url = url

    def at(self, revision: str) -> Self:
        """The store at a branch, tag or commit; stores without revisions return themselves."""
        return self

    def pinned(self) -> Self:
        """The store at its current revision, so that all later reads are consistent.

        Stores without revisions return themselves: the digest of the manifest identifies all bytes.

        Raises:
            ReleaseNotFoundError: there is no such repository or revision.
            NetworkError: the store cannot be reached.
        """
        return self

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes ``start`` to ``stop`` (exclusive) of a file in pieces; fewer if the file ends before.

        One attempt, without retries: callers continue after an error.

        Raises:
            FileNotFoundError: there is no such file.
            PermissionError: the store refuses.
            Exception: errors of the underlying library for broken connections.
        """

    def folders_with(self, path: str) -> list[str]:
        """Addresses of the folders directly below this one that have a file of that path.

        Stores that cannot list folders find none.

        Raises:
            FileNotFoundError: there is no such folder.
            NetworkError: the store cannot be read.
        """
        return []

    def read_bytes(self, path: str, limit: int) -> bytes:
        """Read a small file completely, with retries.

        Raises:
            FileNotFoundError: there is no such file.
            NetworkError: the store cannot be read.
            CorruptFileError: the file is larger than ``limit`` bytes.
        """

        def attempt() -> bytes:
            content = bytearray()
            for piece in self.read(path, 0, limit + 1):
                content += piece
            return bytes(content)

        content = self.ask(attempt, path)
        if len(content) > limit:
            raise CorruptFileError(f"{join(self.url, path)} is larger than {limit} bytes.", "Check the address.")
        return content

    @abstractmethod
    def kvstore(self, folder: str, files: Sequence[ListedFile]) -> Kvstore:
        """TensorStore's view of a folder of one array.

        Args:
            folder: path below the store.
            files: all files below it.

        Raises:
            FileNotFoundError: a file is missing or has another size, if the store checks this.
            NetworkError: the store cannot be reached.
            LulcbenchError: stores of this type cannot be streamed.
        """

    def publish(self, publication: Publication, progress: Progress = lambda done, total: None) -> str:
        """Write a release, the manifest last; continues an interrupted call.

        Args:
            publication: release to write.
            progress: called with the number of files written and of all files.

        Returns:
            The address of the release.

        Raises:
            LulcbenchError: the address has another release of this version, or stores of this type are read-only.
            NetworkError: the store refuses or cannot be reached.
        """
        raise LulcbenchError(f"Cannot publish to {self.url}.", "Use hf://, s3:// or another object store, or a folder.")

    def ask[T](self, attempt: Callable[[], T], path: str = "") -> T:
        """Call ``attempt`` with the common retry policy.

        Raises:
            FileNotFoundError: ``attempt`` raised it.
            LulcbenchError: ``attempt`` raised it.
            NetworkError: any other error, after retries.
        """
        where = join(self.url, path) if path else self.url
        try:
            return retrying(where)(attempt)
        except (LulcbenchError, FileNotFoundError):
            raise
        except Exception as error:  # see retry
            raise self.failed(f"Cannot read {where}", error) from error

    def failed(self, what: str, error: Exception) -> NetworkError:
        """Convert an error of an underlying library."""
        return NetworkError(f"{what}: {describe(error)}.", self.remedy)


def describe(error: Exception) -> str:
    """An exception of a library in one line."""
    text = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return text if type(error).__name__ in text else f"{type(error).__name__}: {text}"


def open_store(url: str | os.PathLike[str]) -> Store:
    """The store at an address: ``hf://owner/name[@revision][/path]``, a URL that fsspec knows, or a folder.

    Nothing is read, and a folder need not exist.

    Raises:
        LulcbenchError: no backend supports this type of URL.

    Examples:
        >>> from lulcbench.remote.stores import open_store
        >>> open_store("https://example.org/pilot12").url
        'https://example.org/pilot12'
    """
    address = os.fspath(url)
    scheme = scheme_of(address)
    backends = _backends()
    return backends.get(scheme, backends["*"])(address)


def pinned(root: str | os.PathLike[str]) -> str:
    """The address with a fixed revision (see ``Store.pinned``); paths of folders are unchanged."""
    return open_store(root).pinned().url if is_remote(root) else os.fspath(root)


def _backends() -> dict[str, type[Store]]:
    """Scheme → backend; ``"*"`` stands for all other schemes, ``""`` for folders."""
    if not _REGISTRY:
        import lulcbench.remote.backends as package

        modules = [
            importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)
        ]
        for module in modules:
            for kind in vars(module).values():
                if isinstance(kind, type) and issubclass(kind, Store) and kind.__module__ == module.__name__:
                    _REGISTRY.update(dict.fromkeys(kind.schemes, kind))
    return _REGISTRY


_REGISTRY: dict[str, type[Store]] = {}
