"""``python -m builders validate``: tables and figures that compare a release with other data of the same area."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builders.recipe import load
from builders.stages import plan, search
from builders.workspace import workspace

app = typer.Typer(help="Validate a release against other data of the same area.", no_args_is_help=True)

Root = Annotated[Path, typer.Argument(help="Folder of a release.")]
Figures = Annotated[Path, typer.Option(help="Folder for tables and pictures.")]


@app.command()
def patches(
    root: Root,
    listing: Annotated[Path, typer.Argument(help="CSV with the EuroSAT class of each patch.")],
    figures: Figures,
) -> None:
    """EuroSAT patches: contingency table of EuroSAT classes and majority LUISA classes, and a page of pictures."""
    from builders.cases.validation.patches import contingency, patch_agreement
    from lulcbench.legend import LEVELS

    table = patch_agreement(root.resolve(), listing, figures)
    for level in LEVELS:
        typer.echo(f"level {level}\n{contingency(table, level).to_string()}\n")
    met = table[table["agrees"].notna()]
    typer.echo(met.groupby("eurosat_class")["agrees"].agg(["sum", "count"]).to_string())
    typer.echo(f"agreement {int(met['agrees'].sum())} of {len(met)}; page: {figures / 'patches.png'}")


@app.command()
def classes(
    root: Root,
    figures: Figures,
    sensor: Annotated[str, typer.Option(help="Sensor.")] = "landsat",
    year: Annotated[int, typer.Option(help="Year of images and labels.")] = 2018,
    level: Annotated[int, typer.Option(help="Legend level.", min=1, max=4)] = 2,
) -> None:
    """A figure of image and labels, and the NDVI of each class."""
    from builders.cases.validation.classes import class_ndvi

    typer.echo(class_ndvi(root.resolve(), sensor, year, level, figures).to_string(index=False))
    typer.echo(figures / "classes.png")


@app.command()
def series(
    recipe: Annotated[Path, typer.Argument(help="The recipe that was built.")],
    out: Annotated[Path, typer.Option(help="Folder of the release.")],
    figures: Figures,
) -> None:
    """Agreement of Sentinel-2 and Landsat composites, with and without the cloud mask."""
    from builders.cases.validation.series import sensor_agreement

    space = workspace(out)
    loaded = load(recipe, space.scenes)
    scenes = search.read(space.lock, search.places(loaded, space))
    agreement = sensor_agreement(loaded, space, plan.read(space.splits), scenes, figures)
    typer.echo(
        f"NDVI at 30 m, {agreement.pixels} pixels: r = {agreement.masked} masked, {agreement.unmasked} without the mask"
    )
    typer.echo(f"by season: {agreement.masked_by_season} masked, {agreement.unmasked_by_season} without")
    typer.echo(f"99th percentile of blue: {agreement.blue_99_masked} masked, {agreement.blue_99_unmasked} without")
    typer.echo(figures / "series.png")
