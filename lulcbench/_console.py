"""What the command lines share: one console, progress bars, and errors that read as messages."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lulcbench.errors import LulcbenchError

# Progress and messages go to stderr, results to stdout, so that output can be piped.
console = Console(stderr=True)


def progress() -> Progress:
    """A progress bar with counts and times; use it as a context manager."""
    return Progress(
        TextColumn("[bold]{task.description:<12}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def transfer_progress(visible: bool = True) -> Progress:
    """A progress bar in bytes, with speed; use it as a context manager."""
    return Progress(
        TextColumn("[bold]{task.description:<12}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not visible,
    )


def run(app: typer.Typer) -> None:
    """Run a command line: bad input becomes a message and exit code 2, bugs keep their traceback."""
    try:
        app()
    except LulcbenchError as error:
        console.print(f"[bold red]error:[/] {escape(error.what)}", highlight=False, soft_wrap=True)
        if error.remedy:
            console.print(f"  → {error.remedy}", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)
