"""The command ``lucas``: validate a map at LUCAS points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lulcbench._files import write_atomic
from lulcbench.cli.score import with_interval
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.intervals import caution
from lulcbench.evaluation.metrics import shown_in


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(lucas)


def lucas(
    map: Annotated[Path, typer.Argument(help="Map raster, or predictions file (.zip; needs --root).")],
    points: Annotated[Path, typer.Option(help="LUCAS points of any year: table or vector file, also compressed.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the release that was predicted.")] = None,
    legend: Annotated[str, typer.Option(help="Legend of a map raster: luisa or corine.")] = "luisa",
    year: Annotated[int | None, typer.Option(help="Year of a map raster; the nearest survey is used.")] = None,
    band: Annotated[
        str | None, typer.Option(help="Band of a map raster with several, by number or description.")
    ] = None,
    points_crs: Annotated[
        str | None, typer.Option(help="CRS of the points if the file has none, such as EPSG:3035.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
) -> None:
    """Validate predictions or a map raster at LUCAS points, at levels 1 to 3."""
    from lulcbench.evaluation import points as survey  # imports pandas, which the other commands do not need
    from lulcbench.evaluation.lucas import read_points

    table = read_points(points, points_crs)
    if map.suffix == ".zip":
        if root is None:
            raise LulcbenchError("Validating predictions requires their release.", "Give its folder with --root.")
        result = survey.score_predictions(map, root, table)
    else:
        result = survey.score_map(map, table, legend, year, band)
    if json is not None:
        write_atomic(json, (result.model_dump_json(indent=1) + "\n").encode())
    out = Console()
    blocks = f"{result.blocks} block{'' if result.blocks == 1 else 's'} of 48 km"
    out.print(f"[bold]{result.evaluated:,}[/] of {result.points:,} LUCAS points evaluated, in {blocks}")
    shown = shown_in("points")
    levels = Table("level", "points", *(metric.label for metric in shown.values()))
    for level in result.levels:
        cells = (with_interval(level.metrics.get(name)) for name in shown)
        levels.add_row(str(level.level), f"{level.points:,}", *cells)
    out.print(levels)
    if result.evaluated and (warning := caution(result.blocks)):
        out.print(warning)
    if result.far_in_time:
        out.print(
            f"{result.far_in_time:,} of them were surveyed more than {survey.MAX_YEARS} years from {result.year}: "
            "differences may be changes on the ground."
        )
    for title, numbers in (
        ("not evaluated because", result.not_evaluated),
        ("position of the evaluated points", result.places),
        ("decided while reading", result.decisions),
    ):
        if numbers:
            rows = Table(title, "points")
            for reason, number in sorted(numbers.items(), key=lambda pair: -pair[1]):
                rows.add_row(escape(reason), f"{number:,}")
            out.print(rows)
