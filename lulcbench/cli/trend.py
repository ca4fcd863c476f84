"""The command ``trend``: areas of classes over several years, and how often pixels change."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lulcbench._console import new_table, result_console
from lulcbench._files import write_atomic
from lulcbench.cli._area_report import HECTARE, class_name
from lulcbench.cli._output import (
    Json,
    mark_simulated,
    put_json,
    refuse_given,
    save_figure,
    writable_figure,
    writable_file,
)
from lulcbench.errors import LulcbenchError
from lulcbench.legend import LegendSubset

if TYPE_CHECKING:
    from lulcbench.evaluation.trends import Trends


_PAIRS = 6  # of years, whose columns fit on a screen


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(trend)


def trend(
    context: typer.Context,
    maps: Annotated[
        list[Path],
        typer.Argument(
            metavar="MAP...", help="Maps of the same pixels, one per year; or one map or predictions of several years."
        ),
    ],
    year: Annotated[
        list[int] | None,
        typer.Option(help="Year of a map; one per map. Repeat it to choose years of a single map; default: all."),
    ] = None,
    level: Annotated[int, typer.Option(help="Legend level of the classes.", min=1, max=4)] = 1,
    legend: Annotated[
        str, typer.Option(help="Legend of rasters: luisa, corine, values, or a CSV file (value, code).")
    ] = "luisa",
    classes: Annotated[
        Path | None, typer.Option(help="TOML file of study classes (name = LUISA codes) in place of a level.")
    ] = None,
    band: Annotated[list[str] | None, typer.Option(help="Band of a raster; one, or one per map.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the release that was predicted.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the number of changes of each pixel as GeoTIFF.", callback=writable_file),
    ] = None,
    json: Json = None,
    csv: Annotated[
        Path | None,
        typer.Option(help="Also write the areas of all classes and years to this CSV file.", callback=writable_file),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the trends to this file.", callback=writable_figure)
    ] = None,
) -> None:
    """Trends of the mapped areas of classes over years (least squares), and how often pixels change."""
    from lulcbench.cli.validate import one_each
    from lulcbench.evaluation.class_maps import open_map, years_in
    from lulcbench.evaluation.trends import class_trends

    if out is not None and out.suffix.lower() not in (".tif", ".tiff"):
        raise LulcbenchError(f"{out} does not end in .tif.", "Name a GeoTIFF.")
    if classes is not None and legend == "values":
        raise LulcbenchError("Study classes consist of LUISA codes.", "State the --legend of the maps.")
    if classes is not None:
        refuse_given(context, ("--level",), "with --classes", "leave out --classes")
    if legend == "values":
        refuse_given(context, ("--level",), "on values", "state another --legend")
    subset = None if classes is None else LegendSubset.load(classes)
    nothing: list[None] = [None]
    if len(maps) == 1 and not year:
        year = years_in(maps[0], root)
    paths = maps * len(year) if len(maps) == 1 and year else maps
    years: list[int | None] = [*year] if year else [None] * len(paths)
    if len(years) != len(paths):
        raise LulcbenchError(f"--year is given {len(years)} times for {len(paths)} maps.", "State it once per map.")
    bands = one_each(band or nothing, paths, "--band")
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_map(path, legend, when, which, root))
            for path, when, which in zip(paths, years, bands, strict=True)
        ]
        found = class_trends(opened, None if legend == "values" else level, out, subset)
    console = result_console() if put_json(json, found.model_dump(mode="json")) else Console(quiet=True)
    mark_simulated(console, found.simulated)
    first, last = found.years[0], found.years[-1]
    names = {row.code: _name(row.code, found) for row in found.classes}
    table = new_table(
        "class", f"{first}, ha", f"{last}, ha", "ha a year", "95 % interval", "R²", "stays", title="mapped areas"
    )
    for row in found.classes:
        interval = "–" if row.low is None or row.high is None else f"{_ha(row.low)} – {_ha(row.high)}"
        table.add_row(
            escape(names[row.code]),
            *(f"{area / HECTARE:,.0f}" for area in (row.areas[0], row.areas[-1])),
            _ha(row.slope),
            interval,
            "–" if row.r2 is None else f"{row.r2:.2f}",
            "–" if row.stays is None else f"{row.stays:.3f}",
        )
    console.print(table)
    if 1 < len(found.years) - 1 <= _PAIRS:
        pairs = (f"{before}–{after}" for before, after in pairwise(found.years))
        stays = new_table("class", *pairs, title="share of each class that stays")
        for row in found.classes:
            stays.add_row(escape(names[row.code]), *("–" if v is None else f"{v:.3f}" for v in row.stays_by_pair))
        console.print(stays)
    pixels = sum(found.changes)
    counted = new_table("changes", "pixels", "share")
    for number, n in enumerate(found.changes):
        counted.add_row(str(number), f"{n:,}", f"{n / pixels:.2%}")
    console.print(counted)
    if max(found.agreement) == 1:
        console.print("No pixel differs between two consecutive years: are they copies of one map?")
    console.print(
        f"Consecutive years agree in {min(found.agreement):.1%} to {max(found.agreement):.1%} of the area; "
        f"{found.returning:,} pixels return to a class that they had lost. Errors of the maps are part of all figures.",
        highlight=False,
    )
    if found.left_out:
        console.print(f"{found.left_out:,} pixels without a class in some of the years are left out.", highlight=False)
    if csv is not None:
        lines = [
            f"{row.code},{when},{area!r},{str(found.simulated).lower()}"
            for row in found.classes
            for when, area in zip(found.years, row.areas, strict=True)
        ]
        write_atomic(csv, ("\n".join(["class,year,area_m2,simulated", *lines]) + "\n").encode())
    if figure is not None:
        from lulcbench.plotting import bar_figure

        bars = [
            (
                names[row.code],
                row.slope / HECTARE,
                None if row.low is None or row.high is None else (row.low / HECTARE, row.high / HECTARE),
                (row.areas[-1] - row.areas[0]) / (last - first) / HECTARE,
            )
            for row in found.classes
        ]
        kinds = ("least squares, 95 % interval", f"difference of {first} and {last}")
        save_figure(bar_figure(bars, "Change of the mapped area, ha a year", kinds, found.simulated), figure)


def _name(code: int, found: Trends) -> str:
    return found.names[code - 1] if found.names else class_name(code, found.level, False)


def _ha(area: float) -> str:
    return f"{area / HECTARE:+,.1f}"
