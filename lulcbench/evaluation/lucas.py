"""Reading points of LUCAS, the European in-situ survey of land cover and land use, with their LUISA classes."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._point_files import Decisions, read_file
from lulcbench.evaluation._point_places import places
from lulcbench.legend import NODATA, lucas_to_luisa


@dataclass(frozen=True)
class SurveyPoints:
    """Points of a survey.

    Attributes:
        table: one row per record. ``x`` and ``y`` (EPSG:3035 metres, NaN if unknown), ``place`` (the rule that
            determined them, or why they are unknown), ``code`` (LUISA code, 0 if the crosswalk has none), ``reason``
            (for a missing code, else empty), ``year`` (of the survey, NaN if unknown) and ``id`` (of the
            point, NA if unknown).
        decisions: decision of the reader → number of records.
    """

    table: pd.DataFrame
    decisions: dict[str, int]


def read_points(path: str | os.PathLike[str], crs: str | None = None) -> SurveyPoints:
    """Read LUCAS points of any survey year, or of the harmonised database.

    The file is a table (CSV with any separator, decimal sign and encoding; Parquet) or a vector file (shapefile,
    GeoPackage, GeoJSON, GeoParquet; points or polygons), alone, compressed (gzip, bzip2, xz), or in a zip archive. A
    point is located by its measured (GPS) coordinates if the surveyor was at the point, otherwise by its theoretical
    ones. Repeated records are used once.

    Args:
        path: the file.
        crs: CRS of coordinates that are not degrees and of geometries without a CRS, for instance ``EPSG:3035``.

    Raises:
        LulcbenchError: the file cannot be read, lacks columns, or has points without known positions.
    """
    path = Path(path)
    if not path.is_file():
        raise LulcbenchError(
            f"The LUCAS file {path} is missing.", "Get lucas_harmo_uf_2018.zip from the JRC open data catalogue."
        )
    decisions: Decisions = Counter()
    table = read_file(path, crs, decisions)
    located = places(table, crs, path.name, decisions)
    missing = pd.Series(pd.NA, index=table.index, dtype="string")
    cover, use = table["lc1"], table.get("lu1", missing)
    pairs = list(zip(cover, use, strict=True))
    translated = {pair: _translate(*pair) for pair in set(pairs)}
    codes, reasons = ([translated[pair][i] for pair in pairs] for i in (0, 1))
    points = located.assign(code=codes, reason=reasons, year=_years(table), id=table.get("id", missing))
    _drop_repeated(points)
    return SurveyPoints(points, {decision: n for decision, n in decisions.items() if n})


def _translate(cover: Any, use: Any) -> tuple[int, str]:
    """LUISA code of a pair and an empty reason, or 0 and the reason."""
    if pd.isna(cover):
        return NODATA, "no land cover recorded"
    code = lucas_to_luisa(cover, None if pd.isna(use) else use)
    if code != NODATA:
        return code, ""
    return NODATA, f"no LUISA class for LUCAS {cover}{'' if pd.isna(use) else f'/{use}'}"


def _years(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Years of surveys, from a column of years or of dates in any format; NaN if missing."""
    missing = pd.Series(pd.NA, index=table.index, dtype="string")
    column = table.get("year", missing).fillna(table.get("date", missing))
    years = column.str.extract(r"(?<!\d)((?:19|20)\d\d)(?!\d)", expand=False)
    return np.array(pd.to_numeric(years, errors="coerce"), np.float64)


def _drop_repeated(points: pd.DataFrame) -> None:
    """Keep the first of equal records of a point and survey, and none of records that differ."""
    located = points[points["id"].notna() & np.isfinite(points["x"])]
    survey = [located["id"], located["year"].fillna(0)]
    position = located["x"].round().astype(str) + " " + located["y"].round().astype(str)
    content = position + " " + located["code"].astype(str)
    differs = content.groupby(survey).transform("nunique") > 1
    repeated = located.assign(content=content, year=survey[1]).duplicated(["id", "year", "content"]) & ~differs
    for rows, reason in (
        (located.index[differs], "none: records of the same point and year contradict each other"),
        (located.index[repeated], "none: repeated record"),
    ):
        points.loc[rows, ["x", "y"]] = np.nan
        points.loc[rows, "place"] = reason
