"""Validation of predictions or other maps at points of LUCAS, the European in-situ survey (see ``lucas``).

The LUCAS–CORINE crosswalk translates land cover (and, if recorded, land use) of a point to a LUISA class, mostly of
level 3, sometimes coarser or none. A point is evaluated at the levels of its class, and points that are not evaluated
are counted by reason. LUCAS covers 27 of 41 classes at level 3, and makes no distinction at level 4.

LUCAS is repeated about every three years. For a point with several surveys, the one nearest to the year of the map is
evaluated (the latest if that year is unknown). Points surveyed more than ``MAX_YEARS`` from the year of the map may
have changed on the ground; they are evaluated and counted.

A point is a circle of a few metres, a label pixel has 50 m: part of the disagreement is due to scale.
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
from lulcbench.evaluation._map_values import class_codes, values_at
from lulcbench.evaluation.confusion import margins
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.lucas import SurveyPoints
from lulcbench.evaluation.metrics import shown_in
from lulcbench.evaluation.scores import SCORER_VERSION, WithMetrics
from lulcbench.evaluation.scoring import estimates
from lulcbench.grid import BLOCK_TILES, LABEL_RESOLUTION, TILE_SIZE, Tile
from lulcbench.legend import NODATA, Codes, corine_grid_codes, corine_raster_codes, corine_to_luisa, legend
from lulcbench.predictions import Predictions
from lulcbench.release import Release, TilePosition

MAX_YEARS = 2


class LucasLevel(WithMetrics):
    """Agreement at one level: the metrics of table ``points``; means over classes cover the classes of the points.

    Intervals are computed over spatial blocks of 48 km if two or more contain points.
    """

    level: int
    points: int
    confusion: tuple[tuple[int, ...], ...]


class LucasScores(Frozen):
    """Agreement of a map with LUCAS points.

    Attributes:
        points: number of points in the file.
        evaluated: number of points evaluated at level 1 or finer.
        blocks: spatial blocks of 48 km that contain evaluated points.
        not_evaluated: reason → points.
        places: rule that determined the position → evaluated points.
        decisions: decision in reading points and map → points.
        year: year of the map; None if unknown.
        far_in_time: evaluated points surveyed more than ``MAX_YEARS`` from that year; None if either is unknown.
        levels: one entry for each of the levels 3 to 1.
    """

    scorer_version: str = SCORER_VERSION
    map: str
    points: int
    evaluated: int
    blocks: int
    not_evaluated: dict[str, int]
    places: dict[str, int]
    decisions: dict[str, int]
    year: int | None = None
    far_in_time: int | None = None
    levels: tuple[LucasLevel, ...]


def score_predictions(
    predictions: str | os.PathLike[str], release: str | os.PathLike[str] | Release, points: SurveyPoints, year: int = 0
) -> LucasScores:
    """Validate a predictions file at the points in the tiles of its split.

    Args:
        predictions: file written by ``PredictionWriter``.
        release: the release, opened, or its folder.
        points: points from ``lucas.read_points``.
        year: position of the year, for the change task.

    Raises:
        LulcbenchError: the file is refused.
    """
    x, y = points.table["x"].to_numpy(float), points.table["y"].to_numpy(float)
    predicted = np.zeros(len(x), np.uint16)
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
    path: str | os.PathLike[str],
    points: SurveyPoints,
    legend_name: str = "luisa",
    year: int | None = None,
    band: str | None = None,
) -> LucasScores:
    """Validate a map raster in any CRS at the points.

    Args:
        path: a raster of class codes that GDAL reads; nodata value, mask and NaN mark pixels without a class.
        points: points from ``lucas.read_points``.
        legend_name: ``luisa`` (codes of any level) or ``corine`` (three-digit CORINE codes, or the grid codes 1…44 of
            the Copernicus rasters).
        year: year of the map, if known.
        band: number or description of the band; required if there are several and no description contains the year.

    Raises:
        LulcbenchError: the raster cannot be read, has no CRS, has several bands without a choice, or contains a value
            that is not a code of the legend; or rasterio is not installed.
    """
    table = _map_codes(legend_name)
    x, y = points.table["x"].to_numpy(float), points.table["y"].to_numpy(float)
    at = values_at(path, x, y, band, year)
    codes = class_codes(at.values[at.valid], path)
    if unknown := sorted(set(codes.tolist()) - set(table)):
        raise LulcbenchError(
            f"{path} contains codes that are not in the {legend_name} legend: {unknown[:8]}.",
            "Choose the legend of the map (--legend luisa or corine).",
        )
    decisions: dict[str, int] = {}
    if legend_name == "corine":
        grid = np.isin(codes, list(corine_grid_codes()))
        if grid.any() and np.isin(codes, list(corine_to_luisa())).any():
            raise LulcbenchError(
                f"{path} contains both CORINE grid codes (1…44) and CLC codes (111…523).",
                "Give a map with only one of the two.",
            )
        if grid.any():
            decisions["map values read as CORINE grid codes (1…44)"] = int(grid.sum())
    if at.band:
        decisions[f"map read from band {at.band}"] = int(at.valid.sum())
    mapped = np.zeros(len(x), np.uint16)
    mapped[at.valid] = [table[code] for code in codes.tolist()]
    return score_codes(points, mapped, Path(path).name, year, decisions)


def score_codes(
    points: SurveyPoints,
    mapped: Codes,
    name: str,
    year: int | None = None,
    decisions: dict[str, int] | None = None,
) -> LucasScores:
    """Validate codes of a map against the classes of the points.

    Args:
        points: ``n`` points from ``lucas.read_points``.
        mapped: LUISA codes of the map at the points, uint16 ``(n,)``; 0 where the map has no class.
        name: name of the map.
        year: year of the map, if known.
        decisions: decision in reading the map → points.
    """
    table = points.table
    truth = table["code"].to_numpy(np.uint16)
    located = np.isfinite(table["x"].to_numpy(float))
    evaluated = located & (truth != NODATA) & (mapped != NODATA)
    other_survey = _other_surveys(table[evaluated], year)
    evaluated[other_survey] = False
    reasons: Counter[str] = Counter(str(place).removeprefix("none: ") for place in table["place"][~located])
    reasons["outside the map, or no class there"] = int((located & (mapped == NODATA)).sum())
    reasons.update(table["reason"][located & (mapped != NODATA) & (truth == NODATA)].astype(str))
    reasons["another survey of the same point is evaluated"] = len(other_survey)
    cells = table.loc[evaluated, ["x", "y"]].to_numpy(float) // (BLOCK_TILES * TILE_SIZE)
    blocks, block = np.unique(cells, axis=0, return_inverse=True)
    surveyed = table["year"].to_numpy(float)[evaluated]
    far = None if year is None or np.isnan(surveyed).all() else int((np.abs(surveyed - year) > MAX_YEARS).sum())
    pairs = truth[evaluated], mapped[evaluated]
    return LucasScores(
        map=name,
        points=len(table),
        evaluated=int(evaluated.sum()),
        blocks=len(blocks),
        not_evaluated={reason: n for reason, n in reasons.items() if n},
        places=dict(Counter(table["place"][evaluated].astype(str))),
        decisions=points.decisions | (decisions or {}),
        year=year,
        far_in_time=far,
        levels=tuple(_level(level, *pairs, block.ravel(), len(blocks)) for level in (3, 2, 1)),
    )


def _other_surveys(table: pd.DataFrame, year: int | None) -> npt.NDArray[np.int64]:
    """Rows of records with another survey of the same point nearer to the year of the map (later if it is unknown)."""
    years = table["year"].to_numpy(float)
    distance = np.nan_to_num(-years if year is None else np.abs(years - year), nan=np.inf)
    records = pd.DataFrame(
        {"id": table["id"], "distance": distance, "earlier": np.nan_to_num(-years), "row": table.index}
    )
    later = records[records["id"].notna()].sort_values(["distance", "earlier", "row"]).duplicated("id")
    rows: npt.NDArray[np.int64] = records["row"][later.index[later]].to_numpy(np.int64)
    return rows


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
        return {NODATA: NODATA} | corine_raster_codes()
    raise LulcbenchError(f"Unknown legend {legend_name!r}.", "Choose luisa or corine.")
