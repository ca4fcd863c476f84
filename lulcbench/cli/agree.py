"""The command ``agree``: where maps of one place agree and disagree."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lulcbench._console import new_table, result_console
from lulcbench.cli._output import mark_simulated, refuse_given, save_figure, writable_figure, writable_file
from lulcbench.errors import LulcbenchError

_AGREED, _AGAINST = (226, 240, 217), (178, 24, 43)  # colours of no map and of all maps against the class


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(agree)


def agree(
    context: typer.Context,
    maps: Annotated[
        list[Path],
        typer.Argument(metavar="MAP...", help="Map rasters, folders of 'lulcbench map', or predictions (.zip)."),
    ],
    out: Annotated[Path, typer.Option(help="GeoTIFF to write, on the grid of the first map.", callback=writable_file)],
    level: Annotated[int, typer.Option(help="Legend level at which classes are compared.", min=1, max=4)] = 1,
    legend: Annotated[
        list[str] | None,
        typer.Option(help="Legend of a map: luisa (default), corine, values, or a CSV file; one, or one per map."),
    ] = None,
    year: Annotated[list[int] | None, typer.Option(help="Year of a map with several; one, or one per map.")] = None,
    band: Annotated[list[str] | None, typer.Option(help="Band of a raster; one, or one per map.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the release that was predicted.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the map of agreement to this file.", callback=writable_figure)
    ] = None,
) -> None:
    """Map where two or more maps agree: the number of maps with the most frequent class, and that class."""
    from lulcbench.cli.validate import one_each
    from lulcbench.evaluation.agreement import write_agreement
    from lulcbench.evaluation.class_maps import open_map

    if out.suffix.lower() not in (".tif", ".tiff"):
        raise LulcbenchError(f"{out} does not end in .tif.", "Name a GeoTIFF.")
    legends = one_each(legend or ["luisa"], maps, "--legend")
    nothing: list[None] = [None]
    years, bands = one_each(year or nothing, maps, "--year"), one_each(band or nothing, maps, "--band")
    if len(plain := {name == "values" for name in legends}) > 1:
        raise LulcbenchError("Only some of the maps have the legend values.", "Give all maps one legend.")
    if True in plain:
        refuse_given(context, ("--level",), "on values", "state another --legend")
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_map(path, name, when, which, root))
            for path, name, when, which in zip(maps, legends, years, bands, strict=True)
        ]
        found = write_agreement(opened, out, None if plain.pop() else level)
    console = result_console()
    mark_simulated(console, found.simulated)
    for number, path in enumerate(maps, start=1):
        console.print(f"{number}: {escape(path.name)}", highlight=False)
    table = new_table("map", *(str(number) for number in range(1, len(maps) + 1)), title="agreement of two maps")
    for number, row in enumerate(found.pairs, start=1):
        table.add_row(str(number), *("–" if value != value else f"{value:.3f}" for value in row))
    console.print(table)
    if equal := found.equal:
        copies = ", ".join(f"{i} and {j}" for i, j in equal)
        console.print(f"No pixel differs between the maps {copies}: are they copies of one map?", highlight=False)
    typer.echo(f"{out}: all maps agree in {found.whole:.1%} of the area with a class in all")
    if figure is not None:
        _draw(out, len(maps), figure, found.simulated)


def _draw(path: Path, n: int, figure: Path, simulated: bool) -> None:
    """Draw the number of maps that disagree with the most frequent class, at most about 1,000 pixels wide."""
    import numpy as np
    import rasterio

    from lulcbench.plotting import Panel
    from lulcbench.plotting import figure as new_figure

    with rasterio.open(path) as file:
        times = max(1, -(-max(file.shape) // 1000))
        shape = (2, -(-file.height // times), -(-file.width // times))
        agreeing, known = file.read([1, 2], out_shape=shape).astype(np.int64)
    ends = np.array([_AGREED, _AGAINST], np.float64)
    shades = np.rint(ends[0] + np.linspace(0, 1, n)[:, None] * (ends[1] - ends[0])).astype(np.uint8)
    against = np.clip(known - agreeing, 0, n - 1)
    rgb = np.where((known > 0)[..., None], shades[against], 255).astype(np.uint8)
    entries = []
    for number, (red, green, blue) in enumerate(shades.tolist()):
        entries.append((f"{number} of {n} maps differ", (red, green, blue)))
    title = "maps that differ from the most frequent class"
    save_figure(new_figure([Panel(title, rgb, tuple(entries))], "Disagreement", simulated), figure)
