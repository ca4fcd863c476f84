"""``python -m builders``: scenes become a release, in one go or stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from builders._progress import Report
from builders.cases.validation import commands as validation
from builders.recipe import BUFFER, Recipe, SplitRule, load
from builders.stages import plan as plan_stage
from builders.stages import report
from builders.stages import search as search_stage
from builders.stages.coverage import class_lines, read_coverage
from builders.stages.left_out import count_reasons
from builders.workspace import Workspace, read_json, workspace
from lulcbench import _console
from lulcbench._parallel import executor
from lulcbench.errors import LulcbenchError
from lulcbench.release import Manifest, split_order
from lulcbench.remote.retry import LOCAL_FAULTS

if TYPE_CHECKING:
    from builders.readers.scene import Scene
    from builders.stages.audit import Findings

app = typer.Typer(
    help="Build a release: plan → search → materialize → pack → audit → publish.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(validation.app, name="validate")

RecipeFile = Annotated[Path, typer.Argument(help="A recipe, such as builders/recipes/luisa-sim.toml.")]
Out = Annotated[Path, typer.Option(help="Folder of the release.")]
Work = Annotated[Path | None, typer.Option(help="Folder of intermediate results; default: <out>.work.")]
Workers = Annotated[int | None, typer.Option(help="Processes; default: one per core.", min=1)]
Scheduler = Annotated[str | None, typer.Option(help="Address of a dask scheduler to use instead of processes.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A value in place of the recipe's, such as sensors.landsat.catalog=URL."
    ),
]
Regions = Annotated[list[str] | None, typer.Option("--region", help="Only this region of the recipe; repeatable.")]
Replace = Annotated[bool, typer.Option("--replace", help="Put the new release in place of another one.")]


@app.command()
def build(
    recipe: RecipeFile,
    out: Out,
    work: Work = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    replace: Replace = False,
    settings: Settings = None,
    regions: Regions = None,
) -> None:
    """Run all stages; finished work is not repeated."""
    with _open(recipe, out, work, settings, regions) as (loaded, space):
        _fetch(loaded)
        _scenes(loaded, space)
        rows = _plan(loaded, space)
        scenes = search_stage.search(loaded, space, rows)
        with executor(workers, scheduler) as pool:
            _materialize(loaded, space, rows, scenes, pool)
            release = _pack(loaded, space, pool, replace)
        _audit(space.root)
        _say(release, space.root)


@app.command()
def scenes(recipe: RecipeFile, out: Out, work: Work = None, settings: Settings = None, regions: Regions = None) -> None:
    """Make the scenes of the recipe's own ``simulate`` or ``ingest`` table."""
    with _open(recipe, out, work, settings, regions) as (loaded, space):
        if loaded.simulate is None and loaded.ingest is None:
            raise LulcbenchError(
                f"{recipe} has no [simulate] or [ingest] table.", "Its scenes are those of its catalog."
            )
        _fetch(loaded)
        _scenes(loaded, space)
        typer.echo(space.scenes)


@app.command()
def ingest(
    folder: Annotated[Path, typer.Argument(help="Folder of GeoTIFF or JPEG 2000 files or SAFE folders, or one file.")],
    out: Annotated[Path, typer.Option(help="Folder to write: catalog/ and recipe.toml.")],
    name: Annotated[str | None, typer.Option(help="Name of the release; default: that of the folder.")] = None,
    pattern: Annotated[str, typer.Option(help="Of the names of the files to take.")] = "*",
    sensor: Annotated[str | None, typer.Option(help="sentinel2, landsat, planet or sentinel1.")] = None,
    platform: Annotated[str | None, typer.Option(help="Such as landsat-8.")] = None,
    bands: Annotated[str | None, typer.Option(help="Bands of each file in file order: B02,B03,B04,B08.")] = None,
    date: Annotated[list[str] | None, typer.Option(help="2018-07-02, or a span: 2018-06-01/2018-08-31.")] = None,
    scale: Annotated[float | None, typer.Option(help="Value = scale · DN + offset.")] = None,
    offset: Annotated[float | None, typer.Option(help="See --scale.")] = None,
    nodata: Annotated[float | None, typer.Option(help="DN of missing pixels.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of radar backscatter: dB, or 1 (linear power).")] = None,
    baseline: Annotated[str | None, typer.Option(help="Sentinel-2 processing baseline, such as 02.07.")] = None,
    allow_l1c: Annotated[bool, typer.Option("--allow-l1c", help="Take Level-1C, not surface reflectance.")] = False,
    labels: Annotated[Path | None, typer.Option(help="Label map: raster or polygons.")] = None,
    label_source: Annotated[str | None, typer.Option(help="Their legend: luisa, corine or urban-atlas.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="TOML that maps own codes or words to LUISA codes.")] = None,
    field: Annotated[str | None, typer.Option(help="Column of the codes or words of polygons.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the vector file.")] = None,
    label_band: Annotated[str | None, typer.Option(help="Band of a label raster with several.")] = None,
    label_year: Annotated[int | None, typer.Option(help="Year of the labels; default: that of the scenes.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write the recipe again if there is one.")] = False,
) -> None:
    """Write a catalog and a recipe for your own scenes and labels; shows what was understood of each file."""
    from builders.ingest.command import ingest_rule, summary
    from builders.ingest.command import run as write

    told = {"sensor": sensor, "platform": platform, "scale": scale, "offset": offset, "nodata": nodata}
    told |= {"pattern": pattern, "unit": unit, "baseline": baseline, "allow_l1c": allow_l1c}
    rule = ingest_rule(folder, bands, date or [], told)
    own = (labels, label_source, mapping, field, layer, label_band, label_year)
    understood = write(rule, out, name or folder.resolve().stem, own, replace)
    for line in summary(understood):
        typer.echo(line)
    typer.echo(out / "recipe.toml")


@app.command()
def info(recipe: RecipeFile, settings: Settings = None, regions: Regions = None) -> None:
    """Show what a recipe pins and where it searches; nothing is fetched or loaded."""
    from builders.stages.info import OWN_SCENES, lines

    loaded = load(recipe, OWN_SCENES, settings or (), regions or ())
    for line in lines(loaded):
        typer.echo(line)


@app.command()
def plan(recipe: RecipeFile, out: Out, work: Work = None, settings: Settings = None, regions: Regions = None) -> None:
    """Lay out tiles and splits; writes splits.csv, and shows the classes that regions and splits cover and lack."""
    with _open(recipe, out, work, settings, regions) as (loaded, space):
        _fetch(loaded)
        rows = _plan(loaded, space)
        names = split_order(row.split for row in rows if row.split != BUFFER)
        for split in (*names, BUFFER):
            typer.echo(f"{split:<8}{sum(row.split == split for row in rows):>6} tiles")
        planned = [region.name for region in loaded.regions if any(row.region == region.name for row in rows)]
        for region in planned:
            typer.echo(f"{region}: {sum(row.region == region and row.split != BUFFER for row in rows)} tiles")
        for line in class_lines(read_coverage(space.splits), planned, list(filter(loaded.labelled, names))):
            typer.echo(line)
        if omitted := plan_stage.read_omitted(space.splits):
            typer.echo(f"left out: {count_reasons(tile.reason for tile in omitted)}")
        typer.echo(space.splits)


@app.command()
def search(recipe: RecipeFile, out: Out, work: Work = None, settings: Settings = None, regions: Regions = None) -> None:
    """Find the scenes and freeze them in scenes.lock.json."""
    with _open(recipe, out, work, settings, regions) as (loaded, space):
        scenes = search_stage.search(loaded, space, plan_stage.read(space.splits))
        for note in sorted({f"{scene.id}: {note}" for scene in scenes for note in scene.notes}):
            _console.console.print(note)
        typer.echo(f"{len(scenes)} scenes in {space.lock}")
        lock = search_stage.published(loaded.lock or space.lock)
        if lock.get("left_out"):
            typer.echo(f"left out: {count_reasons(scene['reason'] for scene in lock['left_out'])}")


@app.command()
def materialize(
    recipe: RecipeFile,
    out: Out,
    work: Work = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    settings: Settings = None,
    regions: Regions = None,
) -> None:
    """Warp, mask and composite the scenes of the lock file, tile by tile."""
    with _open(recipe, out, work, settings, regions) as (loaded, space):
        rows = plan_stage.read(space.splits)
        scenes = search_stage.found(loaded, space, rows)
        with executor(workers, scheduler) as pool:
            _materialize(loaded, space, rows, scenes, pool)
        typer.echo(space.tiles)


@app.command()
def pack(
    recipe: RecipeFile,
    out: Out,
    work: Work = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    replace: Replace = False,
    settings: Settings = None,
    regions: Regions = None,
) -> None:
    """Write shards, statistics, index and manifest."""
    with _open(recipe, out, work, settings, regions) as (loaded, space):
        with executor(workers, scheduler) as pool:
            release = _pack(loaded, space, pool, replace)
        _say(release, space.root)


@app.command()
def audit(
    root: Annotated[Path, typer.Argument(help="Folder of a release.")],
) -> None:
    """Check files, index and pixels of a release; writes audit.json and audit.html; exit code 2 if it fails."""
    _audit(root.resolve())


@app.command()
def publish(
    root: Annotated[Path, typer.Argument(help="Folder of a release.")],
    target: Annotated[str, typer.Argument(help="Where to: hf://owner/name, s3://… or another URL, or a folder.")],
    allow: Annotated[
        list[str] | None, typer.Option(help="A check of the audit that may fail. Repeat for more, each with its --why.")
    ] = None,
    why: Annotated[list[str] | None, typer.Option(help="Why the release is right although the check fails.")] = None,
) -> None:
    """Copy a release to where users get it, verified and audited."""
    from builders.stages.publish import publish as run

    checks, reasons = allow or [], why or []
    if len(set(checks)) != len(reasons) or not all(reason.strip() for reason in reasons):
        raise LulcbenchError(
            f"--allow is given {len(checks)} times and --why {len(reasons)} times.",
            "Give one reason for each check that is allowed.",
        )
    with _bar("publish") as report:
        typer.echo(run(root, target, dict(zip(checks, reasons, strict=True)), report))


@app.command()
def items(
    root: Annotated[Path, typer.Argument(help="Folder of a release.")],
    out: Annotated[Path, typer.Option(help="New folder beside the release.")],
    address: Annotated[
        str | None, typer.Option(help="Where users get the release, as a URL; default: its place relative to --out.")
    ] = None,
) -> None:
    """Write the STAC items of a release as JSON files with pictures, for STAC Browser and other readers of STAC."""
    from builders.stages.items import write_items

    number = write_items(root, out, address)
    typer.echo(f"{number} items in {out / 'collection.json'}")


@app.command("split-points")
def split_points(
    table: Annotated[Path, typer.Argument(help="CSV with the columns name, class, lon, lat (EPSG:4326).")],
    out: Annotated[Path, typer.Option(help="Folder of the lists.")],
    prefix: Annotated[str, typer.Option(help="Beginning of the lists' names.")],
    suffix: Annotated[str, typer.Option(help="What to add to each name, such as .jpg.")] = "",
    seed: Annotated[int, typer.Option(help="Of the search for a good split.")] = 0,
    fractions: Annotated[str, typer.Option(help="Share of each split.")] = "train=0.6,val=0.2,test=0.2",
) -> None:
    """Assign labelled points, such as EuroSAT's patches, to splits by spatial blocks."""
    from builders.split_points import split_points as run

    rule = SplitRule(fractions=_fractions(fractions), seed=seed)
    for split, n in sorted(run(table, out, rule, prefix, suffix).items()):
        typer.echo(f"{split:<8}{n:>7} points")


def _fractions(text: str) -> dict[str, float]:
    """Shares of splits from ``train=0.6,val=0.2,test=0.2``."""
    remedy = "Write NAME=SHARE,… with shares that sum to 1, such as train=0.8,test=0.2."
    try:
        shares = {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}
        return dict(SplitRule(fractions=shares).fractions)
    except ValueError as error:  # of float(), of the unpacking, or of pydantic
        raise LulcbenchError(f"{text!r} is not shares of splits.", remedy) from error


@contextmanager
def _open(
    path: Path, out: Path, work: Path | None, settings: list[str] | None, regions: list[str] | None
) -> Iterator[tuple[Recipe, Workspace]]:
    """A recipe and its workspace, which no other build uses meanwhile."""
    space = workspace(out, work)
    recipe = load(path, space.scenes, settings or (), regions or ())
    try:
        with space.exclusive():
            yield recipe, space
    except OSError as error:
        if error.errno not in LOCAL_FAULTS:
            raise
        raise LulcbenchError(
            f"{error.filename or space.work} cannot be written: {error.strerror}.",
            "Free space on the disks of --out and --work, and run again; what is finished is kept.",
        ) from error


def _fetch(recipe: Recipe) -> None:
    """Download what the recipe needs."""
    if recipe.downloads:
        from builders.stages.downloads import fetch

        with _bar("download") as report:
            fetch(recipe, report)


def _scenes(recipe: Recipe, space: Workspace) -> None:
    """Render or ingest the recipe's own scenes, unless they are there from the same tables."""
    if recipe.simulate is None and recipe.ingest is None:
        return
    from builders.stages import own_scenes

    with _bar("simulate" if recipe.simulate else "ingest") as report:
        own_scenes.make(recipe, space, report)


def _plan(recipe: Recipe, space: Workspace) -> list[plan_stage.Planned]:
    with _bar("plan") as report:
        return plan_stage.plan(recipe, space, report)


def _materialize(
    recipe: Recipe, space: Workspace, rows: list[plan_stage.Planned], scenes: list[Scene], pool: Executor | None
) -> None:
    from builders.stages.materialize import materialize as run

    with _bar("materialize") as report:
        run(recipe, space, rows, scenes, pool, report)


def _pack(recipe: Recipe, space: Workspace, pool: Executor | None, replace: bool) -> Manifest:
    from builders.stages.pack import pack as run

    with _bar("pack") as report:
        return run(recipe, space, plan_stage.read(space.splits), pool, replace, report)


def _audit(root: Path) -> None:
    from builders.stages.audit import audit as run

    with _bar("audit") as report:
        findings = run(root, report)
    _console.console.print(_table(findings))
    findings.raise_if_bad(root)


def _table(findings: Findings) -> Table:
    """The findings as a table for people."""
    out = Table("check", "checked", "wrong", title=f"{findings.release} {findings.digest[:12]}…")
    for name, n in findings.checked.items():
        wrong = len(findings.problems.get(name, []))
        out.add_row(name, str(n), f"[red]{wrong}[/]" if wrong else "0")
    return out


def _say(release: Manifest, root: Path) -> None:
    splits = ", ".join(f"{n} {split}" for split, n in release.splits.items())
    for line in report.lines(read_json(root / report.FILE, "pack")):
        typer.echo(line)
    typer.echo(f"{release.id} ({splits} tiles) {release.digest}\n{root}")


@contextmanager
def _bar(stage: str) -> Iterator[Report]:
    """A progress bar as a ``report(done, total)`` function."""
    with _console.progress() as bar:
        task = bar.add_task(stage, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    _console.run(app)
