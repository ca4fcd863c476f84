"""The command ``view``: a folder in which a browser shows maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lulcbench._console import progress


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(view)


def view(
    maps: Annotated[list[Path], typer.Argument(metavar="MAP...", help="Folders that 'lulcbench map' wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the site to write; an older site there is replaced.")],
    title: Annotated[str | None, typer.Option(help="Title of the page; by default that of the first map.")] = None,
) -> None:
    """Write a static folder that shows maps in a browser, without any other server than one that delivers files."""
    from lulcbench.maps.viewer import write_site

    with progress() as bar:
        task = bar.add_task("view", total=None)
        site = write_site(maps, out, title, lambda done, total: bar.update(task, completed=done, total=total))
    typer.echo(f"{site}: python -m http.server -d {site}, then open http://localhost:8000/")
