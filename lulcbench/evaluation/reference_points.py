"""Reading reference points with their classes: LUCAS, the European in-situ survey, or any table with classes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._point_files import Decisions, read_file
from lulcbench.evaluation._point_places import places
from lulcbench.evaluation.change import pair_codes
from lulcbench.evaluation.class_maps import NONE
from lulcbench.evaluation.crosswalk import read_crosswalk
from lulcbench.legend import NODATA, legend, lucas_to_luisa
from lulcbench.vectors import read_layer, texts, to_ground


@dataclass(frozen=True)
class ReferencePoints:
    """Reference points.

    Attributes:
        table: one row per record. ``x`` and ``y`` (EPSG:3035 metres, NaN if unknown), ``place`` (the rule that
            determined them, or why they are unknown), ``code`` (LUISA code, or class of another legend; ``NONE`` if
            unknown), ``reason`` (for a missing code, else empty), ``year`` (of the survey, NaN if unknown), ``id`` (of
            the point, NA if unknown), and the further columns that were requested, as text.
        decisions: decision of the reader → number of records.
        lucas: whether the classes were translated from LUCAS.
    """

    table: pd.DataFrame
    decisions: dict[str, int]
    lucas: bool = True


def read_points(
    path: str | os.PathLike[str],
    crs: str | None = None,
    class_column: str | None = None,
    crosswalk: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
    plain: bool = False,
) -> ReferencePoints:
    """Read LUCAS points of any survey year or of the harmonised database, or other points with a class.

    The file is a table (CSV with any separator, decimal sign and encoding; Parquet) or a vector file (shapefile,
    GeoPackage, GeoJSON, GeoParquet; points or polygons), alone, compressed (gzip, bzip2, xz), or in a zip archive. A
    point is located by its measured (GPS) coordinates if the surveyor was at the point, otherwise by its theoretical
    ones. Repeated records are used once, and records of a point that contradict each other are not used.

    Args:
        path: the file.
        crs: CRS of coordinates that are not degrees and of geometries without a CRS, for instance ``EPSG:3035``.
        class_column: column with the class; None for land cover and land use of LUCAS.
        crosswalk: CSV file that translates its values to LUISA codes (``read_crosswalk``); None for LUISA codes.
        columns: further columns to read, name in the result → name in the file.
        plain: the classes are integers of any legend, to compare with the values of a map.

    Raises:
        LulcbenchError: the file cannot be read, lacks columns, has points without known positions, or values of the
            class column are not in the crosswalk or not classes.
    """
    points = _read(path, crs, class_column, crosswalk, columns, plain)
    _drop_repeated(points.table, points.table["code"])
    return points


def _read(
    path: str | os.PathLike[str],
    crs: str | None,
    class_column: str | None,
    crosswalk: str | os.PathLike[str] | None,
    columns: Mapping[str, str] | None,
    plain: bool,
) -> ReferencePoints:
    """``read_points`` with all records."""
    path = Path(path)
    if not path.is_file():
        raise LulcbenchError(
            f"The file of points {path} is missing.",
            "Points of LUCAS are in lucas_harmo_uf_2018.zip of the JRC open data catalogue.",
        )
    if plain and not class_column:
        raise LulcbenchError("LUCAS points have LUISA classes, not values of the map.", "State --class-column.")
    decisions: Decisions = Counter()
    more = dict(columns or {}) | ({"class": class_column} if class_column else {})
    table = read_file(path, crs, decisions, more)
    located = places(table, crs, path.name, decisions)
    missing = pd.Series(pd.NA, index=table.index, dtype="string")
    if class_column:
        known = None if crosswalk is None else read_crosswalk(crosswalk)
        values: list[Any] = list(table["class"])
        translated = {value: _class(value, known, plain, path.name) for value in set(values)}
    else:
        values = list(zip(table["lc1"], table.get("lu1", missing), strict=True))
        translated = {pair: _translate(*pair) for pair in set(values)}
    codes, reasons = ([translated[value][i] for value in values] for i in (0, 1))
    points = located.assign(code=codes, reason=reasons, year=_years(table), id=table.get("id", missing))
    points = points.assign(**{name: table[name] for name in columns or {}})
    return ReferencePoints(points, {decision: n for decision, n in decisions.items() if n}, not class_column)


def _translate(cover: Any, use: Any) -> tuple[int, str]:
    """LUISA code of a pair and an empty reason, or ``NONE`` and the reason."""
    if pd.isna(cover):
        return NONE, "no land cover recorded"
    code = lucas_to_luisa(cover, None if pd.isna(use) else use)
    if code != NODATA:
        return code, ""
    return NONE, f"no LUISA class for LUCAS {cover}{'' if pd.isna(use) else f'/{use}'}"


def _class(value: Any, known: dict[str, int] | None, plain: bool, name: str) -> tuple[int, str]:
    """Code of a value of the class column and an empty reason, or ``NONE`` and the reason."""
    if pd.isna(value):
        return NONE, "no class recorded"
    text = re.sub(r"[.,]0+$", "", str(value))  # integers in a column with missing values become 311.0
    if known is not None:
        if text not in known and str(value) not in known:
            raise LulcbenchError(f"{name} has the class {value!r}, which the crosswalk lacks.", "Add it, with code 0.")
        code = known.get(text, known.get(str(value), NODATA))
        return (code, "") if code != NODATA else (NONE, f"no LUISA class for {value}")
    if not text.isdecimal() or not (plain or int(text) in legend().classes):
        raise LulcbenchError(
            f"{name} has the class {value!r}, which is not a {'whole number' if plain else 'LUISA code'}.",
            "Give a crosswalk (--crosswalk: CSV with columns value and code), or correct it.",
        )
    return int(text), ""


def _years(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Years of surveys, from a column of years or of dates; NaN if missing.

    Dates have a year of four digits at any place, or one of two digits at their end (``26/06/18``).
    """
    missing = pd.Series(pd.NA, index=table.index, dtype="string")
    column = table.get("year", missing).fillna(table.get("date", missing))
    years = column.str.extract(r"(?<!\d)((?:19|20)\d\d)(?!\d)", expand=False)
    short = column.str.extract(r"^\s*\d{1,2}([./-])\d{1,2}\1(\d\d)\s*$", expand=True)[1]
    whole, recent = (np.array(pd.to_numeric(part, errors="coerce"), np.float64) for part in (years, short))
    century = np.where(recent < 70, 2000, 1900)  # within a year of what POSIX has
    return np.where(np.isnan(whole), recent + century, whole)


def point_names(table: pd.DataFrame) -> pd.Series[str]:
    """Names of the points of located records: the id or, without one, the position to the centimetre."""
    x, y = (table[axis].round(2).astype(str) for axis in ("x", "y"))
    return table["id"].fillna("at " + x + " " + y)


def _drop_repeated(points: pd.DataFrame, *classes: pd.Series[int]) -> None:
    """Keep the first of equal records of a point and survey, and none of records that contradict each other.

    Args:
        points: the records, which are changed.
        classes: codes of one or more classes of each record; a record without a class contradicts none.
    """
    located = points[np.isfinite(points["x"])]
    place = located["x"].round().astype(str) + " " + located["y"].round().astype(str)
    survey = [point_names(located).rename("point"), located["year"].fillna(0)]
    differs = pd.Series(False, index=located.index)
    for codes in (all_codes[located.index] for all_codes in classes):
        content = (place + " " + codes.astype(str)).mask(codes == NONE)
        differs |= content.notna() & (content.groupby(survey).transform("nunique") > 1)
    content = place + " " + located["code"].astype(str) + " " + located["reason"].astype(str)
    repeated = pd.concat([*survey, content.rename("content")], axis=1).duplicated() & ~differs
    dated = located["year"].notna()
    for rows, reason in (
        (located.index[differs & dated], "none: records of the same point and year contradict each other"),
        (located.index[differs & ~dated], "none: records of the same point, without years, contradict each other"),
        (located.index[repeated], "none: repeated record"),
    ):
        points.loc[rows, ["x", "y"]] = np.nan
        points.loc[rows, "place"] = reason


def read_pairs(
    path: str | os.PathLike[str], class_columns: tuple[str, str], columns: Mapping[str, str] | None = None
) -> ReferencePoints:
    """Read points with an earlier and a later class, as codes of pairs (``change.pair_codes``).

    Args:
        path: the file.
        class_columns: columns with the two classes: codes of the maps that are compared, at their level.
        columns: further columns, as of ``read_points``.

    Raises:
        LulcbenchError: the file cannot be read, or a value is not a class.
    """
    parts = [_read(path, None, name, None, columns, plain=True) for name in class_columns]
    codes = [part.table["code"] for part in parts]
    table = parts[0].table.assign(code=pair_codes(*(part.to_numpy(np.int64) for part in codes)))
    table = table.assign(reason=table["reason"].mask(table["reason"] == "", parts[1].table["reason"]))
    _drop_repeated(table, *codes)
    return ReferencePoints(table, parts[0].decisions, lucas=False)


def inside_regions(
    points: ReferencePoints, path: str | os.PathLike[str], column: str, layer: str | None = None
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which points are in which polygon of a vector file, such as NUTS regions of one or several levels.

    Args:
        points: the points.
        path: of the polygons, which may overlap.
        column: with the name of a region; polygons of one name are one region.
        layer: of a file with several.

    Returns:
        name → mask of the points ``(n,)``. Of regions that only share a border, a point on it is in one.

    Raises:
        LulcbenchError: the file cannot be read as by ``lulcbench.vectors``, or no point is in a region.
    """
    path = Path(path)
    frame = read_layer(path, column, layer)
    import shapely

    shapes, names = to_ground(frame, path, repair=False).shapes, texts(frame[column])
    x, y = (points.table[axis].to_numpy(np.float64) for axis in ("x", "y"))
    located = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    # A millimetre to the north-east, so that a point on a common border is in one region, as a pixel's corner is.
    tree = shapely.STRtree(shapely.points(x[located] + 1e-3, y[located] + 0.7e-3))
    masks = {name: np.zeros(len(x), bool) for name in sorted(set(names.dropna()))}
    for i, at in zip(*tree.query(shapes, predicate="contains"), strict=True):
        if not pd.isna(names.iloc[i]):
            masks[names.iloc[i]][located[at]] = True
    if len(located) and not any(mask.any() for mask in masks.values()):
        raise LulcbenchError(
            f"None of the {len(located):,} points is in a region of {path}.",
            "Check its coordinates, its CRS, and the column with the names.",
        )
    return masks
