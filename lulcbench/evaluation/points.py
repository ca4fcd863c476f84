"""Validation of predictions or of any map at points of LUCAS, the European in-situ survey (see ``lucas``).

The LUCAS–CORINE crosswalk translates land cover (and, if recorded, land use) of a point to a LUISA class, mostly of
level 3, sometimes coarser, sometimes to none. A point is evaluated at the levels of its class, and every point that is
not evaluated is counted with the reason. LUCAS reaches 27 of 41 classes at level 3, and none at level 4.

LUCAS is repeated about every three years. A point that was surveyed more than ``MAX_YEARS`` from the year of the map is
of another survey than the nearest one, and may have changed on the ground: such points are evaluated, and counted.

A point is a circle of a few metres, a label pixel has 50 m: part of the disagreement is scale, not error.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.confusion import margins
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import shown_in
from lulcbench.evaluation.scores import SCORER_VERSION, WithMetrics
from lulcbench.evaluation.scoring import estimates
from lulcbench.grid import BLOCK_TILES, CRS, LABEL_RESOLUTION, TILE_SIZE, Tile
from lulcbench.legend import NODATA, Codes, corine_to_luisa, legend
from lulcbench.predictions import Predictions
from lulcbench.release import Release, TilePosition

MAX_YEARS = 2


class LucasLevel(WithMetrics):
    """Agreement at one level: the metrics shown in ``points``; means over classes are over those of the points.

    Intervals are over spatial blocks of 48 km, if two or more hold points.
    """

    level: int
    points: int
    confusion: tuple[tuple[int, ...], ...]


class LucasScores(Frozen):
    """Agreement of a map with LUCAS points.

    Attributes:
        points: points in the file.
        evaluated: points that were evaluated at level 1 at least.
        blocks: spatial blocks of 48 km that contain evaluated points.
        not_evaluated: reason → points.
        year: of the map; None if unknown.
        far_in_time: evaluated points surveyed more than ``MAX_YEARS`` from that year; None if either is unknown.
        levels: one entry for each of the levels 3 to 1.
    """

    scorer_version: str = SCORER_VERSION
    map: str
    points: int
    evaluated: int
    blocks: int
    not_evaluated: dict[str, int]
    year: int | None = None
    far_in_time: int | None = None
    levels: tuple[LucasLevel, ...]


def score_predictions(
    predictions: str | os.PathLike[str], release: str | os.PathLike[str] | Release, points: pd.DataFrame, year: int = 0
) -> LucasScores:
    """Evaluate a predictions file at the points within the tiles of its split.

    Args:
        predictions: file made by ``PredictionWriter``.
        release: the release, opened, or its folder.
        points: of ``lucas.read_points``.
        year: position of the year, for the change task.

    Raises:
        LulcbenchError: the file is refused.
    """
    x, y = points["x"].to_numpy(float), points["y"].to_numpy(float)
    predicted = np.zeros(len(points), np.uint16)
    with Predictions.open(predictions, release) as opened:
        positions = {tile: TilePosition(i) for i, tile in enumerate(opened.info.tiles)}
        tile_of_point = np.array([_tile_of(*location) for location in zip(x, y, strict=True)], "U10")
        for tile in sorted(set(tile_of_point.tolist()) & set(positions)):
            codes = opened.codes(positions[tile])[year]
            left, _, _, top = Tile.from_id(tile).bounds
            inside = np.flatnonzero(tile_of_point == tile)
            column = ((x[inside] - left) // LABEL_RESOLUTION).astype(int)
            # A point on the upper edge belongs to the tile above, so row −1 can only come from rounding.
            row = np.clip(np.ceil((top - y[inside]) / LABEL_RESOLUTION).astype(int) - 1, 0, codes.shape[0] - 1)
            predicted[inside] = codes[row, column]
        return score_codes(points, predicted, Path(predictions).name, opened.info.years[year])


def score_map(
    path: str | os.PathLike[str], points: pd.DataFrame, legend_name: str = "luisa", year: int | None = None
) -> LucasScores:
    """Evaluate any map raster at the points, in the raster's own CRS.

    Args:
        path: a raster of class codes that GDAL reads; its nodata value and NaN stand for no class.
        points: of ``lucas.read_points``.
        legend_name: ``luisa`` (codes of any level) or ``corine`` (three-digit CORINE codes).
        year: of the map, if known.

    Raises:
        LulcbenchError: the raster cannot be read, has no CRS, or contains a value that is not a code of that legend;
            or rasterio is missing.
    """
    try:
        import rasterio
        import rasterio.errors
        import rasterio.warp
    except ImportError as error:
        raise LulcbenchError(
            "Reading map rasters needs rasterio.", "Install what reads geodata: pip install 'lulcbench[geo]'."
        ) from error
    table = _map_codes(legend_name)
    mapped = np.zeros(len(points), np.int64)
    located = np.flatnonzero(np.isfinite(points["x"].to_numpy(float)))
    try:
        with rasterio.open(path) as raster:
            if raster.crs is None:
                raise LulcbenchError(f"{path} has no CRS.", "Assign one, for instance with gdal_edit.py.")
            xs, ys = rasterio.warp.transform(CRS, raster.crs, points["x"].iloc[located], points["y"].iloc[located])
            left, bottom, right, top = raster.bounds
            inside = np.array([left <= x < right and bottom < y <= top for x, y in zip(xs, ys, strict=True)], bool)
            positions = [(xs[i], ys[i]) for i in np.flatnonzero(inside)]
            values = np.array([value[0] for value in raster.sample(positions, indexes=1)], raster.dtypes[0])
            nodata = np.isnan(values) | (values == raster.nodata)
    except rasterio.errors.RasterioError as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a raster of class codes.") from error
    odd = sorted(set(values[~nodata].tolist()) - set(table), key=str)
    if any(isinstance(value, complex) or not math.isfinite(value) or value != int(value) for value in odd):
        raise LulcbenchError(
            f"{path} contains values that are not class codes: {odd[:8]}.",
            "Give a raster of class codes, not of probabilities or averages.",
        )
    if unknown := sorted(map(int, odd)):
        raise LulcbenchError(
            f"{path} contains codes that are not in the {legend_name} legend: {unknown[:8]}.",
            "Choose the legend of the map (--legend luisa or corine).",
        )
    codes = [NODATA if empty else table[value] for value, empty in zip(values.tolist(), nodata, strict=True)]
    mapped[located[inside]] = codes
    return score_codes(points, mapped.astype(np.uint16), Path(path).name, year)


def score_codes(points: pd.DataFrame, mapped: Codes, name: str, year: int | None = None) -> LucasScores:
    """Evaluate the codes of a map against the classes of the points.

    Args:
        points: of ``lucas.read_points``, ``n`` of them.
        mapped: LUISA code of the map at each point, uint16 ``(n,)``; 0 where it has none.
        name: of the map.
        year: of the map, if known.
    """
    truth = points["code"].to_numpy(np.uint16)
    located = np.isfinite(points["x"].to_numpy(float))
    evaluated = located & (truth != NODATA) & (mapped != NODATA)
    reasons: Counter[str] = Counter()
    reasons["no coordinates"] = int((~located).sum())
    reasons["outside the map, or no class there"] = int((located & (mapped == NODATA)).sum())
    for reason in points["reason"][located & (mapped != NODATA) & (truth == NODATA)]:
        reasons[str(reason)] += 1
    cells = points.loc[evaluated, ["x", "y"]].to_numpy(float) // (BLOCK_TILES * TILE_SIZE)
    blocks, block = np.unique(cells, axis=0, return_inverse=True)
    surveyed = points["year"].to_numpy(float)[evaluated] if "year" in points else np.full(evaluated.sum(), np.nan)
    far = None if year is None or np.isnan(surveyed).all() else int((np.abs(surveyed - year) > MAX_YEARS).sum())
    pairs = truth[evaluated], mapped[evaluated]
    return LucasScores(
        map=name,
        points=len(points),
        evaluated=int(evaluated.sum()),
        blocks=len(blocks),
        not_evaluated={reason: n for reason, n in reasons.items() if n},
        year=year,
        far_in_time=far,
        levels=tuple(_level(level, *pairs, block.ravel(), len(blocks)) for level in (3, 2, 1)),
    )


def _level(level: int, truth: Codes, mapped: Codes, block: npt.NDArray[np.intp], blocks: int) -> LucasLevel:
    n = len(legend().codes(level))
    rows, columns = legend().encode(truth, level), legend().encode(mapped, level)
    both = (rows < n) & (columns < n)
    flat = (block[both] * n + rows[both]) * n + columns[both]
    confusions = np.bincount(flat, minlength=blocks * n * n).reshape(blocks, n, n)
    by_block, shown = margins(confusions), shown_in("points")
    agreement = estimates(Family.CLASSES, by_block.sum(axis=0), by_block)
    return LucasLevel(
        level=level,
        points=int(both.sum()),
        metrics={name: estimate for name, estimate in agreement.items() if name in shown},
        confusion=tuple(tuple(map(int, row)) for row in confusions.sum(axis=0)),
    )


def _tile_of(x: float, y: float) -> str:
    if not (math.isfinite(x) and math.isfinite(y)):
        return ""
    ix, iy = math.floor(x / TILE_SIZE), math.floor(y / TILE_SIZE)
    return Tile(ix, iy).id if 0 <= ix <= 9999 and 0 <= iy <= 9999 else ""


def _map_codes(legend_name: str) -> dict[int, int]:
    if legend_name == "luisa":
        return {NODATA: NODATA} | {code: code for code in legend().classes}
    if legend_name == "corine":
        return {NODATA: NODATA} | corine_to_luisa()
    raise LulcbenchError(f"Unknown legend {legend_name!r}.", "Choose luisa or corine.")
