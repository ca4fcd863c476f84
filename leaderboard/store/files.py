"""Writing of the files of the ledger: atomic, and never over an existing file."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any


def text_of(content: dict[str, Any]) -> bytes:
    """The text of a file of the ledger."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def create(path: Path, content: dict[str, Any]) -> bool:
    """Write a new file atomically; False if it exists. A hard link fails where a rename would replace the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        with temporary.open("xb") as file:
            file.write(text_of(content))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def canonical(content: Any) -> bytes:
    """JSON of which the SHA-256 is the digest of a content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
