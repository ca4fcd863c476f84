"""Drawing the points of a sample from a map, and writing them for those who label them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.class_maps import NONE, ClassMap, MapCount, MapGrid, at_level, count, windows
from lulcbench.evaluation.confusion import Floats
from lulcbench.evaluation.design import BUFFER, Allocation, Design, Kind, Stratum, allocate, allocate_for, sample_size

WHOLE = 0  # code of the single stratum of designs without strata


@dataclass(frozen=True)
class Strata:
    """The strata of a map.

    Attributes:
        level: legend level of the classes that are strata; None for the codes of the map.
        buffer_class: class with a stratum around it, in which omission errors are frequent (Olofsson et al. 2020,
            Remote Sensing of Environment 236, 111492); None without.
        buffer: width of that stratum in metres on the ground, at least a pixel.
        single: all classes together are one stratum.
    """

    level: int | None = None
    buffer_class: int | None = None
    buffer: float = 0.0
    single: bool = False

    def windows(self, map_: ClassMap) -> Iterator[tuple[slice, slice, npt.NDArray[np.int64]]]:
        """Rows, columns and strata of the windows of a map; ``NONE`` for pixels without a class."""
        height, width = map_.grid.shape
        down, across = (0, np.zeros(height, np.int64)) if self.buffer_class is None else _reach(map_.grid, self.buffer)
        for rows, columns in windows((height, width)):
            top, bottom = max(rows.start - down, 0), min(rows.stop + down, height)
            halo = int(across[top:bottom].max())
            left, right = max(columns.start - halo, 0), min(columns.stop + halo, width)
            codes = at_level(map_.read(slice(top, bottom), slice(left, right)), None if self.single else self.level)
            inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
            if self.single:
                codes = np.where(codes == NONE, NONE, WHOLE)
            elif self.buffer_class is not None:
                near = (
                    _near(codes == self.buffer_class, down, across[top:bottom])
                    & (codes != self.buffer_class)
                    & (codes != NONE)
                )
                codes = np.where(near, BUFFER + self.buffer_class, codes)
            yield rows, columns, codes[inner]


def make_design(
    map_: ClassMap,
    kind: Kind = Kind.STRATIFIED,
    strata: Strata | None = None,
    points: int | None = None,
    target_se: float | None = None,
    allocation: Allocation = Allocation.PROPORTIONAL,
    expected: float = 0.8,
    of_class: Mapping[int, float] | None = None,
    minimum: int = 30,
    seed: int = 1,
) -> Design:
    """Design a sample of a map.

    Args:
        map_: the map.
        kind: simple random, systematic or stratified.
        strata: of stratified samples.
        points: number of points; None to reach ``target_se``.
        target_se: wanted standard error of overall accuracy.
        allocation: rule by which points are divided.
        expected: expected user's accuracy of strata.
        of_class: the same of single strata, by code.
        minimum: points of each stratum at least; all pixels of strata with fewer.
        seed: of the selection.

    Raises:
        LulcbenchError: neither or both of ``points`` and ``target_se`` are given, or the design is impossible.
    """
    if (points is None) == (target_se is None):
        raise LulcbenchError("A design has either a number of points or a target.", "Give --points or --target-se.")
    if kind not in (Kind.SIMPLE_RANDOM, Kind.SYSTEMATIC, Kind.STRATIFIED):
        raise LulcbenchError(
            f"No sample of the kind {kind.value} is drawn.", "Choose stratified, or one without strata."
        )
    strata = (strata or Strata()) if kind is Kind.STRATIFIED else Strata(single=True)
    counted = count(map_)
    pixels, areas = _sizes(map_, strata, counted)
    codes = list(pixels)
    by_code = dict(of_class or {})
    if unknown := set(by_code) - set(codes):
        raise LulcbenchError(f"{map_.name} has no strata {sorted(unknown)[:8]}.", f"It has {codes[:40]}.")
    accuracies = [by_code.get(code, expected) for code in codes]
    sizes = [areas[code] for code in codes]
    if kind is Kind.STRATIFIED:
        limits = [pixels[code] for code in codes]
        if points is not None:
            numbers = allocate(points, sizes, allocation, accuracies, minimum, limits).tolist()
        elif target_se is not None:
            numbers = allocate_for(target_se, sizes, allocation, accuracies, minimum, limits).tolist()
    else:
        if target_se is not None:
            points = sample_size(sizes, accuracies, target_se)
        numbers = [points]
        if numbers[0] > pixels[WHOLE]:
            raise LulcbenchError(f"{map_.name} has {pixels[WHOLE]:,} pixels, fewer than points.", "Take fewer points.")
    entries = [
        Stratum(code=code, pixels=pixels[code], area=areas[code], points=number)
        for code, number in zip(codes, numbers, strict=True)
    ]
    return Design(
        kind=kind,
        map=map_.name,
        map_digest=counted.digest,
        level=strata.level,
        strata=tuple(entries),
        seed=seed,
        allocation=allocation if kind is Kind.STRATIFIED else None,
        target_se=target_se,
    )


def draw(map_: ClassMap, design: Design, strata: Strata | None = None) -> pd.DataFrame:
    """Draw the points of a design.

    Args:
        map_: the map of the design.
        design: from ``make_design``.
        strata: those of the design, if it is stratified.

    Returns:
        One row per point in random order: ``id``, ``x`` and ``y`` (centre of the pixel in the CRS of the map),
        ``stratum``, ``weight`` (m² that the point stands for).
    """
    rng = np.random.default_rng(design.seed)
    strata = (strata or Strata()) if design.kind is Kind.STRATIFIED else Strata(single=True)
    if design.kind is Kind.SYSTEMATIC:
        rows, columns, codes, own = _systematic(map_, design, strata, rng)
    else:
        wanted = {s.code: np.sort(rng.choice(s.pixels, s.points, replace=False)) for s in design.strata}
        rows, columns, codes, own = _at_ranks(map_, strata, wanted)
    if not len(rows):
        raise LulcbenchError("The sample has no points.", "Take more points.")
    sizes = {stratum.code: stratum.area for stratum in design.strata}
    table = pd.DataFrame({"stratum": codes, "own": own})
    total = table.groupby("stratum")["own"].transform("sum")
    x, y = map_.grid.positions(rows.astype(float), columns.astype(float))
    table = table.assign(x=x, y=y, weight=table["own"] * table["stratum"].map(sizes) / total)
    table = table.sample(frac=1, random_state=design.seed, ignore_index=True)
    return table.assign(id=np.arange(1, len(table) + 1))[["id", "x", "y", "stratum", "weight"]]


def as_drawn(design: Design, points: pd.DataFrame) -> Design:
    """The design with the numbers of points that were drawn: a systematic sample has about those wanted."""
    drawn = points["stratum"].value_counts().to_dict()
    strata = tuple(stratum.model_copy(update={"points": int(drawn.get(stratum.code, 0))}) for stratum in design.strata)
    return design.model_copy(update={"strata": strata})


def write_sample(
    map_: ClassMap,
    design: Design,
    points: pd.DataFrame,
    path: str | os.PathLike[str],
    classes: Sequence[str] = ("reference",),
    replace: bool = False,
) -> list[Path]:
    """Write a sample ready to label: GeoPackage and CSV with empty columns of classes, and the design.

    Args:
        map_: the map of the design.
        design: of the sample.
        points: from ``draw``.
        path: of the GeoPackage; CSV and design are beside it.
        classes: names of the empty columns.
        replace: replace files that exist, with the labels in them.

    Returns:
        The files.

    Raises:
        LulcbenchError: one of the files exists, the path does not end in .gpkg, or geopandas is not installed.
    """
    files = sample_files(path, replace)
    path = files[0]
    try:
        import geopandas
    except ImportError as error:
        raise LulcbenchError("Writing points requires geopandas.", "Run: pip install 'lulcbench[geo]'.") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = geopandas.points_from_xy(points["x"], points["y"], crs=map_.grid.crs)
    degrees = geopandas.GeoSeries(shapes).to_crs(4326)
    table = points[["id", "stratum", "weight"]].assign(
        lon=degrees.x.round(9),
        lat=degrees.y.round(9),
        **{name: pd.Series(pd.NA, points.index, "string") for name in classes},
    )
    part = path.with_name(f".{path.stem}.part.gpkg")
    geopandas.GeoDataFrame(table, geometry=shapes).to_file(part, driver="GPKG", layer="sample", index=False)
    # If this ends before all files are written, new points have no design and are refused, instead of an older one.
    files[2].unlink(missing_ok=True)
    part.replace(path)
    write_atomic(files[1], table.to_csv(index=False).encode())
    design.save(files[2])
    return files


def sample_files(path: str | os.PathLike[str], replace: bool = False) -> list[Path]:
    """The files of a sample: GeoPackage, CSV and design.

    Raises:
        LulcbenchError: one of them exists and is not to be replaced, or the path does not end in .gpkg.
    """
    path = Path(path)
    if path.suffix != ".gpkg":
        raise LulcbenchError(f"{path} does not end in .gpkg.", "Name a GeoPackage; a CSV file is written beside it.")
    files = [path, path.with_suffix(".csv"), design_path(path)]
    if not replace and (there := [file for file in files if file.exists()]):
        raise LulcbenchError(
            f"{there[0]} exists, and may have labels.", "Give another --out, or --replace to write the sample again."
        )
    return files


def design_path(sample: str | os.PathLike[str]) -> Path:
    """The file of the design beside a sample."""
    return Path(sample).with_suffix(".design.json")


def _near(mask: npt.NDArray[np.bool_], down: int, across: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Pixels within a rectangle around those of a mask, by sums: ``down`` rows, and columns by row."""
    height, width = mask.shape
    sums = np.pad(mask.astype(np.int32), ((1, 0), (0, 0))).cumsum(0)
    row, column = np.arange(height), np.arange(width)
    tall = sums[np.minimum(row + down + 1, height)] > sums[np.maximum(row - down, 0)]
    sums = np.pad(tall.astype(np.int32), ((0, 0), (1, 0))).cumsum(1)
    ends = np.minimum(column + across[:, None] + 1, width), np.maximum(column - across[:, None], 0)
    last, first = (np.take_along_axis(sums, end, axis=1) for end in ends)
    near: npt.NDArray[np.bool_] = last > first
    return near


def _reach(grid: MapGrid, metres: float) -> tuple[int, npt.NDArray[np.int64]]:
    """Numbers of rows, and of columns by row, of a distance on the ground: at least 1.

    Pixels are measured at the middle column, and their height at the middle row.
    """
    from pyproj import CRS, Geod, Transformer

    system = CRS.from_user_input(grid.crs)
    to_degrees = Transformer.from_crs(system, system.geodetic_crs, always_xy=True)
    geod = system.get_geod() or Geod(ellps="WGS84")
    height, width = grid.shape

    def size(row: Floats, column: Floats, down: float, across: float) -> Floats:
        ends = [to_degrees.transform(*grid.positions(row + f * down, column + f * across)) for f in (-0.5, 0.5)]
        length: Floats = np.asarray(geod.inv(*ends[0], *ends[1])[2], np.float64)
        return length

    rows, middle = np.arange(height, dtype=np.float64), np.full(height, width // 2, np.float64)
    tall = size(rows[height // 2 : height // 2 + 1], middle[:1], 1.0, 0.0)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        across = np.nan_to_num(metres / size(rows, middle, 0.0, 1.0), nan=1.0, posinf=width)
    return max(1, round(metres / tall)), np.clip(np.rint(across), 1, width).astype(np.int64)


def _sizes(map_: ClassMap, strata: Strata, counted: MapCount) -> tuple[dict[int, int], dict[int, float]]:
    """Pixels and areas of the strata."""
    if strata.single:
        return {WHOLE: sum(counted.pixels.values())}, {WHOLE: sum(counted.areas.values())}
    pixels: dict[int, int] = {}
    areas: dict[int, float] = {}
    for rows, columns, codes in strata.windows(map_):
        found, index = np.unique(codes, return_inverse=True)
        own = np.broadcast_to(map_.pixel_areas(rows, columns), codes.shape).ravel()
        number, area = np.bincount(index.ravel()), np.bincount(index.ravel(), weights=own)
        for code, n, size in zip(found.tolist(), number.tolist(), area.tolist(), strict=True):
            if code != NONE:
                pixels[code] = pixels.get(code, 0) + n
                areas[code] = areas.get(code, 0.0) + size
    if not pixels:
        raise LulcbenchError(f"{map_.name} has no classes of level {strata.level}.", "Choose a coarser --level.")
    if strata.buffer_class is not None and BUFFER + strata.buffer_class not in pixels:
        raise LulcbenchError(f"{map_.name} has no class {strata.buffer_class} with neighbours.", "Choose another.")
    return dict(sorted(pixels.items())), dict(sorted(areas.items()))


Picked = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def _at_ranks(map_: ClassMap, strata: Strata, wanted: dict[int, npt.NDArray[np.int64]]) -> Picked:
    """Pixels by their rank in the stratum, in the order of windows."""
    passed = dict.fromkeys(wanted, 0)
    parts: list[Picked] = []
    for rows, columns, codes in strata.windows(map_):
        own = np.broadcast_to(map_.pixel_areas(rows, columns), codes.shape)
        for code, ranks in wanted.items():
            places = np.flatnonzero(codes == code)
            first = passed[code]
            passed[code] = first + len(places)
            here = ranks[np.searchsorted(ranks, first) : np.searchsorted(ranks, first + len(places))] - first
            if len(here):
                i, j = np.divmod(places[here], codes.shape[1])
                parts.append((i + rows.start, j + columns.start, np.full(len(i), code), own[i, j].astype(float)))
    return _joined(parts)


def _systematic(map_: ClassMap, design: Design, strata: Strata, rng: np.random.Generator) -> Picked:
    """A square grid with a random origin, in pixels: the number of points is close to the wanted one.

    The distance of nodes is a fraction of pixels, so that every row and column has the same probability.
    """
    step = np.sqrt(design.strata[0].pixels / design.points)
    origin = rng.uniform(0, step, 2)
    lines = [np.arange(first, size, step).astype(np.int64) for first, size in zip(origin, map_.grid.shape, strict=True)]
    parts: list[Picked] = []
    for rows, columns, codes in strata.windows(map_):
        i, j = (
            line[(line >= part.start) & (line < part.stop)] - part.start
            for line, part in zip(lines, (rows, columns), strict=True)
        )
        i, j = (part.ravel() for part in np.meshgrid(i, j, indexing="ij"))
        used = codes[i, j] != NONE
        i, j = i[used], j[used]
        own = np.broadcast_to(map_.pixel_areas(rows, columns), codes.shape)[i, j].astype(float)
        parts.append((i + rows.start, j + columns.start, np.full(len(i), WHOLE), own))
    return _joined(parts)


def _joined(parts: list[Picked]) -> Picked:
    if not parts:
        empty = np.empty(0, np.int64)
        return empty, empty, empty, np.empty(0)
    rows, columns, codes, own = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, columns, codes, own
