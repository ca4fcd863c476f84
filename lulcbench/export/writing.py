"""Export: which layers of which tiles, joined to rasters and written one after another."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affine import Affine

from lulcbench._files import full_disk_named
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.export.layers import ExportLayer, Member, prediction_layers, release_layers
from lulcbench.export.outlines import write_outlines
from lulcbench.geotiff import Part, Raster, write_cog
from lulcbench.grid import TILE_SIZE, Bounds, Tile, pixels
from lulcbench.legend import LEVELS
from lulcbench.predictions import Predictions
from lulcbench.release import Release, Row, TilePosition

Progress = Callable[[int, int], None]  # tiles of layers done, and in total


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export: the tiles and layers that meet all conditions; an empty condition is met by all.

    Attributes:
        layers: arrays of the release (``landsat_2018``), or all arrays of a name (``landsat``, ``landsat-clear``,
            ``luisa``).
        tiles: ids of tiles.
        regions: names of regions.
        splits: names of splits.
        bounds: left, bottom, right, top in EPSG:3035 metres; tiles that overlap it are exported whole.
        years: of imagery, labels and predictions.
        seasons: of imagery.
        levels: of classes.
        predictions: a predictions file; then layers of the release are exported only if ``layers`` names some.
        probabilities: also export the class probabilities of the predictions file.
        per_tile: write files per tile instead of joining the tiles of a region.
    """

    layers: tuple[str, ...] = ()
    tiles: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    bounds: Bounds | None = None
    years: tuple[int, ...] = ()
    seasons: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()
    predictions: str | os.PathLike[str] | None = None
    probabilities: bool = False
    per_tile: bool = False


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported.

    Attributes:
        files: the GeoTIFFs.
        tiles: number of tiles.
        left_out: layers of which none of the tiles has anything, such as labels of an unlabelled split.
        outlines: a GeoPackage of the outlines of all tiles of the release, by split.
    """

    files: tuple[Path, ...]
    tiles: int
    left_out: tuple[str, ...]
    outlines: Path


def export_release(
    root: str | os.PathLike[str] | Release,
    out: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export layers of a release as cloud-optimized GeoTIFFs; see ``lulcbench.export`` for the files.

    One tile of one layer is in memory at a time, in addition to GDAL's cache. A file is written to a temporary name and
    renamed.

    Args:
        root: folder or URL of a release, or an opened one.
        out: folder of the files.
        options: what to export.
        replace: replace files that exist.
        progress: is told the numbers of tiles of layers that are done, and of all.

    Raises:
        NotAvailableError: the release lacks a tile, region, split, layer, year or season; no tile meets all conditions,
            or nothing of a layer, year or level does.
        LulcbenchError: a file exists already, the predictions file is of another release, or the disk is full.
        CorruptFileError: a shard is missing or damaged.

    Examples:
        >>> from lulcbench.export import ExportOptions, export_release
        >>> options = ExportOptions(layers=("luisa_2018",), splits=("test",), levels=(1,))
        >>> [path.name for path in export_release(root, "geotiffs", options).files]
        ['luisa_2018_level1_east.tif']
    """
    release, options, folder = Release.open(root), options or ExportOptions(), Path(out)
    members = _members(release, options)
    with ExitStack() as stack, full_disk_named(folder, "Free some space; --replace writes the files again."):
        predictions = None
        if options.predictions is not None:
            predictions = stack.enter_context(Predictions.open(options.predictions, release))
        elif options.probabilities:
            raise LulcbenchError("There are no predictions, so no probabilities.", "Give a predictions file, too.")
        layers = _layers(release, predictions, members, options)
        jobs = [
            (folder / place / f"{layer.name}_{place}.tif", layer, held)
            for place, tiles in _places(members, options.per_tile).items()
            for layer in layers
            if (held := [member for member in tiles if layer.has(member)])
        ]
        written = {layer.name for _, layer, _ in jobs}
        left_out = tuple(layer.name for layer in layers if layer.name not in written)
        if not jobs or (left_out and (options.layers or predictions)):
            raise NotAvailableError(
                f"None of the {len(members)} tiles has {', '.join(left_out)}.",
                "Choose tiles of another split, or other layers; 'lulcbench info' shows which splits have labels.",
            )
        there = [path for path, _, _ in jobs if path.exists()]
        if there and not replace:
            raise LulcbenchError(
                f"{there[0]} exists already{f', and {len(there) - 1} more' if len(there) > 1 else ''}.",
                "Give another --out, or --replace to write the files again.",
            )
        outlines = folder / f"tiles_{release.id}.gpkg"
        if replace or not outlines.exists():  # a release does not change
            write_outlines(release, outlines)
        done, total = 0, sum(len(held) for _, _, held in jobs)
        common = _tags(release)
        for path, layer, held in jobs:
            _write(path, layer, held, common)
            done += len(held)
            if progress:
                progress(done, total)
    return ExportResult(tuple(path for path, _, _ in jobs), len(members), left_out, outlines)


def _members(release: Release, options: ExportOptions) -> list[Member]:
    """Tiles that meet all conditions, in the order of the release."""
    table = release.index()
    for what, wanted, known in (
        ("tile", options.tiles, table["id"]),
        ("region", options.regions, table["region"]),
        ("split", options.splits, table["split"]),
    ):
        _known(release, what, wanted, list(dict.fromkeys(known)))
    if options.bounds is not None:
        left, bottom, right, top = options.bounds
        if not (all(map(math.isfinite, options.bounds)) and left < right and bottom < top):
            raise LulcbenchError(
                f"Bounds {options.bounds} are empty.", "Give left, bottom, right, top in EPSG:3035 metres."
            )
    found = []
    columns = (table[name].tolist() for name in ("id", "split", "row", "region"))
    for tile_id, split, row, region in zip(*columns, strict=True):
        tile = Tile.from_id(tile_id)
        position = TilePosition(int(row) - release.manifest.rows(split).start)
        if (
            (not options.tiles or tile_id in options.tiles)
            and (not options.regions or region in options.regions)
            and (not options.splits or split in options.splits)
            and (options.bounds is None or _overlap(tile.bounds, options.bounds))
        ):
            found.append(Member(tile, split, position, Row(int(row)), region))
    if not found:
        tiles = [Tile.from_id(tile).bounds for tile in table["id"]]
        left, bottom, right, top = (
            f(side) for f, side in zip((min, min, max, max), zip(*tiles, strict=True), strict=True)
        )
        raise NotAvailableError(
            f"No tile of {release.id} meets all conditions.",
            f"Its tiles span {left} {bottom} {right} {top} (left, bottom, right, top; EPSG:3035 metres).",
        )
    return found


def _overlap(a: Bounds, b: Bounds) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _known(release: Release, what: str, wanted: Sequence[object], known: Sequence[object]) -> None:
    for value in wanted:
        if value not in known:
            some = ", ".join(map(str, known[:10])) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
            raise NotAvailableError(f"{release.id} has no {what} {value!r}.", f"It has {some or 'none'}.")


def _layers(
    release: Release, predictions: Predictions | None, members: Sequence[Member], options: ExportOptions
) -> list[ExportLayer]:
    """The layers that meet all conditions.

    Raises:
        NotAvailableError: there is no such layer, year or season, or no layer meets all conditions.
    """
    manifest = release.manifest
    arrays = {str(array): array.name for array in manifest.arrays}
    _known(release, "layer", options.layers, [*dict.fromkeys(arrays.values()), *arrays])
    _known(release, "season", options.seasons, [season.name for season in manifest.seasons])
    _known(release, "year", options.years, manifest.years)
    for level in options.levels:
        if level not in LEVELS:
            raise LulcbenchError(f"LUISA has no level {level}.", "Choose level 1, 2, 3 or 4.")
    candidates: list[ExportLayer] = []
    if options.layers or predictions is None:
        candidates += [
            layer
            for layer in release_layers(release, members)
            if not options.layers or {layer.array, arrays[layer.array]} & set(options.layers)
        ]
    if predictions is not None:
        candidates += prediction_layers(predictions, options.probabilities)
    for what, wanted, tag in (("season", options.seasons, "SEASON"), ("level", options.levels, "LEVEL")):
        if wanted and not any(tag in layer.tags for layer in candidates):
            raise LulcbenchError(
                f"None of the layers is of a {what}.", f"Leave out the {what}, or choose other layers."
            )
    found = [layer for layer in candidates if _meets(layer, options)]
    if not found:
        raise NotAvailableError("No layer meets all conditions.", f"{release.id} has {', '.join(arrays)}.")
    _check_each(found, arrays, options)
    return found


def _check_each(layers: Sequence[ExportLayer], arrays: Mapping[str, str], options: ExportOptions) -> None:
    """Check that each array, year and level that was requested is among the layers that meet all conditions.

    Raises:
        NotAvailableError: one is not, so that it would be left out without a word.
    """
    names = {name for layer in layers for name in (layer.array, arrays.get(layer.array))}
    levels = {int(layer.tags["LEVEL"]) for layer in layers if "LEVEL" in layer.tags}
    for what, wanted, held in (
        ("layers", options.layers, names),
        ("year", options.years, {_year(layer) for layer in layers}),
        ("level", options.levels, levels),
    ):
        for value in wanted:
            if value not in held:
                raise NotAvailableError(
                    f"Nothing of {what} {value} meets all conditions.", "Leave it out, or choose other years or layers."
                )


def _meets(layer: ExportLayer, options: ExportOptions) -> bool:
    """Whether a layer meets the conditions on year, season and level; one without a season or level meets them."""
    tags = layer.tags
    return (
        (not options.years or _year(layer) in options.years)
        and (not options.seasons or tags.get("SEASON", options.seasons[0]) in options.seasons)
        and (not options.levels or int(tags.get("LEVEL", options.levels[0])) in options.levels)
    )


def _year(layer: ExportLayer) -> int:
    return int(layer.tags.get("YEAR", layer.tags.get("DATE", "")[:4]))


def _places(members: Sequence[Member], per_tile: bool) -> dict[str, list[Member]]:
    """Tiles of each region, or each tile alone."""
    places: dict[str, list[Member]] = {}
    for member in members:
        places.setdefault(member.tile.id if per_tile else member.region, []).append(member)
    return places


def _write(path: Path, layer: ExportLayer, members: Sequence[Member], tags: dict[str, str]) -> None:
    """Write a layer of a place."""
    left = min(member.tile.ix for member in members)
    top = max(member.tile.iy for member in members)
    across = max(member.tile.ix for member in members) + 1 - left
    down = top + 1 - min(member.tile.iy for member in members)
    side = pixels(TILE_SIZE, layer.resolution)

    def parts() -> Iterator[Part]:
        for member in members:
            y, x = (top - member.tile.iy) * side, (member.tile.ix - left) * side
            yield slice(y, y + side), slice(x, x + side), layer.read(member)

    raster = Raster(
        dtype=layer.dtype,
        shape=(down * side, across * side),
        transform=Affine(layer.resolution, 0, left * TILE_SIZE, 0, -layer.resolution, (top + 1) * TILE_SIZE),
        bands=layer.bands,
        nodata=layer.nodata,
        classes=layer.classes,
        tags=tags | layer.tags | {"TITLE": f"{layer.name}, {tags['TITLE']}"},
        style=layer.style,
        resampling="mode" if layer.classes else "average",
        sparse=True,
        part=side,
    )
    write_cog(path, raster, [parts()])


def _tags(release: Release) -> dict[str, str]:
    """Tags of all files."""
    manifest = release.manifest
    credit = "; ".join(dict.fromkeys(source.attribution for source in manifest.sources if source.attribution))
    tags: dict[str, Any] = {"TITLE": manifest.title, "RELEASE": f"{release.id} {release.digest}"}
    return tags | ({"ATTRIBUTION": credit} if credit else {}) | ({"SIMULATED": "true"} if release.simulated else {})
