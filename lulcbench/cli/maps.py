"""Commands on maps: ``map``, and ``calibrate``, which finds when a model is certain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lulcbench._console import counted_progress
from lulcbench.cli._output import refuse_given, writable_folder
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from lulcbench.areas import Area


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command("map")(map_)
    app.command()(calibrate)


def map_(
    context: typer.Context,
    model: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of a model that 'python -m baselines export' wrote; of several, the mean is mapped."
        ),
    ],
    root: Annotated[str, typer.Option(help="Folder of a release, or its URL.")],
    out: Annotated[Path, typer.Option(help="Folder of the map to write.", callback=writable_folder)],
    year: Annotated[list[int] | None, typer.Option(help="Year to map; repeatable; by default all.")] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="LEFT BOTTOM RIGHT TOP", help="Area in EPSG:3035 metres; by default all of the release."),
    ] = None,
    area: Annotated[
        list[str] | None,
        typer.Option(help="Polygons of a file (GeoJSON or another), a region of the release, or a code; repeatable."),
    ] = None,
    boundaries: Annotated[
        Path | None, typer.Option(help="Vector file in which --area is a code, such as NUTS regions of Eurostat.")
    ] = None,
    boundary_column: Annotated[str, typer.Option(help="Column of the codes in that file.")] = "NUTS_ID",
    layer: Annotated[str | None, typer.Option(help="Layer of the vector file, if it has several.")] = None,
    halo: Annotated[
        int | None,
        typer.Option(help="Pixels that the model sees around a block; default: its reach, at most 160.", min=0),
    ] = None,
    cog: Annotated[bool, typer.Option("--cog", help="Also write a GeoTIFF per layer, to <out>/cog.")] = False,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Smooth probabilities (Bayesian smoothing, 7 × 7 pixels, as in sits).")
    ] = False,
    mapping_unit: Annotated[
        bool,
        typer.Option("--mapping-unit", help="Fill patches below the unit of LUISA (artificial 1 ha, others 5 ha)."),
    ] = False,
    workers: Annotated[int, typer.Option(help="Number of processes.", min=1)] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler to use instead of processes.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a map that is there.")] = False,
) -> None:
    """Map a release: classes at all levels, probabilities and uncertainty; run the command again to resume.

    Exit code 1 if some tiles could not be read: the map has no data there; or if a year has no imagery at all.
    """
    from lulcbench.maps import MapOptions, MappingUnit, Smoothing, map_release

    if boundaries is None:
        refuse_given(context, ("--boundary-column",), "without --boundaries", "name the file of boundaries")
    if not area:
        refuse_given(context, ("--layer",), "without --area", "name the file of the area")
    options = MapOptions(
        years=tuple(year or ()),
        bounds=bounds,
        area=_area(area or (), root, boundaries, boundary_column, layer),
        halo=halo,
        cog=cog,
        smoothing=Smoothing() if smooth else None,
        mapping_unit=MappingUnit() if mapping_unit else None,
    )
    with counted_progress("map") as advance:
        result = map_release(
            model,
            root,
            out,
            options,
            workers=workers,
            scheduler=scheduler,
            replace=replace,
            progress=advance,
        )
    for tile, what in sorted(result.damaged.items()):
        typer.echo(f"BAD  {tile} {what}")
    typer.echo(f"{result.folder}: {', '.join(map(str, result.years))}, {result.blocks} blocks")
    for mapped, share in result.mapped.items():
        rest = "; the rest is outside the tiles of the release, or has no imagery" if share < 0.9995 else ""
        rest = "; no pixel with imagery has its centre in it" if share == 0 else rest
        typer.echo(f"{mapped}: {100 * share:.1f} % of the area has a class{rest}")
    if result.damaged or not all(result.mapped.values()):
        raise typer.Exit(1)


def _area(names: Sequence[str], root: str, boundaries: Path | None, column: str, layer: str | None) -> Area | None:
    """The area that is requested; None if it is all of the release."""
    from lulcbench.areas import Area
    from lulcbench.release import Release

    if boundaries is not None:
        if not names:
            raise LulcbenchError(f"No code of {boundaries} is stated.", "Give one: --area CODE.")
        return Area.read(boundaries, names, column, layer)
    if not names:
        return None
    files = [name for name in names if Path(name).is_file()]
    if files and len(names) > 1:
        raise LulcbenchError(f"{files[0]} is one of {len(names)} areas.", "Give one file, or only names of regions.")
    if files:
        return Area.read(files[0], layer=layer)
    return Area.of_regions(Release.open(root), names)


def calibrate(
    model: Annotated[Path, typer.Argument(help="Folder of an exported model.")],
    root: Annotated[str, typer.Option(help="Folder of a release with labels, or its URL.")],
    split: Annotated[str, typer.Option(help="Split that was not used in training.")] = "val",
    year: Annotated[int | None, typer.Option(help="Year of imagery and labels; default: the last one.")] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="For maps with --smooth.")] = False,
    halo: Annotated[int | None, typer.Option(help="For maps with --halo.", min=0)] = None,
    coverage: Annotated[float, typer.Option(help="Wanted share of right answers.", min=0.01, max=0.999)] = 0.9,
) -> None:
    """Find the probability from which a class is certain (conformal, over spatial blocks); maps then show these."""
    from lulcbench.maps import Smoothing
    from lulcbench.maps.conformal import calibrate as find

    smoothing = Smoothing() if smooth else None
    with counted_progress("calibrate") as advance:
        found = find(
            model,
            root,
            split,
            year,
            coverage,
            smoothing,
            halo,
            advance,
        )
    typer.echo(f"certain from a probability of {found.threshold:.4f}: {found.pixels} pixels in {found.blocks} blocks")
