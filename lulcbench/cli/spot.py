"""The command ``spot``: land change in time series of class probabilities of patches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.markup import escape

from lulcbench._console import new_table, result_console
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.spotting import CONFIDENCE, RATE
from lulcbench.legend import legend

if TYPE_CHECKING:
    import pandas as pd

    from lulcbench.evaluation.patch_series import PatchSeries

_HEIGHT, _WIDTH = 120, 6  # px: of the picture of probabilities, and of a date in it


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(spot)


def spot(
    series: Annotated[
        Path,
        typer.Argument(
            help="CSV or Parquet: place, date, a column per class; optionally clear (share), x, y (EPSG:3035)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="CSV of the changes to write.")],
    legend_name: Annotated[
        str | None, typer.Option("--legend", help="CSV (value, code) of the class columns; default: LUISA codes.")
    ] = None,
    gpkg: Annotated[Path | None, typer.Option(help="GeoPackage of the changes to write; needs x and y.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page of the changes to write.")] = None,
    rate: Annotated[float, typer.Option(help="Changes expected per patch and year.", min=1e-6, max=0.5)] = RATE,
    confidence: Annotated[float, typer.Option(help="Least probability of a change.", min=0.01, max=0.999)] = CONFIDENCE,
    clear: Annotated[float, typer.Option(help="Least clear share of an image.", min=0, max=1)] = 0.5,
) -> None:
    """Spot land change: built-up, demolished, deforested and other, with the dates between which it happened."""
    from lulcbench.evaluation.patch_series import read_series, spot_all

    patches, left_out = read_series(series, legend_name, clear)
    changes = spot_all(patches, rate, confidence)
    write_atomic(out, changes.to_csv(index=False).encode())
    table = new_table("place", "kind", "from", "to", "between", "confidence", title=f"{len(changes)} changes")
    for row in changes.head(20).to_dict("records"):
        dates = f"{row['first']} – {row['last']}"
        classes = (str(row["before"]), str(row["after"]))
        table.add_row(escape(row["place"]), row["kind"], *classes, dates, f"{row['confidence']:.2f}")
    result_console().print(table)
    years = sum(patch.years for patch in patches)
    typer.echo(f"{out}: {len(changes)} changes in {len(patches):,} patches and {years:,.0f} patch-years")
    for reason, number in left_out.items():
        typer.echo(f"{number:,} images left out: {reason}")
    if gpkg is not None:
        _write_points(changes, gpkg)
    if page is not None:
        _write_page(changes, patches, page)


def _write_points(changes: pd.DataFrame, path: Path) -> None:
    from lulcbench.evaluation.patch_series import to_points

    if path.suffix != ".gpkg":
        raise LulcbenchError(f"{path} does not end in .gpkg.", "Name a GeoPackage.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.gpkg")
    to_points(changes).to_file(part, driver="GPKG", layer="changes", index=False)
    part.replace(path)


def _write_page(changes: pd.DataFrame, patches: list[PatchSeries], path: Path) -> None:
    from lulcbench.cli._page import Row, write_page

    known = {patch.place: patch for patch in patches}
    rows = []
    for row in changes.to_dict("records"):
        first, last = row["first"], row["last"]
        names = [f"{code} {legend().classes[code].name}" for code in (row["before"], row["after"])]
        text = f"{names[0]} → {names[1]}, between {first} and {last}; confidence {row['confidence']:.0%}."
        patch = known[row["place"]]
        sides = [("before", patch.dates <= np.datetime64(first)), ("after", patch.dates >= np.datetime64(last))]
        pictures = [(f"probabilities {side}", _picture(patch, used)) for side, used in sides]
        pictures.append(("probabilities of all dates", _picture(patch, np.ones(len(patch.dates), bool))))
        rows.append(Row(f"{row['place']}: {row['kind']}", text, pictures))
    write_page(path, "Land change", f"{len(changes)} changes in {len(patches):,} patches.", rows)


def _picture(patch: PatchSeries, used: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Stacked probabilities in the colours of the legend, one column per date."""
    p = patch.probabilities[used]
    if not len(p):
        return np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    colors = np.array([list(bytes.fromhex(legend().classes[int(code)].color[1:])) for code in patch.codes], np.uint8)
    heights = (np.arange(_HEIGHT) + 0.5) / _HEIGHT
    at = (p.cumsum(axis=1)[:, None, :] < heights[None, :, None]).sum(axis=2).clip(max=len(colors) - 1)
    return np.repeat(colors[at].transpose(1, 0, 2), _WIDTH, axis=1)
