"""The command ``map``: a map of a release with an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lulcbench._console import progress


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command("map")(map_)


def map_(
    model: Annotated[Path, typer.Argument(help="Folder of a model that 'python -m baselines export' wrote.")],
    root: Annotated[str, typer.Option(help="Folder of a release, or its URL.")],
    out: Annotated[Path, typer.Option(help="Folder of the map to write.")],
    year: Annotated[list[int] | None, typer.Option(help="Year to map; repeatable; by default all.")] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="LEFT BOTTOM RIGHT TOP", help="Area in EPSG:3035 metres; by default all of the release."),
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option(help="Pixels that the model sees around a block; default: its reach, at most 160.", min=0),
    ] = None,
    cog: Annotated[bool, typer.Option("--cog", help="Also write a GeoTIFF per layer, to <out>/cog.")] = False,
    workers: Annotated[int, typer.Option(help="Number of processes.", min=1)] = 1,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a map that is there.")] = False,
) -> None:
    """Map a release: classes at all levels, probabilities and uncertainty; run the command again to resume.

    Exit code 1 if some tiles could not be read: the map has no data there.
    """
    from lulcbench.maps import MapOptions, map_release

    options = MapOptions(years=tuple(year or ()), bounds=bounds, halo=halo, cog=cog)
    with progress() as bar:
        task = bar.add_task("map", total=None)
        result = map_release(
            model,
            root,
            out,
            options,
            workers=workers,
            replace=replace,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for tile, what in sorted(result.damaged.items()):
        typer.echo(f"BAD  {tile} {what}")
    typer.echo(f"{result.folder}: {', '.join(map(str, result.years))}, {result.blocks} blocks")
    if result.damaged:
        raise typer.Exit(1)
