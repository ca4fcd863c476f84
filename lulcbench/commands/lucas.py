"""The command that judges a map at LUCAS points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lulcbench.errors import LulcbenchError
from lulcbench.release import write_atomic


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(lucas)


def lucas(
    map: Annotated[Path, typer.Argument(help="Map raster, or predictions file (.zip; needs --root).")],
    points: Annotated[Path, typer.Option(help="LUCAS points: harmonised CSV (or its zip), shapefile or GeoPackage.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the release that was predicted.")] = None,
    legend: Annotated[str, typer.Option(help="Legend of a map raster: luisa or corine.")] = "luisa",
    json: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
) -> None:
    """Judge predictions or any map raster at LUCAS points, where the correspondence can judge."""
    from lulcbench import lucas as survey  # pandas, which the other commands do without

    table = survey.read_points(points)
    if map.suffix == ".zip":
        if root is None:
            raise LulcbenchError("Predictions are read with their release.", "Give its folder with --root.")
        result = survey.score_predictions(map, root, table)
    else:
        result = survey.score_map(map, table, legend)
    if json is not None:
        write_atomic(json, (result.model_dump_json(indent=1) + "\n").encode())
    out = Console()
    out.print(f"[bold]{result.judged:,}[/] of {result.points:,} LUCAS points judged")
    levels = Table("level", "points", "accuracy", "balanced", "macro F1")
    for level in result.levels:
        figures = (level.overall_accuracy, level.balanced_accuracy, level.macro_f1)
        levels.add_row(str(level.level), f"{level.points:,}", *("–" if v is None else f"{v:.4f}" for v in figures))
    out.print(levels)
    reasons = Table("not judged because", "points")
    for reason, number in sorted(result.not_judged.items(), key=lambda pair: -pair[1]):
        reasons.add_row(reason, f"{number:,}")
    out.print(reasons)
