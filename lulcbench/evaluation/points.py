"""Validation against LUCAS, the European in-situ survey: predictions of a split, or any map, judged at points.

LUCAS says land cover (and perhaps land use) of a point; the LUCAS–CORINE correspondence brings that to a LUISA class,
mostly of level 3, sometimes coarser, sometimes none. Nothing finer than what the correspondence can say is judged, and
every point that is not judged is counted with the reason. LUCAS reaches 27 of 41 classes at level 3 and tells no
level-4 classes apart.

LUCAS is repeated every three years or so. A point surveyed more than ``MAX_YEARS`` from the map's year is therefore of
another survey than the nearest one, and what differs may have changed on the ground: such points are judged as the
others are, and counted.

A point is a circle of a few metres, a label pixel 50 m: part of the disagreement is scale, not error.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

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
from lulcbench.legend import NODATA, Codes, corine_to_luisa, legend, lucas_to_luisa
from lulcbench.predictions import Predictions
from lulcbench.release import Release, TilePosition

MAX_YEARS = 2
_MISSING = 88  # coordinates of 88.88 stand for "not measured" in the harmonised tables
_COLUMNS = {
    "id": ("point_id", "pointid"),
    "lc1": ("lc1", "survey_lc1"),
    "lu1": ("lu1", "survey_lu1"),
    "lat": ("gps_lat", "survey_gps_lat"),
    "lon": ("gps_long", "gps_lon", "survey_gps_long"),
    "lat_theory": ("th_lat", "point_lat"),
    "lon_theory": ("th_long", "point_long"),
    "year": ("year", "survey_year"),
    "date": ("surveydate", "survey_date", "survey_dat"),  # a shapefile cuts names at ten characters
}
_INSTALL = "Install what reads geodata: pip install 'lulcbench[geo]'."


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
        judged: points that were judged at level 1 at least.
        blocks: spatial blocks of 48 km in which those lie.
        not_judged: reason → points.
        year: of the map; None if it was not said.
        far_in_time: judged points surveyed more than ``MAX_YEARS`` from that year; None if either year is not known.
        levels: one entry for each of the levels 1 to 3.
    """

    scorer_version: str = SCORER_VERSION
    map: str
    points: int
    judged: int
    blocks: int
    not_judged: dict[str, int]
    year: int | None = None
    far_in_time: int | None = None
    levels: tuple[LucasLevel, ...]


def read_points(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read LUCAS points from a harmonised table (CSV, or its zip) or any vector file (shapefile, GeoPackage).

    Measured (GPS) coordinates are taken where there are any, theoretical ones otherwise.

    Returns:
        ``x`` and ``y`` (EPSG:3035 metres, NaN where unknown), ``code`` (LUISA code, 0 where the correspondence has
        none), ``reason`` (why there is none; empty where there is) and ``year`` (of the survey, NaN where unknown).

    Raises:
        LulcbenchError: the file cannot be read or lacks columns.
    """
    path = Path(path)
    if not path.is_file():
        raise LulcbenchError(f"No LUCAS file {path}.", "Get lucas_harmo_uf_2018.zip from the JRC open data catalogue.")
    table, x, y = _read_table(path) if path.suffix in (".csv", ".zip") else _read_vector(path)
    if "lc1" not in table:
        raise LulcbenchError(f"{path} has no column lc1.", f"It has {', '.join(map(str, table.columns[:20]))}.")
    cover = table["lc1"].astype("string").str.split(" ").str[0].str.upper()  # 2022 writes "B11 - Common wheat"
    use = table["lu1"].astype("string").str.split(" ").str[0].str.upper() if "lu1" in table else None
    pairs = list(zip(cover, use if use is not None else [None] * len(cover), strict=True))
    known = {pair: _judge(*pair) for pair in set(pairs)}
    codes, reasons = ([known[pair][i] for pair in pairs] for i in (0, 1))
    return pd.DataFrame({"x": x, "y": y, "code": codes, "reason": reasons, "year": _years(table)})


def score_predictions(
    predictions: str | os.PathLike[str], release: str | os.PathLike[str] | Release, points: pd.DataFrame, year: int = 0
) -> LucasScores:
    """Judge a predictions file at the points that lie in the tiles of its split.

    Args:
        predictions: file made by ``PredictionWriter``.
        release: the release, opened, or its folder.
        points: of ``read_points``.
        year: position of the year, for the change task.
    """
    x, y = points["x"].to_numpy(float), points["y"].to_numpy(float)
    found = np.zeros(len(points), np.uint16)
    with Predictions.open(predictions, release) as opened:
        positions = {tile: TilePosition(i) for i, tile in enumerate(opened.info.tiles)}
        at = [_tile_of(a, b) for a, b in zip(x, y, strict=True)]
        for tile in sorted(set(at) & set(positions)):
            codes = opened.codes(positions[tile])[year]
            left, _, _, top = Tile.from_id(tile).bounds
            here = np.array([i for i, name in enumerate(at) if name == tile])
            column = ((x[here] - left) // LABEL_RESOLUTION).astype(int)
            # A point on the upper edge belongs to the tile above, so row −1 cannot occur but by rounding.
            row = np.clip(np.ceil((top - y[here]) / LABEL_RESOLUTION).astype(int) - 1, 0, codes.shape[0] - 1)
            found[here] = codes[row, column]
        return judge(points, found, Path(predictions).name, opened.info.years[year])


def score_map(
    path: str | os.PathLike[str], points: pd.DataFrame, legend_name: str = "luisa", year: int | None = None
) -> LucasScores:
    """Judge any map raster at the points, in the raster's own projection.

    Args:
        path: a raster of class codes that GDAL reads; its nodata value and NaN stand for no class.
        points: of ``read_points``.
        legend_name: ``luisa`` (codes of any level) or ``corine`` (three-digit CORINE codes).
        year: that the map is of, if known.

    Raises:
        LulcbenchError: the raster cannot be read, has no projection, or holds what is no code of that legend; or
            rasterio is missing.
    """
    try:
        import rasterio
        import rasterio.errors
        import rasterio.warp
    except ImportError as error:
        raise LulcbenchError("Reading map rasters needs rasterio.", _INSTALL) from error
    table = _map_codes(legend_name)
    found = np.zeros(len(points), np.int64)
    placed = np.flatnonzero(np.isfinite(points["x"].to_numpy(float)))
    try:
        with rasterio.open(path) as raster:
            if raster.crs is None:
                raise LulcbenchError(f"{path} has no projection.", "Give it one, for instance with gdal_edit.")
            xs, ys = rasterio.warp.transform(CRS, raster.crs, points["x"].iloc[placed], points["y"].iloc[placed])
            left, bottom, right, top = raster.bounds
            inside = [left <= a < right and bottom < b <= top for a, b in zip(xs, ys, strict=True)]
            where = [(a, b) for a, b, ok in zip(xs, ys, inside, strict=True) if ok]
            values = np.array([v[0] for v in raster.sample(where, indexes=1)], raster.dtypes[0])
            silent = np.isnan(values) | (values == raster.nodata)
    except rasterio.errors.RasterioError as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a raster of class codes.") from error
    odd = sorted(set(values[~silent].tolist()) - set(table), key=str)
    if any(isinstance(v, complex) or not math.isfinite(v) or v != int(v) for v in odd):
        raise LulcbenchError(
            f"{path} holds values that are no class codes: {odd[:8]}.",
            "Give a raster of class codes, not of probabilities or averages.",
        )
    if unknown := sorted(map(int, odd)):
        raise LulcbenchError(
            f"{path} holds codes that are not in the {legend_name} legend: {unknown[:8]}.",
            "Choose the legend it is made with (--legend luisa or corine).",
        )
    codes = [NODATA if no else table[v] for v, no in zip(values.tolist(), silent, strict=True)]
    found[placed[np.array(inside, bool)]] = codes
    return judge(points, found.astype(np.uint16), Path(path).name, year)


def judge(points: pd.DataFrame, found: Codes, name: str, year: int | None = None) -> LucasScores:
    """Compare what points stand for with what a map says there.

    Args:
        points: of ``read_points``, ``n`` of them.
        found: the map's LUISA code at each point, uint16 ``(n,)``; 0 where it says nothing.
        name: of the map.
        year: that it is of, if known.
    """
    truth = points["code"].to_numpy(np.uint16)
    placed = np.isfinite(points["x"].to_numpy(float))
    reasons: Counter[str] = Counter()
    judged = placed & (truth != NODATA) & (found != NODATA)
    reasons["no coordinates"] = int((~placed).sum())
    reasons["outside the map, or no class there"] = int((placed & (found == NODATA)).sum())
    for reason in points["reason"][placed & (found != NODATA) & (truth == NODATA)]:
        reasons[str(reason)] += 1
    places = points.loc[judged, ["x", "y"]].to_numpy(float) // (BLOCK_TILES * TILE_SIZE)
    blocks, block = np.unique(places, axis=0, return_inverse=True)
    surveyed = points["year"].to_numpy(float)[judged] if "year" in points else np.full(judged.sum(), np.nan)
    dated = year is not None and not np.isnan(surveyed).all()
    levels = tuple(_level(level, truth[judged], found[judged], block.ravel(), len(blocks)) for level in (3, 2, 1))
    return LucasScores(
        map=name,
        points=len(points),
        judged=int(judged.sum()),
        blocks=len(blocks),
        not_judged={reason: n for reason, n in reasons.items() if n},
        year=year,
        far_in_time=int((np.abs(surveyed - year) > MAX_YEARS).sum()) if year is not None and dated else None,
        levels=levels,
    )


def _level(level: int, truth: Codes, found: Codes, block: npt.NDArray[np.intp], blocks: int) -> LucasLevel:
    n = len(legend().codes(level))
    rows, columns = legend().encode(truth, level), legend().encode(found, level)
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


def _years(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Year of each survey, from a column of years or of dates in whatever form; NaN where there is none."""
    column = table.get("year", table.get("date", pd.Series(index=table.index, dtype="string")))
    found = column.astype("string").str.extract(r"(?<!\d)((?:19|20)\d\d)(?!\d)", expand=False)
    return np.array(pd.to_numeric(found, errors="coerce"), np.float64)


def _judge(cover: Any, use: Any) -> tuple[int, str]:
    if pd.isna(cover):
        return NODATA, "no land cover recorded"
    code = lucas_to_luisa(cover, None if pd.isna(use) else use)
    if code != NODATA:
        return code, ""
    shown = cover if use is None or pd.isna(use) else f"{cover}/{use}"
    return NODATA, f"no LUISA class for LUCAS {shown}"


def _read_table(path: Path) -> tuple[pd.DataFrame, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    try:
        table = pd.read_csv(path, low_memory=False, dtype="string")
    except (ValueError, OSError) as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a harmonised LUCAS table (CSV).") from error
    table = _rename(table)
    lat, lon = (pd.to_numeric(table.get(k, pd.Series(index=table.index)), errors="coerce") for k in ("lat", "lon"))
    # Points seen from afar have no GPS fix of their own.
    absent = lat.isna() | lon.isna() | lat.floordiv(1).eq(_MISSING) | lon.floordiv(1).eq(_MISSING)
    for name, values in (("lat_theory", lat), ("lon_theory", lon)):
        values[absent] = pd.to_numeric(table[name], errors="coerce")[absent] if name in table else np.nan
    try:
        import pyproj
    except ImportError as error:
        raise LulcbenchError("Bringing LUCAS points to EPSG:3035 needs pyproj.", _INSTALL) from error
    x, y = pyproj.Transformer.from_crs(4326, CRS, always_xy=True).transform(lon.to_numpy(), lat.to_numpy())
    return table, _finite(x), _finite(y)


def _read_vector(path: Path) -> tuple[pd.DataFrame, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    try:
        import geopandas
    except ImportError as error:
        raise LulcbenchError(f"Reading {path.name} needs geopandas.", _INSTALL) from error
    try:
        frame = geopandas.read_file(path)
    except Exception as error:  # pyogrio raises errors of several unrelated kinds
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a vector file of LUCAS points.") from error
    if frame.crs is None:
        raise LulcbenchError(f"{path} has no projection.", "A shapefile needs its .prj file.")
    points = frame.to_crs(CRS).geometry
    return _rename(pd.DataFrame(frame.drop(columns="geometry"))), _finite(points.x), _finite(points.y)


def _rename(table: pd.DataFrame) -> pd.DataFrame:
    lower = {str(name).lower(): name for name in table.columns}
    names = {lower[old]: new for new, olds in _COLUMNS.items() for old in olds if old in lower}
    return table.rename(columns=names)


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.array(values, np.float64)
    array[~np.isfinite(array)] = np.nan
    return array


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
