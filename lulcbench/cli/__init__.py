"""The ``lulcbench`` command."""

from __future__ import annotations

import typer

from lulcbench import _console
from lulcbench.cli import agree, areas, data, export, maps, score, spot, validate, verify, view

app = typer.Typer(
    help="Land use / land cover benchmark for Europe: inspect, download, check and plot releases, score predictions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _root() -> None:
    """Keep the commands subcommands even if there is only one."""


data.register(app)
export.register(app)
score.register(app)
validate.register(app)
areas.register(app)
agree.register(app)
maps.register(app)
verify.register(app)
spot.register(app)
view.register(app)


def main() -> None:
    """Entry point of the ``lulcbench`` script."""
    _console.run(app)
