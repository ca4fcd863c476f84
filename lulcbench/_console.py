"""Console, progress bars and error messages of the command lines."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich import box
from rich.console import Console
from rich.logging import RichHandler
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
from rich.table import Column, Table

from lulcbench.errors import LulcbenchError

# Progress and messages go to stderr, results to stdout, so that output can be piped.
console = Console(stderr=True)
WIDE = 160  # columns of results that do not go to a terminal


def result_console() -> Console:
    """The console of results; lines of tables are not broken after 80 columns where no terminal shows them."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE)


def new_table(*columns: str | Column, title: str | None = None) -> Table:
    """A table whose cells are wrapped where there is no room for them, never cut off."""
    made = [Column(column) if isinstance(column, str) else column for column in columns]
    for column in made:
        column.overflow = "fold"
    return Table(*made, title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


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


@contextmanager
def counted_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with counts and times; yields a function of (steps done, total steps)."""
    with progress() as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def transfer_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar in bytes with speed; yields a function of (bytes done, total bytes)."""
    columns = (BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("[bold]{task.description:<12}"), *columns, console=console) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def run(app: typer.Typer) -> None:
    """Run a command line; a ``LulcbenchError`` is printed as a message, with exit code 2.

    Warnings that the library logs, such as retries, appear between the progress bars.
    """
    handler = RichHandler(console=console, show_time=False, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    try:
        app()
    except LulcbenchError as error:
        console.print(f"[bold red]error:[/] {escape(error.what)}", highlight=False, soft_wrap=True)
        if error.remedy:
            console.print(f"  → {error.remedy}", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)
