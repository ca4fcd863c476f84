"""The command ``validate``: maps at reference points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lulcbench._console import new_table, result_console
from lulcbench.cli._output import Json, mark_simulated, put_json, save_figure, writable_figure
from lulcbench.cli._sampling import (
    Clusters,
    DesignOption,
    FirstPhase,
    OtherMap,
    Sizes,
    Strata,
    StrataLevel,
    Weights,
    sampling_of,
)
from lulcbench.cli.score import with_interval
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.areas import MINIMUM
from lulcbench.evaluation.intervals import caution
from lulcbench.evaluation.metrics import shown_in

if TYPE_CHECKING:
    from lulcbench.evaluation.points import Figure, PointLevel, PointScores


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(validate)


def validate(
    maps: Annotated[
        list[Path],
        typer.Argument(metavar="MAP...", help="Map rasters, folders of 'lulcbench map', or predictions (.zip)."),
    ],
    points: Annotated[Path, typer.Option(help="Points, LUCAS of any year by default: table or vector file.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the release that was predicted.")] = None,
    legend: Annotated[
        list[str] | None,
        typer.Option(help="Legend of a map: luisa (default), corine, values, or a CSV file; one, or one per map."),
    ] = None,
    year: Annotated[
        list[int] | None, typer.Option(help="Year of a map; the nearest survey is used; one, or one per map.")
    ] = None,
    band: Annotated[
        list[str] | None, typer.Option(help="Band of a raster, by number or description; one, or one per map.")
    ] = None,
    points_crs: Annotated[
        str | None, typer.Option(help="CRS of the points if the file has none, such as EPSG:3035.")
    ] = None,
    class_column: Annotated[
        str | None, typer.Option(help="Column with the class of a point; by default land cover of LUCAS.")
    ] = None,
    crosswalk: Annotated[
        Path | None, typer.Option(help="CSV file (value, code) from these classes to LUISA codes.")
    ] = None,
    design: DesignOption = "unknown",
    strata: Strata = None,
    strata_level: StrataLevel = None,
    sizes: Sizes = None,
    weights: Weights = None,
    clusters: Clusters = None,
    first_phase: FirstPhase = None,
    other_map: OtherMap = False,
    level: Annotated[int | None, typer.Option(help="Level whose classes are listed; default: the finest.")] = None,
    json: Json = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="Also draw the error matrix of that level to this file.", callback=writable_figure),
    ] = None,
) -> None:
    """Validate maps at reference points, such as LUCAS: agreement, accuracies of classes, and their intervals.

    Figures have standard errors and intervals only if --design states how the points were selected.
    """
    from lulcbench.evaluation import points as survey  # imports pandas, which the other commands do not need
    from lulcbench.evaluation.reference_points import read_points

    legends = one_each(legend or ["luisa"], maps, "--legend")
    nothing: list[None] = [None]
    years = one_each(year or nothing, maps, "--year")
    bands = one_each(band or nothing, maps, "--band")
    sampling, more = sampling_of(design, strata, strata_level, sizes, weights, clusters, first_phase, other_map)
    plain = {name == "values" for name in legends}
    if len(plain) > 1:
        raise LulcbenchError(
            "Only some of the maps have the legend values.", "Validate them in a command of their own."
        )
    table = read_points(points, points_crs, class_column, crosswalk, more, plain.pop())
    results = [
        survey.validate(path, table, sampling, name, when, which, root)
        for path, name, when, which in zip(maps, legends, years, bands, strict=True)
    ]
    content = [result.model_dump(mode="json") for result in results]
    tables = put_json(json, content if len(content) > 1 else content[0])
    out = result_console() if tables else Console(quiet=True)
    if len(results) > 1:
        for number, result in enumerate(results, start=1):
            of_year = "" if result.year is None else f", {result.year}"
            out.print(f"{number}: {escape(result.map)}{of_year}", highlight=False)
        out.print(_side_by_side(results))
    for result in results:
        _print(out, result, level)
    if figure is not None:
        from lulcbench.plotting import matrix_figure

        shown = [(result.map, entry) for result in results if (entry := _chosen(result, level)) and entry.points]
        if not shown:
            raise LulcbenchError("No point was evaluated, so that there is no error matrix.", "Leave out --figure.")
        drawn = matrix_figure(
            [(f"{name}, {_level_name(entry.level)}", entry.confusion, entry.codes) for name, entry in shown],
            simulated=any(result.simulated for result in results),
        )
        save_figure(drawn, figure)
        typer.echo(f"{figure}: error matrix", err=not tables)


def one_each[T](values: Sequence[T], maps: list[Path], option: str) -> list[T]:
    """One value per map, of one value for all or one each; raises if there are others."""
    if len(values) not in (1, len(maps)):
        raise LulcbenchError(
            f"{option} is given {len(values)} times for {len(maps)} maps.", "Give one, or one per map."
        )
    return list(values) * (len(maps) if len(values) == 1 else 1)


def _level_name(level: int | None) -> str:
    return "values" if level is None else f"level {level}"


def _chosen(result: PointScores, level: int | None) -> PointLevel | None:
    """The requested level, or the finest with points."""
    wanted = [entry for entry in result.levels if level in (None, entry.level)]
    if not wanted:
        known = ", ".join(str(entry.level) for entry in result.levels)
        raise LulcbenchError(f"The points are not evaluated at level {level}.", f"Choose from {known}.")
    return next((entry for entry in wanted if entry.points), wanted[-1])


def _side_by_side(results: list[PointScores]) -> Table:
    shown = shown_in("points")
    # By number: names of maps are long, and on a narrow terminal they would leave no room for the intervals.
    table = new_table("map", "level", "points", *(metric.label for metric in shown.values()), "3 × 3 pixels")
    for number, result in enumerate(results, start=1):
        for level in result.levels:
            cells = (with_interval(level.metrics.get(name)) for name in shown)
            near = "–" if level.nearby is None else f"{level.nearby:.3f}"
            table.add_row(str(number), str(level.level or "–"), f"{level.points:,}", *cells, near)
        table.add_section()
    return table


def _print(out: Console, result: PointScores, level: int | None) -> None:
    from lulcbench.evaluation.points import MAX_YEARS

    blocks = f"{result.blocks} block{'' if result.blocks == 1 else 's'} of 48 km"
    out.print(f"[bold]{escape(result.map)}[/]", highlight=False)
    mark_simulated(out, result.simulated)
    out.print(f"[bold]{result.evaluated:,}[/] of {result.points:,} points evaluated, in {blocks}")
    shown = shown_in("points")
    levels = new_table("level", "points", *(metric.label for metric in shown.values()), "3 × 3 pixels")
    for entry in result.levels:
        cells = (with_interval(entry.metrics.get(name)) for name in shown)
        near = "–" if entry.nearby is None else f"{entry.nearby:.3f}"
        levels.add_row(str(entry.level or "–"), f"{entry.points:,}", *cells, near)
    out.print(levels)
    if result.evaluated and (warning := caution(result.blocks)):
        out.print(warning)
    chosen = _chosen(result, level)
    if chosen is not None and chosen.points:
        out.print(_classes(chosen, result.design))
    if result.design == "unknown" and result.evaluated:
        out.print(
            "The design of the sample is unknown: the figures describe agreement at these points, not the accuracy of "
            "the map, and no area can be estimated."
        )
    if result.far_in_time:
        out.print(
            f"{result.far_in_time:,} of them were surveyed more than {MAX_YEARS} years from {result.year}: "
            "differences may be changes on the ground."
        )
    for title, numbers in (
        ("not evaluated because", result.not_evaluated),
        ("position of the evaluated points", result.places),
        ("decided while reading", result.decisions),
    ):
        if numbers:
            rows = new_table(title, "points")
            for reason, number in sorted(numbers.items(), key=lambda pair: -pair[1]):
                rows.add_row(escape(reason), f"{number:,}")
            out.print(rows)


def _classes(level: PointLevel, design: str) -> Table:
    from lulcbench.legend import legend

    what = "agreement" if design == "unknown" else f"accuracy ({design})"
    title = f"{what}, {_level_name(level.level)}: overall {_text(level.overall)}"
    table = new_table("class", "points", "map", "user's", "producer's", "F1", title=title)
    for row in level.classes:
        name = "" if level.level is None else f" {legend().classes[row.code].name}"
        figures = (_text(figure) for figure in (row.user, row.producer, row.f1))
        table.add_row(f"{row.code}{name}", f"{row.reference:,}", f"{row.mapped:,}", *figures)
    return table


def _text(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    if figure.se is None:
        return f"{figure.value:.3f}"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f} (no interval: fewer than {MINIMUM} points)"
    return f"{figure.value:.3f} ± {figure.se:.3f} ({figure.low:.3f}–{figure.high:.3f})"
