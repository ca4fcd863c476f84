"""Commands on samples and areas: ``design``, ``area``, ``change``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lulcbench._console import new_table, result_console
from lulcbench._files import write_atomic
from lulcbench.cli._area_report import HECTARE, class_name, report
from lulcbench.cli._output import (
    Json,
    mark_simulated,
    put_json,
    refuse_given,
    save_figure,
    writable_figure,
    writable_file,
)
from lulcbench.cli._sampling import (
    Clusters,
    FirstPhase,
    OtherMap,
    Sizes,
    Strata,
    StrataLevel,
    Weights,
    sampling_of,
)
from lulcbench.errors import LulcbenchError

if TYPE_CHECKING:
    from lulcbench.evaluation.class_maps import ClassMap
    from lulcbench.evaluation.map_areas import MapAreas
    from lulcbench.evaluation.sampling import Sampling

Map = Annotated[
    Path, typer.Argument(help="Map raster, folder of 'lulcbench map', or predictions (.zip; needs --root).")
]
Root = Annotated[Path | None, typer.Option(help="Folder of the release that was predicted.")]
LegendName = Annotated[
    str, typer.Option(help="Legend of a raster: luisa, corine, values, or a CSV file (value, code).")
]
Year = Annotated[int | None, typer.Option(help="Year of the map, if it has several.")]
Band = Annotated[str | None, typer.Option(help="Band of a raster with several, by number or description.")]
Level = Annotated[int, typer.Option(help="Legend level of the classes.", min=1, max=4)]
To = Annotated[Path | None, typer.Option(help="Later map of the same pixels: classes are then changes.")]
Years = Annotated[
    list[int] | None, typer.Option(help="Year of a map with several; with --to one per map, or one for both.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lulcbench`` command line."""
    app.command()(design)
    app.command()(area)
    app.command()(change)


def design(
    context: typer.Context,
    map: Map,
    out: Annotated[
        Path, typer.Option(help="GeoPackage to write; CSV and design are written beside it.", callback=writable_file)
    ],
    target_se: Annotated[float | None, typer.Option(help="Wanted standard error of overall accuracy.")] = None,
    points: Annotated[int | None, typer.Option(help="Number of points, instead of --target-se.", min=2)] = None,
    kind: Annotated[str, typer.Option(help="stratified (by the map), simple-random or systematic.")] = "stratified",
    allocation: Annotated[
        str, typer.Option(help="Of points to strata: proportional, equal or optimal.")
    ] = "proportional",
    minimum: Annotated[int, typer.Option(help="Points of each stratum at least, or all its pixels.", min=2)] = 30,
    expected: Annotated[
        list[str] | None, typer.Option(help="Expected user's accuracy, such as 0.8, or of one class, such as 311=0.9.")
    ] = None,
    buffer: Annotated[float | None, typer.Option(help="Width in metres of a stratum around --around.")] = None,
    around: Annotated[
        int | None, typer.Option(help="Class with a stratum around it, to catch omission errors.")
    ] = None,
    level: Level = 3,
    seed: Annotated[int, typer.Option(help="Of the random selection.")] = 1,
    root: Root = None,
    legend: LegendName = "luisa",
    year: Years = None,
    band: Band = None,
    to: To = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a sample that is there, and its labels.")] = False,
) -> None:
    """Design a sample of a map and draw its points, ready to label: fill the column reference, then run area."""
    from lulcbench.evaluation.change import STEP
    from lulcbench.evaluation.design import Allocation, Kind
    from lulcbench.evaluation.drawing import Strata as DrawnStrata
    from lulcbench.evaluation.drawing import as_drawn, draw, make_design, sample_files, write_sample

    for value, names, option in ((kind, list(Kind), "--kind"), (allocation, list(Allocation), "--allocation")):
        if value not in names:
            raise LulcbenchError(f"{option} cannot be {value!r}.", f"Choose from {', '.join(names)}.")
    if (buffer is None) != (around is None):
        raise LulcbenchError("--buffer and --around belong together.", "Give both: --buffer 100 --around 311.")
    _check_level(context, legend)
    if kind != Kind.STRATIFIED:
        refuse_given(
            context,
            ("--buffer", "--allocation", "--minimum", "--level"),
            f"with the kind {kind}",
            "state --kind stratified",
        )
    if target_se is None and allocation != Allocation.OPTIMAL:
        refuse_given(context, ("--expected",), "on this number of points", "state --target-se or --allocation optimal")
    sample_files(out, replace)
    shared, by_code = _expected(expected or [])
    labels = ("reference",) if to is None else ("reference", "reference_to")
    with ExitStack() as stack:
        source, used = _open(stack, map, legend, *_years(year, 1 if to is None else 2), band, root, level, to)
        strata = DrawnStrata(used, around, buffer or 0.0)
        made = make_design(
            source,
            Kind(kind),
            strata,
            points,
            target_se,
            Allocation(allocation),
            shared,
            by_code,
            minimum,
            seed,
        )
        drawn = draw(source, made, strata)
        made = as_drawn(made, drawn)
        files = write_sample(source, made, drawn, out, labels, replace)
    table = new_table("stratum", "pixels", "area, ha", "points", title=f"{made.kind.value}, {made.points:,} points")
    for stratum in made.strata:
        name = class_name(stratum.code, used, to is not None)
        table.add_row(name, f"{stratum.pixels:,}", f"{stratum.area / HECTARE:,.0f}", f"{stratum.points:,}")
    result_console().print(table)
    if to is not None and all(first == second for first, second in (divmod(s.code, STEP) for s in made.strata)):
        typer.echo(f"No pixel differs between {map.name} and {to.name}: are they copies of one map?")
    typer.echo(f"{files[0]}: fill {' and '.join(labels)}; {files[2].name} is the design, keep it beside the points")


def area(
    context: typer.Context,
    map: Map,
    sample: Annotated[Path, typer.Option(help="Labelled points: table or vector file.")],
    design: Annotated[
        str | None, typer.Option(help="As of validate; by default the file of 'lulcbench design' beside the sample.")
    ] = None,
    class_column: Annotated[str, typer.Option(help="Column with the class of a point.")] = "reference",
    crosswalk: Annotated[
        Path | None, typer.Option(help="CSV file (value, code) from these classes to LUISA codes.")
    ] = None,
    estimator: Annotated[
        str, typer.Option(help="design, expansion, post-stratified, ratio or prediction-powered.")
    ] = "design",
    strata: Strata = None,
    strata_level: StrataLevel = None,
    sizes: Sizes = None,
    weights: Weights = None,
    clusters: Clusters = None,
    first_phase: FirstPhase = None,
    other_map: OtherMap = False,
    regions: Annotated[Path | None, typer.Option(help="Vector file of regions, such as NUTS.")] = None,
    region_column: Annotated[str, typer.Option(help="Column with the name of a region.")] = "NUTS_ID",
    region_layer: Annotated[str | None, typer.Option(help="Layer of regions, if the file has several.")] = None,
    points_crs: Annotated[str | None, typer.Option(help="CRS of the points if the file has none.")] = None,
    level: Level = 3,
    root: Root = None,
    legend: LegendName = "luisa",
    year: Year = None,
    band: Band = None,
    json: Json = None,
    csv: Annotated[
        Path | None, typer.Option(help="Also write the table of classes to this CSV file.", callback=writable_file)
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the areas with intervals to this file.", callback=writable_figure)
    ] = None,
) -> None:
    """Estimate the areas of the classes of a map from a labelled probability sample, with intervals."""
    _check_level(context, legend)
    if regions is None:
        refuse_given(context, ("--region-column", "--region-layer"), "without --regions", "name a file of regions")
    with ExitStack() as stack:
        source, used = _open(stack, map, legend, year, None, band, root, level, None)
        stated = sampling_of(
            _stated(sample, design), strata, strata_level, sizes, weights, clusters, first_phase, other_map
        )
        areas = None if regions is None else (regions, region_column, region_layer)
        result = _estimate(source, sample, stated, class_column, crosswalk, estimator, areas, points_crs, used)
    report(result, json, csv, figure)


def change(
    context: typer.Context,
    before: Annotated[Path, typer.Argument(metavar="MAP_A", help="Earlier map.")],
    after: Annotated[Path, typer.Argument(metavar="MAP_B", help="Later map of the same pixels.")],
    year: Years = None,
    level: Level = 3,
    sample: Annotated[
        Path | None, typer.Option(help="Points of 'lulcbench design MAP_A --to MAP_B', labelled with pairs.")
    ] = None,
    class_columns: Annotated[
        tuple[str, str], typer.Option(metavar="A B", help="Columns with the earlier and the later class of a point.")
    ] = ("reference", "reference_to"),
    root: Root = None,
    legend: LegendName = "luisa",
    band: Annotated[list[str] | None, typer.Option(help="Band of a raster; one, or one per map.")] = None,
    json: Json = None,
    csv: Annotated[
        Path | None, typer.Option(help="Also write all transitions to this CSV file.", callback=writable_file)
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw gains and losses to this file.", callback=writable_figure)
    ] = None,
) -> None:
    """Compare two maps of the same pixels: transitions, gains and losses; with a sample, areas of change."""
    from lulcbench.evaluation.change import PairMap, transitions
    from lulcbench.evaluation.class_maps import open_map

    _check_level(context, legend)
    if sample is None:
        refuse_given(context, ("--class-columns",), "without --sample", "name the labelled points")
    years = _years(year, 2)
    bands = (*(band or ()), None, None)[:2] if len(band or ()) != 1 else (band or ())[:1] * 2
    used = None if legend == "values" else level
    with ExitStack() as stack:
        maps = [
            stack.enter_context(open_map(path, legend, when, which, root))
            for path, when, which in zip((before, after), years, bands, strict=True)
        ]
        pairs = PairMap(maps[0], maps[1], used)
        if sample is not None:
            stated = sampling_of(_stated(sample, None), None, None, None, None, None, None, other_map=False)
            result = _estimate(pairs, sample, stated, class_columns, None, "design", None, None, None)
            report(result, json, csv, figure, pairs=True)
            return
        found = transitions(pairs)
    content = {
        "simulated": found.simulated,
        "codes": found.codes,
        "pixels": found.pixels.tolist(),
        "areas_m2": found.areas.tolist(),
        "gain_m2": found.gain.tolist(),
        "loss_m2": found.loss.tolist(),
    }
    out = result_console() if put_json(json, content) else Console(quiet=True)
    mark_simulated(out, found.simulated)
    names = [class_name(code, used, False) for code in found.codes]
    table = new_table("class", "before, ha", "after, ha", "gain, ha", "loss, ha", title="change between the maps")
    ends = found.areas.sum(axis=1), found.areas.sum(axis=0), found.gain, found.loss
    for name, *numbers in zip(names, *ends, strict=True):
        table.add_row(name, *(f"{number / HECTARE:,.1f}" for number in numbers))
    out.print(table)
    order = sorted(
        (
            (found.areas[i, j], i, j)
            for i in range(len(names))
            for j in range(len(names))
            if i != j and found.pixels[i, j]
        ),
        reverse=True,
    )
    largest = new_table("from", "to", "pixels", "ha", title="largest transitions")
    for size, i, j in order[:12]:
        largest.add_row(names[i], names[j], f"{found.pixels[i, j]:,}", f"{size / HECTARE:,.1f}")
    out.print(largest)
    if found.equal:
        out.print(f"No pixel differs between {before.name} and {after.name}: are they copies of one map?")
    changed, total = sum(size for size, _, _ in order), float(found.areas.sum())
    out.print(
        f"{changed / HECTARE:,.0f} ha of {total / HECTARE:,.0f} ha differ ({changed / total:.2%}). Errors of both maps "
        "count as change: areas of change require a sample (design MAP_A --to MAP_B)."
    )
    if csv is not None:
        simulated = str(found.simulated).lower()
        lines = [f"{found.codes[i]},{found.codes[j]},{found.pixels[i, j]},{size!r},{simulated}" for size, i, j in order]
        write_atomic(csv, ("\n".join(["from,to,pixels,area_m2,simulated", *lines]) + "\n").encode())
    if figure is not None:
        from lulcbench.plotting import bar_figure

        bars = [
            (name, gain / HECTARE, None, -loss / HECTARE)
            for name, gain, loss in zip(names, found.gain, found.loss, strict=True)
        ]
        save_figure(bar_figure(bars, "Gain and loss, ha", ("gain", "loss"), found.simulated), figure)


def _check_level(context: typer.Context, legend: str) -> None:
    """Refuse a level of maps whose values are the classes."""
    if legend == "values":
        refuse_given(context, ("--level",), "on values", "state another --legend")


def _years(years: list[int] | None, maps: int) -> tuple[int | None, int | None]:
    """Years of one or two maps: none, one for both, or one per map."""
    given = years or []
    if len(given) > maps:
        raise LulcbenchError(
            f"--year is given {len(given)} times for {maps} map{'' if maps == 1 else 's'}.", "Give one, or one per map."
        )
    if not given:
        return None, None
    return given[0], given[-1] if maps == 2 else None


def _open(
    stack: ExitStack,
    path: Path,
    legend: str,
    year: int | None,
    to_year: int | None,
    band: str | None,
    root: Path | None,
    level: int,
    to: Path | None,
) -> tuple[ClassMap, int | None]:
    """The map, or the pair of maps, and the level of its classes."""
    from lulcbench.evaluation.change import PairMap
    from lulcbench.evaluation.class_maps import open_map

    used = None if legend == "values" else level
    opened = stack.enter_context(open_map(path, legend, year, band, root))
    if to is None:
        return opened, used
    later = stack.enter_context(open_map(to, legend, to_year, band, root))
    return PairMap(opened, later, used), None


def _stated(sample: Path, design: str | None) -> str:
    """The design: as stated, or the file beside the sample."""
    from lulcbench.evaluation.drawing import design_path

    beside = design_path(sample)
    return design or (str(beside) if beside.is_file() else "unknown")


def _estimate(
    source: ClassMap,
    sample: Path,
    stated: tuple[Sampling, dict[str, str]],
    class_column: str | tuple[str, str],
    crosswalk: Path | None,
    estimator: str,
    regions: tuple[Path, str, str | None] | None,
    crs: str | None,
    level: int | None,
) -> MapAreas:
    from lulcbench.evaluation.map_areas import Estimator, estimate_areas
    from lulcbench.evaluation.reference_points import inside_regions, read_pairs, read_points

    if estimator not in set(Estimator):
        raise LulcbenchError(f"There is no estimator {estimator!r}.", f"Choose from {', '.join(Estimator)}.")
    sampling, more = stated
    if isinstance(class_column, tuple):
        points = read_pairs(sample, class_column, more)
    else:
        points = read_points(sample, crs, class_column, crosswalk, more, plain=level is None)
    masks = None if regions is None else inside_regions(points, *regions)
    return estimate_areas(source, points, sampling, level, Estimator(estimator), masks)


def _expected(texts: list[str]) -> tuple[float, dict[int, float]]:
    shared, by_code = 0.8, {}
    for text in texts:
        code, found, share = text.rpartition("=")
        try:
            value = float(share)
            if found:
                by_code[int(code)] = value
            else:
                shared = value
        except ValueError as error:
            raise LulcbenchError(f"--expected cannot be {text!r}.", "Give 0.8, or 311=0.9 for one class.") from error
    return shared, by_code
