"""Commands that write for other programs: ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lulcbench._console import counted_progress


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lulcbench`` command line."""
    app.command()(export)


def export(
    root: Annotated[str, typer.Argument(help="Folder of a release, or its URL.")],
    out: Annotated[Path, typer.Option(help="Folder of the GeoTIFFs.")],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="Array of the release, such as landsat_2018, or all arrays of a name, such as landsat, landsat-clear "
            "or luisa; repeatable; by default all, or none with --predictions."
        ),
    ] = None,
    tile: Annotated[list[str] | None, typer.Option(help="Tile id, such as E0897N0695; repeatable.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="Region; repeatable.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Split; repeatable.")] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="LEFT BOTTOM RIGHT TOP", help="Tiles that overlap this area; EPSG:3035 metres."),
    ] = None,
    year: Annotated[list[int] | None, typer.Option(help="Year; repeatable; by default all.")] = None,
    season: Annotated[list[str] | None, typer.Option(help="Season of imagery; repeatable; by default all.")] = None,
    level: Annotated[list[int] | None, typer.Option(help="Level of classes; repeatable; by default all.")] = None,
    predictions: Annotated[Path | None, typer.Option(help="Predictions file to export.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also export the class probabilities of the predictions file.")
    ] = False,
    per_tile: Annotated[
        bool, typer.Option("--per-tile", help="Write files per tile; by default tiles of a region are joined.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace files that exist.")] = False,
) -> None:
    """Write GeoTIFFs for QGIS and other programs: imagery, labels, predictions of the chosen tiles, by default all."""
    from lulcbench.export import ExportOptions, export_release

    options = ExportOptions(
        layers=tuple(layers or ()),
        tiles=tuple(tile or ()),
        regions=tuple(region or ()),
        splits=tuple(split or ()),
        bounds=bounds,
        years=tuple(year or ()),
        seasons=tuple(season or ()),
        levels=tuple(level or ()),
        predictions=predictions,
        probabilities=probabilities,
        per_tile=per_tile,
    )
    with counted_progress("export") as advance:
        result = export_release(root, out, options, replace=replace, progress=advance)
    for path in result.files:
        typer.echo(str(path))
    if result.left_out:
        typer.echo(f"{', '.join(result.left_out)}: none of the tiles has them", err=True)
    typer.echo(f"{out}: {len(result.files)} files of {result.tiles} tiles", err=True)
