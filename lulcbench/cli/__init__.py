"""The ``lulcbench`` command."""

from __future__ import annotations

from typing import Annotated

import typer

from lulcbench import __version__, _console
from lulcbench.cli import agree, areas, data, export, maps, releases, score, spot, trend, validate, verify, view
from lulcbench.errors import LulcbenchError

app = typer.Typer(
    help="Land use / land cover benchmark for Europe: inspect, download, check and plot releases, score predictions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lulcbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Report each step; -vv also those of other libraries.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Report errors alone, without progress bars.")] = False,
) -> None:
    # Its docstring would replace the help of the command.
    if verbose and quiet:
        raise LulcbenchError("--verbose and --quiet contradict each other.", "Leave one of them out.")
    _console.report(-1 if quiet else verbose)


data.register(app)
export.register(app)
releases.register(app)
score.register(app)
validate.register(app)
areas.register(app)
trend.register(app)
agree.register(app)
maps.register(app)
verify.register(app)
spot.register(app)
view.register(app)


def main() -> None:
    """Entry point of the ``lulcbench`` script."""
    _console.run(app)
