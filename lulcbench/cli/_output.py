"""Options of the files that commands write, checked before the work, and results as JSON."""

from __future__ import annotations

import io
import json as encoder
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from lulcbench._files import write_atomic, write_json
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from rich.console import Console

    from lulcbench.plotting.picture import Picture

STDOUT = Path("-")
FIGURES = (".png", ".pdf", ".svg", ".svgz", ".eps", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def refuse_given(context: typer.Context, options: Sequence[str], condition: str, remedy: str) -> None:
    """Refuse options that the user stated although they have no effect here: the result would look as if they had.

    Args:
        context: of the command.
        options: their names, such as ``--region-layer``.
        condition: why they have none, such as ``without --regions``.
        remedy: what to do besides leaving them out.

    Raises:
        LulcbenchError: one of them was given, on the command line or by a variable of the environment.
    """
    names = {option: parameter.name for parameter in context.command.params for option in parameter.opts}
    for option in options:
        source = context.get_parameter_source(names[option] or "")
        if source is not None and not source.name.startswith("DEFAULT"):
            raise LulcbenchError(f"{option} has no effect {condition}.", f"Leave it out, or {remedy}.")


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


def writable_figure(path: Path | None) -> Path | None:
    """Callback of options of figures to write.

    Raises:
        LulcbenchError: no file can be written there, or its name does not end with a format of figures.
    """
    if path is not None and path.suffix.lower() not in FIGURES:
        raise LulcbenchError(
            f"Cannot write {path}: it does not end with a format of figures.",
            "Use a name that ends with .png, .pdf or .svg.",
        )
    return writable_file(path)


def save_figure(drawn: Picture, path: Path, dpi: int = 150) -> None:
    """Write a figure atomically to a path that ``writable_figure`` accepts."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format=path.suffix[1:].lower(), dpi=dpi)
    write_atomic(path, buffer.getvalue())


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


def mark_simulated(out: Console, simulated: bool) -> None:
    """Print that results are of simulated data, if they are."""
    if simulated:
        out.print("[bold red]SIMULATED DATA[/]: results do not apply to any real location.")


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
