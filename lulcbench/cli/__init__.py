"""The ``lulcbench`` command."""

from __future__ import annotations

import typer

from lulcbench import _console
from lulcbench.cli import data, lucas, score

app = typer.Typer(
    help="Land use / land cover benchmark for Europe: look at, download, verify, plot and score releases.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Keeps the commands as subcommands however many there are."""


data.register(app)
score.register(app)
lucas.register(app)


def main() -> None:
    """Entry point of the ``lulcbench`` script."""
    _console.run(app)
