"""Atomic writing of files, the error of a full disk, their SHA-256, and the base class of data stored in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lulcbench.errors import LulcbenchError

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]


def _printable(text: str) -> str:
    if bad := [c for c in text if not (c.isprintable() or c == "\n")]:
        raise ValueError(f"{text[:80]!r} has the character {bad[0]!r}, which cannot be shown")
    return text


Text = Annotated[str, AfterValidator(_printable)]  # for people to read: it must not control a terminal


class Frozen(BaseModel):
    """Base class of stored data: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def hash_file(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people and programs: indented by one space, UTF-8; atomically."""
    write_atomic(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically: to a temporary file in the same folder, which is synced and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@contextmanager
def full_disk_named(folder: Path, remedy: str) -> Iterator[None]:
    """Turn the error of a full disk or quota into a ``LulcbenchError`` that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise LulcbenchError(f"The disk of {folder} is full.", remedy) from error
