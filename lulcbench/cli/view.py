"""The command ``view``: a folder in which a browser shows maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lulcbench._console import counted_progress
from lulcbench.cli._output import refuse_given, writable_folder

if TYPE_CHECKING:
    from lulcbench.maps.viewer import Point


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(view)


def view(
    context: typer.Context,
    maps: Annotated[list[Path], typer.Argument(metavar="MAP...", help="Folders that 'lulcbench map' wrote.")],
    out: Annotated[
        Path,
        typer.Option(help="Folder of the site to write; an older site there is replaced.", callback=writable_folder),
    ],
    title: Annotated[str | None, typer.Option(help="Title of the page; by default that of the first map.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Folder or URL of a release whose labels are shown beside the maps.")
    ] = None,
    points: Annotated[
        Path | None, typer.Option(help="LUCAS points of any year: table or vector file, also compressed.")
    ] = None,
    points_crs: Annotated[
        str | None, typer.Option(help="CRS of the points if the file has none, such as EPSG:3035.")
    ] = None,
) -> None:
    """Write a static folder that shows maps in a browser, without any other server than one that delivers files."""
    from lulcbench.maps.viewer import write_site

    if points is None:
        refuse_given(context, ("--points-crs",), "without --points", "name the points")
    observed = _read(points, points_crs) if points is not None else []
    with counted_progress("view") as advance:
        site = write_site(
            maps,
            out,
            title,
            labels,
            observed,
            progress=advance,
        )
    typer.echo(f"{site}: python -m http.server -d {site}, then open http://localhost:8000/")


def _read(path: Path, crs: str | None) -> list[Point]:
    """Located points of a survey with their LUISA classes."""
    import numpy as np

    from lulcbench.evaluation.reference_points import read_points
    from lulcbench.legend import NODATA
    from lulcbench.maps.viewer import Point

    table = read_points(path, crs).table
    table = table[np.isfinite(table["x"].to_numpy(float))]
    columns = (table[name].tolist() for name in ("x", "y", "code", "reason", "year", "id"))
    return [
        Point(x, y, max(int(code), NODATA), " ".join(["LUCAS", *_words(year, name, reason)]))
        for x, y, code, reason, year, name in zip(*columns, strict=True)
    ]


def _words(year: float, name: object, reason: str) -> list[str]:
    words = [] if year != year else [f"{year:.0f}"]
    words += [f"({name})"] if isinstance(name, str) else []
    return words + ([f"– {reason}"] if reason else [])
