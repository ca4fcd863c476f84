"""The command ``spot``: land change in dated images of a place, or in time series of class probabilities of patches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lulcbench._console import counted_progress, new_table, result_console
from lulcbench._files import write_atomic
from lulcbench.cli._output import refuse_given, writable_file
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.spotting import CLEAR, CONFIDENCE, RATE

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

    from lulcbench.cli._page import Row

_SHOWN = 20  # rows of the table on the terminal
_TABLES = (".csv", ".parquet")
_OF_IMAGES = ("--top", "--patch", "--stride", "--level", "--bounds", "--bands", "--scale", "--offset")  # not of tables


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(spot)


def spot(
    context: typer.Context,
    series: Annotated[
        str,
        typer.Argument(
            help="Release, folder of dated GeoTIFFs or STAC catalog (with --model); or CSV or Parquet: place, date, a "
            "column per class; optionally clear (share), x, y (EPSG:3035)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="CSV of the changes to write.", callback=writable_file)],
    model: Annotated[Path | None, typer.Option(help="Folder of an exported model that classifies images.")] = None,
    legend_name: Annotated[
        str | None,
        typer.Option("--legend", help="CSV (value, code) of the classes, or eurosat; default: LUISA codes."),
    ] = None,
    gpkg: Annotated[
        Path | None, typer.Option(help="GeoPackage of the changes to write; EPSG:3035.", callback=writable_file)
    ] = None,
    geojson: Annotated[
        Path | None, typer.Option(help="GeoJSON of the changes to write; WGS 84.", callback=writable_file)
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page of the changes to write.", callback=writable_file)
    ] = None,
    top: Annotated[int, typer.Option(help="Changes in images on the page.", min=1, max=500)] = 30,
    patch: Annotated[
        float | None, typer.Option(help="Side of a patch, m; default: 640, or what the model was trained on.", min=1)
    ] = None,
    stride: Annotated[float | None, typer.Option(help="Distance of patches, m; default: their side.", min=1)] = None,
    level: Annotated[int | None, typer.Option(help="Legend level of the changes; default: 2.", min=1, max=4)] = None,
    bounds: Annotated[
        tuple[float, float, float, float] | None, typer.Option(help="Left, bottom, right, top in EPSG:3035.")
    ] = None,
    bands: Annotated[str | None, typer.Option(help="Bands of GeoTIFFs that do not name them: B02,B03,…")] = None,
    scale: Annotated[float | None, typer.Option(help="Of values of GeoTIFFs that do not state it.")] = None,
    offset: Annotated[float, typer.Option(help="Added to scaled values.")] = 0.0,
    rate: Annotated[float, typer.Option(help="Changes expected per patch and year.", min=1e-6, max=0.5)] = RATE,
    confidence: Annotated[float, typer.Option(help="Least probability of a change.", min=0.01, max=0.999)] = CONFIDENCE,
    clear: Annotated[
        float | None, typer.Option(help=f"Least clear share of an image; default: {CLEAR:g}.", min=0, max=1)
    ] = None,
) -> None:
    """Spot land change: built-up, demolished, deforested and other, with the dates between which it happened."""
    from lulcbench.cli._page import write_page
    from lulcbench.cli._spot_page import rows_of_images, rows_of_table
    from lulcbench.evaluation.patch_series import read_series, spot_all, to_points
    from lulcbench.evaluation.spot_images import open_images, spot_images, to_squares
    from lulcbench.maps.model import MapModel

    for path, suffix in ((gpkg, ".gpkg"), (geojson, ".geojson")):
        if path is not None and path.suffix != suffix:
            raise LulcbenchError(f"{path} does not end in {suffix}.", f"Name a file that ends in {suffix}.")
    if page is None:
        refuse_given(context, ("--top",), "without --page", "name a page")
    rows: list[Row] = []
    if is_table := Path(series).suffix.lower() in _TABLES:
        if model is not None:
            raise LulcbenchError(f"{series} is a table of probabilities.", "Leave out --model, or give images.")
        refuse_given(context, _OF_IMAGES, "on a table of probabilities", "give images")
        patches, left_out = read_series(series, legend_name, clear)
        changes = spot_all(patches, rate, confidence)
        number, years, simulated = len(patches), sum(one.years for one in patches), False
        rows = rows_of_table(changes, {one.place: one for one in patches}) if page else []
    else:
        if model is None:
            raise LulcbenchError(f"{series} is not a table of probabilities.", "Name a --model for images.")
        opened = MapModel.open(model)
        images = open_images(series, opened.info, bands.split(",") if bands else None, scale, offset)
        with counted_progress("spot") as advance:
            spotted = spot_images(
                images,
                opened,
                patch=patch,
                stride=stride,
                level=level,
                legend_name=legend_name,
                clear=CLEAR if clear is None else clear,
                rate=rate,
                confidence=confidence,
                bounds=bounds,
                progress=advance,
            )
        changes, left_out, number, years = spotted.changes, spotted.left_out, spotted.patches, spotted.years
        simulated = images.simulated
        rows = rows_of_images(spotted, top) if page else []
    table_columns = [name for name in changes if name not in ("left", "top")]
    write_atomic(out, changes[table_columns].to_csv(index=False).encode())
    _show(changes)
    summary = f"{len(changes)} changes in {number:,} patches and {years:,.0f} patch-years"
    typer.echo(f"{out}: {summary}")
    for reason, count in left_out.items():
        typer.echo(f"{count:,} images left out: {reason}")
    for path, driver in ((gpkg, "GPKG"), (geojson, "GeoJSON")):
        if path is not None:
            shapes = to_points(changes) if is_table else to_squares(spotted)
            _write_shapes(shapes, path, driver)
    if page is not None:
        title = "Land change" + (" – SIMULATED DATA" if simulated else "")
        write_page(page, title, f"{summary}. The most certain come first.", rows)


def _show(changes: pd.DataFrame) -> None:
    table = new_table("place", "kind", "from", "to", "between", "confidence", title=f"{len(changes)} changes")
    for row in changes.head(_SHOWN).to_dict("records"):
        dates = f"{row['first']} – {row['last']}"
        classes = (str(row["before"]), str(row["after"]))
        table.add_row(escape(row["place"]), row["kind"], *classes, dates, f"{row['confidence']:.2f}")
    result_console().print(table)


def _write_shapes(shapes: geopandas.GeoDataFrame, path: Path, driver: str) -> None:
    """Write a vector file under a temporary name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    if driver == "GeoJSON":  # RFC 7946: WGS 84
        shapes.to_crs("EPSG:4326").to_file(part, driver=driver, layer="changes", index=False, RFC7946="YES")
    else:
        shapes.to_file(part, driver=driver, layer="changes", index=False)
    part.replace(path)
