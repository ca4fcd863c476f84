"""Reading points of LUCAS, the European in-situ survey of land cover and land use, with the LUISA class of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS
from lulcbench.legend import NODATA, lucas_to_luisa

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


def read_points(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read LUCAS points from a harmonised table (CSV, or its zip) or any vector file (shapefile, GeoPackage).

    Measured (GPS) coordinates are taken where there are any, theoretical ones otherwise.

    Returns:
        ``x`` and ``y`` (EPSG:3035 metres, NaN where unknown), ``code`` (LUISA code, 0 where the crosswalk has none),
        ``reason`` (why there is no code; empty where there is one) and ``year`` (of the survey, NaN where unknown).

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
    translated = {pair: _translate(*pair) for pair in set(pairs)}
    codes, reasons = ([translated[pair][i] for pair in pairs] for i in (0, 1))
    return pd.DataFrame({"x": x, "y": y, "code": codes, "reason": reasons, "year": _years(table)})


def _translate(cover: Any, use: Any) -> tuple[int, str]:
    """LUISA code of a pair, or 0 and why there is none."""
    if pd.isna(cover):
        return NODATA, "no land cover recorded"
    code = lucas_to_luisa(cover, None if pd.isna(use) else use)
    if code != NODATA:
        return code, ""
    pair = cover if use is None or pd.isna(use) else f"{cover}/{use}"
    return NODATA, f"no LUISA class for LUCAS {pair}"


def _years(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Year of each survey, from a column of years or of dates in any form; NaN where there is none."""
    column = table.get("year", table.get("date", pd.Series(index=table.index, dtype="string")))
    years = column.astype("string").str.extract(r"(?<!\d)((?:19|20)\d\d)(?!\d)", expand=False)
    return np.array(pd.to_numeric(years, errors="coerce"), np.float64)


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
