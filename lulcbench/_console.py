"""Console, progress bars and error messages of the command lines."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

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

from lulcbench.errors import LulcbenchError, MissingPackageError

# Progress and messages go to stderr, results to stdout, so that output can be piped.
console = Console(stderr=True)
WIDE = 160  # columns of results that do not go to a terminal
_QUIET = threading.Event()  # whether progress bars are off


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
        disable=_QUIET.is_set(),
    )


@contextmanager
def counted_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with counts and times; yields a function of (steps done, total steps)."""
    with _gone_after_errors(progress()) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _gone_after_errors(bar: Progress) -> Iterator[Progress]:
    """A bar that leaves no line behind if the work fails, so that the error stands alone."""
    with bar:
        try:
            yield bar
        except BaseException:
            bar.live.transient = True
            raise


@contextmanager
def transfer_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar in bytes with speed; yields a function of (bytes done, total bytes)."""
    columns = (BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    made = Progress(TextColumn("[bold]{task.description:<12}"), *columns, console=console, disable=_QUIET.is_set())
    with _gone_after_errors(made) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def report(verbosity: int) -> None:
    """Set what is reported on stderr.

    Args:
        verbosity: -1: errors; 0: also warnings and progress; 1: also each step; 2: also details, and other libraries.
    """
    _QUIET.set() if verbosity < 0 else _QUIET.clear()
    levels = {
        -1: (logging.ERROR, logging.NOTSET),
        0: (logging.WARNING, logging.NOTSET),
        1: (logging.WARNING, logging.INFO),
    }
    everything, own = levels.get(verbosity, (logging.INFO, logging.DEBUG))
    logging.getLogger().setLevel(everything)
    logging.getLogger("lulcbench").setLevel(own)


def run(app: typer.Typer) -> None:
    """Run a command line; a ``LulcbenchError`` is printed as a message, with exit code 2, and so is a missing package.

    Warnings that the library logs, such as retries, appear between the progress bars.
    """
    handler = RichHandler(console=console, show_time=False, show_path=False)
    handler.setFormatter(_Harmless("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        app()
    except LulcbenchError as error:
        _show(error)
    except ModuleNotFoundError as error:
        missing = MissingPackageError.of(error)
        if missing is None:
            raise
        _show(missing)


def harmless(text: str) -> str:
    """A text of several lines without characters that a terminal would obey; messages quote files and servers."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


class _Harmless(logging.Formatter):
    """Formatter of records that do not control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def _show(error: LulcbenchError) -> NoReturn:
    console.print(f"[bold red]error:[/] {escape(harmless(error.what))}", highlight=False, soft_wrap=True)
    if error.remedy:
        console.print(f"  → {harmless(error.remedy)}", highlight=False, soft_wrap=True, markup=False)
    sys.exit(2)
