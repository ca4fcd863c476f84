"""What the command ``area`` prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from lulcbench._console import new_table, result_console
from lulcbench._files import write_atomic
from lulcbench.cli._output import mark_simulated, put_json, save_figure
from lulcbench.evaluation.areas import MINIMUM

if TYPE_CHECKING:
    from lulcbench.evaluation.map_areas import Figure, MapAreas

HECTARE = 10_000.0


def report(result: MapAreas, json: Path | None, csv: Path | None, figure: Path | None, pairs: bool = False) -> None:
    """Print areas and accuracies, and write them to the files that were requested."""
    out = result_console() if put_json(json, result.model_dump(mode="json")) else Console(quiet=True)
    overall = result.overall
    out.print(
        f"[bold]{escape(result.map)}[/]: {result.total / HECTARE:,.0f} ha, {result.points:,} points "
        f"({result.design}, {result.estimator}); overall accuracy {_share(overall)}",
        highlight=False,
    )
    mark_simulated(out, result.simulated)
    table = new_table(
        "class", "points", "map, ha", "area, ha", "± 1.96 SE", "95 % interval", "user's", "producer's", "F1"
    )
    for row in result.classes:
        figure_of = row.area
        table.add_row(
            class_name(row.code, result.level, pairs),
            f"{row.points:,}" + ("" if row.effective >= 30 else " *"),
            f"{row.mapped / HECTARE:,.0f}",
            f"{figure_of.value / HECTARE:,.0f}",
            f"{1.96 * figure_of.se / HECTARE:,.0f}",
            _hectares(figure_of),
            *(_share(share) for share in (row.user, row.producer, row.f1)),
        )
    out.print(table)
    if any(row.effective < 30 for row in result.classes):
        out.print("* fewer than 30 effective points: these intervals are rough")
    for reason, number in result.not_used.items():
        out.print(f"{number:,} points not used: {reason}")
    if result.regions:
        accuracies = new_table("region", "points", "overall accuracy")
        for name, accuracy in result.region_accuracy.items():
            accuracies.add_row(escape(name), f"{accuracy.points:,}", _share(accuracy.overall))
        out.print(accuracies)
        by_region = new_table("region", "class", "area, ha", "95 % interval")
        for name, classes in result.regions.items():
            for code, own in classes.items():
                if own.value > 0:
                    area = f"{own.value / HECTARE:,.0f}"
                    by_region.add_row(escape(name), class_name(code, result.level, pairs), area, _hectares(own))
            by_region.add_section()
        out.print(by_region)
    if csv is not None:
        head = "class,points,pixels,map_m2,area_m2,se_m2,low_m2,high_m2,simulated"
        rows = [
            (row.code, row.points, row.pixels, row.mapped, row.area.value, row.area.se, row.area.low, row.area.high)
            for row in result.classes
        ]
        simulated = str(result.simulated).lower()
        lines = [",".join("" if value is None else str(value) for value in (*row, simulated)) for row in rows]
        write_atomic(csv, ("\n".join([head, *lines]) + "\n").encode())
    if figure is not None:
        from lulcbench.plotting import bar_figure

        bars = [
            (
                class_name(row.code, result.level, pairs),
                row.area.value / HECTARE,
                None
                if row.area.low is None or row.area.high is None
                else (row.area.low / HECTARE, row.area.high / HECTARE),
                row.mapped / HECTARE,
            )
            for row in result.classes
        ]
        save_figure(bar_figure(bars, "Area, ha", ("estimate, 95 % interval", "map"), result.simulated), figure)


def _share(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure.value:.3f} ({_interval(figure.low, figure.high, '.3f')})"


def _hectares(figure: Figure) -> str:
    low, high = (None if end is None else end / HECTARE for end in (figure.low, figure.high))
    return _interval(low, high, ",.0f")


def _interval(low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return f"fewer than {MINIMUM} points"
    return f"{low:{form}} – {high:{form}}"


def class_name(code: int, level: int | None, pairs: bool) -> str:
    """Code and name of a class, of a change, or of a stratum around a class."""
    from lulcbench.evaluation.change import pair_name
    from lulcbench.evaluation.design import BUFFER
    from lulcbench.legend import legend

    if code >= BUFFER:
        return f"around {pair_name(code - BUFFER) if pairs else code - BUFFER}"
    if pairs:
        return pair_name(code)
    return str(code) if level is None or code not in legend().classes else f"{code} {legend().classes[code].name}"
