"""Options of the files that commands write, checked before the work, and results as JSON."""

from __future__ import annotations

import json as encoder
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from lulcbench._files import write_atomic, write_json
from lulcbench.errors import LulcbenchError

STDOUT = Path("-")


def writable_file(path: Path | None) -> Path | None:
    """Callback of options of files to write.

    Raises:
        LulcbenchError: no file can be written there.
    """
    if path is not None and path != STDOUT:
        if path.is_dir():
            raise LulcbenchError(f"Cannot write {path}: it is a folder.", "Give the name of a file.")
        _check(path, path.parent)
    return path


def writable_folder(path: Path | None) -> Path | None:
    """Callback of options of folders to write.

    Raises:
        LulcbenchError: no file can be written there.
    """
    if path is not None:
        if path.is_file():
            raise LulcbenchError(f"Cannot write {path}: it is a file.", "Give the name of a folder.")
        _check(path, path)
    return path


def _check(path: Path, folder: Path) -> None:
    """Make and remove a file in the folder, or in the nearest one that exists; nothing is left behind."""
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LulcbenchError(
            f"Cannot write {path}: {error.strerror or error}.", "Choose a folder that can be written and has room."
        ) from error


Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Also write the result to this JSON file; - prints it instead of tables.",
        callback=writable_file,
    ),
]


def put_json(json: Path | None, content: Any) -> bool:
    """Write a result as the option ``Json`` requests; whether the tables are to be printed too."""
    if json is None:
        return True
    model = isinstance(content, BaseModel)
    if json != STDOUT:
        if model:
            write_atomic(json, (content.model_dump_json(indent=1) + "\n").encode())
        else:
            write_json(json, content)
        return True
    typer.echo(content.model_dump_json() if model else encoder.dumps(content, ensure_ascii=False))
    return False
