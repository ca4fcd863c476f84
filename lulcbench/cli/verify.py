"""The command ``verify``: where imagery contradicts a map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from lulcbench._console import counted_progress, new_table, result_console
from lulcbench.cli._output import mark_simulated, refuse_given, writable_file
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend

if TYPE_CHECKING:
    from lulcbench.cli._page import Row
    from lulcbench.evaluation.verification import Verified
    from lulcbench.maps.model import Predictor

_SIDE = (96, 480)  # px: least and largest side of a picture
_SHOWN = 10  # rows of the table on the terminal


def register(app: typer.Typer) -> None:
    """Add the command to the ``lulcbench`` command line."""
    app.command()(verify)


def verify(
    context: typer.Context,
    map: Annotated[Path, typer.Argument(help="Vector file of polygons, map raster, or folder of 'lulcbench map'.")],
    imagery: Annotated[str, typer.Option(help="Folder of a release, labelled or not, or its URL.")],
    model: Annotated[Path, typer.Option(help="Folder of an exported segmentation model.")],
    out: Annotated[Path, typer.Option(help="GeoPackage of the ranked polygons to write.", callback=writable_file)],
    page: Annotated[
        Path | None, typer.Option(help="HTML page of the most suspicious polygons to write.", callback=writable_file)
    ] = None,
    top: Annotated[int, typer.Option(help="Polygons on the page.", min=1, max=500)] = 30,
    level: Annotated[int, typer.Option(help="Legend level at which classes are compared.", min=1, max=4)] = 1,
    year: Annotated[int | None, typer.Option(help="Year of the imagery; default: the last one.")] = None,
    legend_name: Annotated[
        str, typer.Option("--legend", help="Legend of the map: luisa, corine, or a CSV file (value, code).")
    ] = "luisa",
    class_column: Annotated[str | None, typer.Option(help="Column of a vector file with the classes.")] = None,
    map_year: Annotated[int | None, typer.Option(help="Year of the map, if it has several.")] = None,
    band: Annotated[str | None, typer.Option(help="Band of a raster with several, by number or description.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of a vector file with several layers of polygons.")] = None,
) -> None:
    """Rank the polygons of a map by the calibrated probability that their class is wrong, as the imagery shows."""
    from lulcbench.cli._page import write_page
    from lulcbench.evaluation.verification import verify_map, write_polygons

    if out.suffix != ".gpkg":
        raise LulcbenchError(f"{out} does not end in .gpkg.", "Name a GeoPackage.")
    if page is None:
        refuse_given(context, ("--top",), "without --page", "name a page")
    with counted_progress("verify") as advance:
        verified = verify_map(
            map,
            imagery,
            model,
            level=level,
            year=year,
            legend_name=legend_name,
            class_column=class_column,
            map_year=map_year,
            band=band,
            layer=layer,
            progress=advance,
        )
    write_polygons(verified, out)
    polygons = verified.polygons
    table = new_table(
        "rank", "class", "suggested", "wrong", "pixels", title=f"{len(polygons):,} polygons, level {level}"
    )
    for rank, row in enumerate(polygons.head(_SHOWN).itertuples(), start=1):
        table.add_row(str(rank), _name(row.code), _name(row.suggested), f"{row.wrong:.3f}", f"{row.pixels:,}")
    console = result_console()
    mark_simulated(console, verified.simulated)
    console.print(table)
    for reason, number in verified.left_out.items():
        typer.echo(f"{number:,} polygons left out: {reason}")
    if verified.repaired:
        typer.echo(f"{verified.repaired:,} polygons of {map.name} cross themselves and were repaired")
    typer.echo(f"{out}: about {verified.expected:,.0f} of {len(polygons):,} polygons are wrong")
    if page is not None:
        introduction = (
            f"{len(polygons):,} polygons were compared with the imagery of {verified.imagery.year} by the model "
            f"{verified.model.info.name}; about {verified.expected:,.0f} of them are wrong. The most suspicious ones "
            "come first."
        )
        mark = " – SIMULATED DATA" if verified.simulated else ""
        write_page(page, f"{map.name}: polygons that the imagery contradicts{mark}", introduction, _rows(verified, top))
        typer.echo(f"{page}: the {min(top, len(polygons))} most suspicious polygons")


def _name(code: int) -> str:
    return f"{code} {legend().classes[code].name}"


def _rows(verified: Verified, top: int) -> list[Row]:
    from lulcbench.cli._page import Row

    predictor = verified.model.predictor()
    rows = []
    for rank, polygon in enumerate(verified.polygons.head(top).itertuples(), start=1):
        x, y = polygon.geometry.representative_point().coords[0]
        title = f"{rank}. {_name(polygon.code)}: wrong with a probability of {polygon.wrong:.0%}"
        text = (
            f"The imagery suggests {_name(polygon.suggested)}. {polygon.pixels:,} pixels at {x:.0f}, {y:.0f} "
            "(EPSG:3035)."
        )
        rows.append(Row(title, text, _pictures(verified, predictor, polygon)))
    return rows


def _pictures(verified: Verified, predictor: Predictor, polygon: Any) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """Image, map and prediction around a polygon, with its outline."""
    from rasterio.features import rasterize
    from rasterio.transform import from_origin
    from shapely.geometry import box

    from lulcbench.maps.layers import temper
    from lulcbench.maps.model import step_of
    from lulcbench.plotting import rgb_panel

    imagery, info = verified.imagery, verified.model.info
    resolution, step = info.resolution, step_of(info)
    left, bottom, right, top = polygon.geometry.bounds
    wanted = np.clip(1.5 * max(right - left, top - bottom) / resolution, *_SIDE)
    side = int(np.ceil(wanted / step) * step)
    size = step * resolution
    x0 = np.floor(((left + right) / 2 - side * resolution / 2) / size) * size
    y1 = np.ceil(((bottom + top) / 2 + side * resolution / 2) / size) * size
    bounds = (x0, y1 - side * resolution, x0 + side * resolution, y1)
    transform = from_origin(x0, y1, resolution, resolution)
    window = imagery.read(bounds)
    sensor, wanted_bands = next(iter(info.inputs.items()))
    bands = [band for band in imagery.release.manifest.sensor(sensor).bands if band.name in wanted_bands.bands]
    bands.sort(key=lambda band: wanted_bands.bands.index(band.name))
    values = window.images[sensor] * np.array(wanted_bands.std)[:, None, None]
    values += np.array(wanted_bands.mean)[:, None, None]
    seasons = values.reshape(-1, len(bands), side, side)[-len(wanted_bands.seasons) :]
    seen = window.composites > 0
    image = rgb_panel(np.where(seen, seasons[len(seasons) // 2], np.nan), bands, "image").rgb
    own = temper(predictor(window.images), info.temperature)
    parents = legend().parents(info.level or verified.level, verified.level)
    p = np.stack([own[parents == i].sum(axis=0) for i in range(parents.max() + 1)])
    colors = legend().colors(verified.level)
    predicted = np.where(seen[..., None], colors[p.argmax(axis=0)], 255).astype(np.uint8)
    codes = list(legend().codes(verified.level))
    near = verified.polygons.iloc[verified.polygons.sindex.query(box(*bounds), predicate="intersects")]
    shapes = [(shape, codes.index(code) + 1) for shape, code in zip(near.geometry, near["code"], strict=True)]
    at = rasterize(shapes, out_shape=(side, side), transform=transform, dtype="uint8")
    mapped = np.where((at > 0)[..., None], colors[np.maximum(at, 1) - 1], 255).astype(np.uint8)
    outline = rasterize([polygon.geometry.boundary], out_shape=(side, side), transform=transform, all_touched=True) > 0
    pictures = [np.rint(np.asarray(image, np.float64) * 255).astype(np.uint8), mapped, predicted]
    for picture in pictures:
        picture[outline] = 255 if picture is pictures[0] else 0
    return list(zip(("image", "map", "prediction"), pictures, strict=True))
