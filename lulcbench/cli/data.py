"""Commands on releases: info, check-files, download, plot."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from lulcbench._console import harmless, new_table, progress, result_console, transfer_progress
from lulcbench.cli._output import STDOUT, Json, mark_simulated, put_json, refuse_given, save_figure, writable_figure
from lulcbench.errors import LulcbenchError
from lulcbench.legend import legend
from lulcbench.release import MANIFEST, ArrayKey, Manifest, Release
from lulcbench.release.index import fraction_column
from lulcbench.remote import is_remote

Root = Annotated[str, typer.Argument(help="Folder of a release, or its URL.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lulcbench`` command line."""
    app.command()(info)
    app.command()(check_files)
    app.command()(download)
    app.command()(plot)


def info(
    root: Root,
    level: Annotated[int, typer.Option(help="Legend level of the class table.")] = 2,
    json: Json = None,
) -> None:
    """Summarise a release: sensors, sizes, classes per split, licences, citation."""
    facts = _facts(root, level)
    if put_json(json, facts):
        _show(facts, level)


def check_files(
    context: typer.Context,
    root: Annotated[str, typer.Argument(help="Folder of a release.")],
    workers: Annotated[int | None, typer.Option(help="Number of threads; by default one per processor.", min=1)] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Download damaged files again, delete unknown ones.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--from", help="Source of the repair; by default that of the download.")
    ] = None,
    json: Json = None,
) -> None:
    """Check all downloaded files against the manifest; exit code 1 if a file is damaged and was not repaired."""
    from lulcbench.download.downloader import recover
    from lulcbench.download.downloader import repair as repair_files
    from lulcbench.release.verify import expected_files, verify

    if is_remote(root):
        raise LulcbenchError(
            f"{root} is a URL, not a folder.", "Download it; every file is verified during the download."
        )
    if not repair:
        refuse_given(context, ("--from",), "without --repair", "give --repair too")
    folder = Path(root)
    try:
        manifest = Manifest.load(folder)
    except LulcbenchError as error:
        if not repair or not folder.is_dir():
            raise
        typer.echo(harmless(f"BAD  {MANIFEST} {error.what}"), err=json == STDOUT)
        manifest = recover(folder, source)
        typer.echo(f"{manifest.id}: {MANIFEST} repaired", err=json == STDOUT)
    release = Release(folder, manifest)
    expected, _ = expected_files(release)
    with progress() as bar:
        task = bar.add_task("check files", total=len(expected))
        report = verify(release, workers, lambda file: bar.advance(task))
    found = {
        "id": release.id,
        "intact": len(report.good),
        "not_downloaded": len(report.absent),
        "bad": {problem.path: problem.what for problem in report.problems},
    }
    tables = put_json(json, found)
    if tables:
        for problem in report.problems:
            typer.echo(harmless(f"BAD  {problem.path} {problem.what}"))
        absent = f", {len(report.absent)} not downloaded" if report.absent else ""
        typer.echo(f"{release.id}: {len(report.good)} files intact, {len(report.problems)} bad{absent}")
    if report.problems and not repair:
        raise typer.Exit(1)
    if report.problems:
        for problem in report.problems:
            if problem.file is None:
                (folder / problem.path).unlink()
        if bad := [problem.file for problem in report.problems if problem.file]:
            with transfer_progress("repair") as advance:
                repair_files(folder, bad, source, progress=advance)
        if tables:
            typer.echo(f"{release.id}: {len(report.problems)} files repaired")


def download(
    source: Annotated[str, typer.Argument(help="Name on the hub, hf://owner/name\\[@revision], URL or folder.")],
    root: Annotated[str | None, typer.Option(help="Folder to download to; by default data/<name>.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Split to download; repeatable; by default all.")] = None,
    sensors: Annotated[list[str] | None, typer.Option(help="Sensor to download; repeatable; by default all.")] = None,
    year: Annotated[list[int] | None, typer.Option(help="Year to download; repeatable; by default all.")] = None,
    mirror: Annotated[list[str] | None, typer.Option(help="Further address of the release; repeatable.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit on the hub, or the tag of a version, such as v1.0.0.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Number of files in parallel.", min=1)] = 8,
    offline: Annotated[bool, typer.Option("--offline", help="Only check that everything has been downloaded.")] = False,
    json: Json = None,
) -> None:
    """Download a release, or a part of it; run the command again to resume after an interruption."""
    from lulcbench.download.downloader import download as fetch

    name = source.rstrip("/").rpartition("/")[2].partition("@")[0]
    if name in ("", ".", ".."):
        name = Path(source).resolve().name
    folder = root or str(Path("data") / name)
    with transfer_progress("download") as advance:
        release = fetch(
            source,
            folder,
            splits=split,
            sensors=sensors,
            years=year,
            mirrors=mirror or (),
            revision=revision,
            offline=offline or None,
            workers=workers,
            progress=advance,
        )
    if put_json(json, {"id": release.id, "folder": folder, "digest": release.digest}):
        typer.echo(f"{release.id} at {folder}, digest {release.digest}")


def plot(
    root: Root,
    tile: Annotated[str, typer.Argument(help="Tile id, such as E0897N0695.")],
    out: Annotated[
        Path | None, typer.Option(help="Figure to write; by default <tile>.png.", callback=writable_figure)
    ] = None,
    sensors: Annotated[list[str] | None, typer.Option(help="Sensor to show; repeatable; by default all.")] = None,
    season: Annotated[str | None, typer.Option(help="Season to show; by default the one nearest to midsummer.")] = None,
    level: Annotated[int, typer.Option(help="Legend level of the labels.")] = 3,
) -> None:
    """Plot a tile: true colour of each sensor and year (of dated imagery, a clear summer day), and labels."""
    from lulcbench.grid import Tile
    from lulcbench.plotting import credit, figure, tile_panels

    release = Release.open(root)
    panels = tile_panels(release, tile, sensors, season, level)
    named = credit(release, sensors or tuple(release.manifest.sensors), tuple(release.manifest.labels))
    target = out or Path(f"{tile}.png")
    drawn = figure(panels, f"{release.id} {tile}", release.simulated, bounds=Tile.from_id(tile).bounds, credit=named)
    save_figure(drawn, target, dpi=120)
    typer.echo(str(target))


def _facts(root: str, level: int) -> dict[str, Any]:
    from lulcbench.release.verify import missing_files

    legend().codes(level)
    opened = Release.open(root)
    manifest, table = opened.manifest, opened.index()
    remote = is_remote(opened.root)
    missing = set(manifest.files) if remote else set(missing_files(Path(opened.root), manifest.files))
    sizes: dict[str, dict[str, int]] = defaultdict(lambda: {"files": 0, "bytes": 0, "bytes_here": 0})
    for file in manifest.files:
        parts = [file.split, str(file.array or "")] if file.split else ["tables and metadata"]
        entry = sizes[" ".join(filter(None, parts))]
        entry["files"] += 1
        entry["bytes"] += file.bytes
        entry["bytes_here"] += 0 if file in missing else file.bytes
    classes = {
        str(array): {
            split: {
                code: float(table.loc[table["split"] == split, fraction_column(array, code)].mean())
                for code in legend().codes(level)
            }
            for split in info.splits
        }
        for name, info in manifest.labels.items()
        for array in (ArrayKey(name, year) for year in info.years)
    }
    licences = sorted({file.licence for file in manifest.files})
    title = f"{manifest.title}, version {manifest.version} ({manifest.name})"
    return {
        "id": manifest.id,
        "title": manifest.title,
        "description": manifest.description,
        "digest": manifest.digest,
        "data_digest": manifest.data_digest,
        "simulated": manifest.simulated,
        "seasons": [season.model_dump() for season in manifest.seasons],
        "sensors": {name: s.model_dump(exclude={"statistics"}) for name, s in manifest.sensors.items()},
        "labels": {name: info.model_dump(exclude={"class_counts"}) for name, info in manifest.labels.items()},
        "regions": list(manifest.regions),
        "tiles": dict(manifest.splits),
        "sizes": dict(sizes),
        "classes": classes,
        "licences": licences,
        "sources": [source.model_dump() for source in manifest.sources],
        "citation": f"{title}, digest {manifest.digest[:12]}. "
        + "; ".join(dict.fromkeys(source.attribution for source in manifest.sources if source.attribution)),
    }


def _show(facts: dict[str, Any], level: int) -> None:
    out = result_console()
    out.print(f"[bold]{facts['id']}[/] {escape(facts['title'])}", highlight=False)
    mark_simulated(out, facts["simulated"])
    out.print(facts["description"], highlight=False, markup=False)
    out.print(f"digest {facts['digest']}\ndigest of its data {facts['data_digest']}", highlight=False)
    for name, sensor in facts["sensors"].items():
        spans = [f"dated {first}–{last}" for first, last in sensor["spans"]]
        years = ", ".join([*map(str, sensor["years"]), *spans])
        bands = " ".join(band["name"] for band in sensor["bands"])
        more = [sensor["composite"] or "", "with numbers of clear observations" if sensor["clear_counts"] else ""]
        line = "; ".join(filter(None, [years, f"{sensor['resolution']} m", bands, *more]))
        out.print(f"{name}: {line}", highlight=False)
    out.print(f"seasons: {', '.join(season['name'] for season in facts['seasons'])}", highlight=False)
    for name, labels in facts["labels"].items():
        years, splits = ", ".join(map(str, labels["years"])), ", ".join(labels["splits"])
        out.print(f"labels of {name}: {years}; {labels['resolution']} m; in {splits}", highlight=False)
    if not facts["labels"]:
        out.print("labels: none", highlight=False)
    out.print(f"regions: {', '.join(facts['regions'])}", highlight=False)

    sizes = new_table("part", "tiles", "files", "size", "local", title="Sizes")
    for part, entry in facts["sizes"].items():
        tiles = str(facts["tiles"].get(part.split(" ")[0], ""))
        # Rounded down, so that only complete parts have 100 %.
        local = f"{100 * entry['bytes_here'] // max(entry['bytes'], 1)} %"
        sizes.add_row(part, tiles, str(entry["files"]), _size(entry["bytes"]), local)
    out.print(sizes)

    for array, splits in facts["classes"].items():
        classes = new_table("code", "class", *splits, title=f"Share of classes, level {level}, {array}")
        for code in legend().codes(level):
            shares = [split.get(code, 0.0) for split in splits.values()]
            if any(shares):
                classes.add_row(str(code), legend().classes[code].name, *(f"{share:.2%}" for share in shares))
        out.print(classes)

    out.print(f"licences: {'; '.join(facts['licences'])}", highlight=False, markup=False)
    for source in facts["sources"]:
        digest = f" SHA-256 {source['sha256']}" if source["sha256"] else ""
        credit = f"({source['licence']}). {source['attribution']}".rstrip()
        out.print(f"source: {source['title']} {credit}{digest}", highlight=False, markup=False)
    out.print(f"cite: {facts['citation']}", highlight=False, markup=False)


def _size(count: int) -> str:
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.4g} {units[0]}"
