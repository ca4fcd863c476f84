"""Commands that write for other programs: ``export``, ``legend``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from lulcbench._console import counted_progress, new_table, result_console
from lulcbench._files import write_atomic
from lulcbench.cli._output import writable_file, writable_folder
from lulcbench.errors import LulcbenchError
from lulcbench.geozarr import class_attributes
from lulcbench.legend import formats


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lulcbench`` command line."""
    app.command()(export)
    app.command()(legend)


def export(
    root: Annotated[str, typer.Argument(help="Folder of a release, or its URL.")],
    out: Annotated[Path, typer.Option(help="Folder of the GeoTIFFs.", callback=writable_folder)],
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
    typer.echo(
        f"{out}: {len(result.files)} files of {result.tiles} tiles; outlines of all tiles in {result.outlines.name}",
        err=True,
    )


def legend(
    level: Annotated[int | None, typer.Option(help="Level of the classes; by default all.")] = None,
    format: Annotated[
        Literal["table", "csv", "json", "qml", "cf"],
        typer.Option(
            help="qml: style of QGIS; cf: flag_values, flag_meanings and flag_colors as JSON.",
            show_default="table, or by the name of --out",
        ),
    ] = "table",
    out: Annotated[
        Path | None, typer.Option(help="File to write, instead of printing.", callback=writable_file)
    ] = None,
) -> None:
    """Print the class legend: level, code, parent, name and colour of each class."""
    writers = {"csv": formats.to_csv, "json": formats.to_json, "qml": formats.to_qml, "cf": _to_cf}
    kind = out.suffix[1:].lower() if out is not None and format == "table" else format
    if out is None and kind == "table":
        _show(level)
        return
    if kind not in writers:
        raise LulcbenchError(
            f"The name of {out} does not tell a format, and a table is printed, not written.",
            "Give --format csv, json, qml or cf, or a name that ends with .csv, .json or .qml.",
        )
    text = writers[kind](level)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomic(out, text.encode())
        typer.echo(str(out))


def _to_cf(level: int | None) -> str:
    return json.dumps(class_attributes(level), indent=1) + "\n"


def _show(level: int | None) -> None:
    """The legend as a table, with a patch of each colour where the terminal has colours."""
    table = new_table("level", "code", "parent", "colour", "class")
    for entry in formats.classes_of(level):
        patch = f"[{entry.color}]■[/] {entry.color}"
        table.add_row(str(entry.level), str(entry.code), str(entry.parent or ""), patch, entry.name)
    result_console().print(table)
