"""Tables of class probabilities of patches by date, and the changes in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.crosswalk import read_crosswalk
from lulcbench.evaluation.spotting import CLEAR, CONFIDENCE, OUTLIERS, RATE, spot
from lulcbench.grid import CRS
from lulcbench.legend import NODATA, legend

if TYPE_CHECKING:
    import geopandas

LEAST_KNOWN = 0.5  # of the probability is of classes with a code, or the image is left out
_KNOWN = ("place", "date", "clear", "x", "y")
_JITTER = 1.0  # m, of the positions of the images of a patch
_ROUNDING = 1e-6  # of shares
_COLUMNS = ("place", "kind", "before", "after", "first", "last", "confidence", "x", "y")


@dataclass(frozen=True)
class PatchSeries:
    """The class probabilities of a patch.

    Attributes:
        place: name of the patch.
        dates: of its images, ``datetime64[D]`` ``(t,)``, sorted.
        probabilities: float64 ``(t, k)``.
        codes: LUISA code of each class, int64 ``(k,)``.
        position: x and y in EPSG:3035, NaN if unknown.
    """

    place: str
    dates: npt.NDArray[np.datetime64]
    probabilities: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int64]
    position: tuple[float, float]

    @property
    def years(self) -> float:
        """Length of the series in years."""
        return float((self.dates[-1] - self.dates[0]) / np.timedelta64(1, "D") / 365.25)


def read_series(
    path: str | os.PathLike[str], legend_name: str | None = None, clear: float | None = None
) -> tuple[list[PatchSeries], dict[str, int]]:
    """Read a table of probabilities.

    Args:
        path: CSV or Parquet file with the columns ``place``, ``date`` (ISO 8601) and one per class; optionally
            ``clear`` (share of the patch without clouds) and ``x``, ``y`` (EPSG:3035).
        legend_name: CSV file with the columns ``value`` (name of a class column) and ``code`` (0 leaves it out, and
            images whose probability is mostly of such classes); None for columns that are LUISA codes.
        clear: images with a smaller share are left out, of tables with the column ``clear``; None takes ``CLEAR``.

    Returns:
        The patches, and reason → number of images that were left out.

    Raises:
        LulcbenchError: the file cannot be read, lacks a column, or has a column that is not a class.
    """
    path = Path(path)
    try:
        # Places as text: 07 and 7 are two of them.
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"place": str})
    except (OSError, ValueError) as error:
        raise LulcbenchError(f"Cannot read {path}: {error}.", "Give a CSV or Parquet file.") from error
    if absent := [name for name in ("place", "date") if name not in table]:
        raise LulcbenchError(f"{path} has no column {absent[0]}.", "Columns are place, date and one per class.")
    names = [name for name in table.columns if name not in _KNOWN]
    table_of = {str(code): code for code in legend().classes} if legend_name is None else read_crosswalk(legend_name)
    if unknown := [name for name in names if str(name) not in table_of]:
        raise LulcbenchError(
            f"{path} has columns that are not classes: {unknown[:8]}.",
            "Translate the names of classes by --legend, a CSV file with the columns value and code.",
        )
    every = names
    names = [name for name in names if table_of[str(name)] != NODATA]
    codes = np.array([table_of[str(name)] for name in names], np.int64)
    if len(set(codes.tolist())) < 2:
        raise LulcbenchError(f"{path} has fewer than two classes.", "Change is between classes.")
    dates = _days(table["date"])
    left_out = {"no date, or not of the form 2018-05-03": int(dates.isna().sum())}
    used = dates.notna()
    left_out["no place"] = int((used & table["place"].isna()).sum())
    used &= table["place"].notna()
    if "clear" in table:
        share = pd.to_numeric(table["clear"], errors="coerce")
        if (odd := (share < -_ROUNDING) | (share > 1 + _ROUNDING)).any():
            raise LulcbenchError(f"{path} has {int(odd.sum())} values of clear outside 0 to 1.", "Give shares.")
        least = CLEAR if clear is None else clear
        left_out["clouded"] = int((used & ~(share >= least)).sum())
        used &= share >= least
    elif clear is not None:
        raise LulcbenchError(f"{path} has no column clear, which would tell the images to leave out.", "Add it.")
    numbers = table[every].apply(pd.to_numeric, errors="coerce")
    known = np.isfinite(numbers[names]).all(axis=1)
    left_out["no probabilities"] = int((used & ~known).sum())
    used &= known
    # What a cloud or another class without a code leaves to the others is noise, which would be blown up.
    lost = numbers[names].sum(axis=1) <= LEAST_KNOWN * numbers.clip(lower=0).sum(axis=1)
    lost &= len(every) > len(names)
    left_out["mostly of classes without a code"] = int((used & lost).sum())
    used &= ~lost
    places = {axis: _positions(table[axis], path) for axis in ("x", "y") if axis in table}
    table = table.assign(date=dates, **places, **{str(name): numbers[name] for name in names})[used]
    double = table.duplicated(["place", "date"])
    left_out["second image of a date"] = int(double.sum())
    patches = []
    for place, own in table[~double].sort_values("date", kind="stable").groupby("place", sort=True):
        p = own[names].to_numpy(np.float64)
        total = p.sum(axis=1, keepdims=True)
        if (p < 0).any() or (total <= 0).any():
            raise LulcbenchError(f"{path} has negative probabilities, or none, of {place}.", "Correct the table.")
        if any(axis in own and own[axis].max() - own[axis].min() > _JITTER for axis in ("x", "y")):
            raise LulcbenchError(f"{path} has {place} at several positions.", "Give each patch a name of its own.")
        known = own.reindex(columns=["x", "y"]).dropna().to_numpy(np.float64)
        position = (float(known[0, 0]), float(known[0, 1])) if len(known) else (float("nan"), float("nan"))
        days = own["date"].to_numpy().astype("datetime64[D]")
        patches.append(PatchSeries(str(place), days, p / total, codes, position))
    if not patches:
        raise LulcbenchError(f"{path} has no image that can be used.", f"Left out: {left_out}.")
    return patches, {reason: number for reason, number in left_out.items() if number}


def _positions(column: pd.Series[Any], path: Path) -> pd.Series[float]:
    """Coordinates as numbers, NaN where missing.

    Raises:
        LulcbenchError: some are not numbers, such as 4000000,0.
    """
    numbers: pd.Series[float] = pd.to_numeric(column, errors="coerce").astype(np.float64)
    if (odd := column.notna() & ~np.isfinite(numbers)).any():
        raise LulcbenchError(
            f"{path} has a position that is not a number: {column.name} = {str(column[odd].iloc[0])!r}.",
            "Give x and y in metres (EPSG:3035), with a decimal point; leave unknown ones empty.",
        )
    return numbers


def _days(column: pd.Series[Any]) -> pd.Series[Any]:
    """Days of a column of dates or of texts in the form of ISO 8601 (UTC); NaT for others, such as 03.05.2018."""
    texts = column if pd.api.types.is_datetime64_any_dtype(column) else column.astype("string").str.strip()
    if texts.dtype == "string":
        texts = texts.str.replace(r"\s*UTC$", "", regex=True)  # Earth Engine and BigQuery: 2018-05-03 00:00:00 UTC
    days: pd.Series[Any] = pd.to_datetime(texts, format="ISO8601", errors="coerce", utc=True)
    days = days.dt.tz_localize(None).dt.normalize()
    return days


def spot_all(
    patches: Sequence[PatchSeries], rate: float = RATE, confidence: float = CONFIDENCE, outliers: float = OUTLIERS
) -> pd.DataFrame:
    """Changes of patches, the most certain first; columns ``place``, those of ``spotting.Change``, ``x``, ``y``."""
    rows = [
        (patch.place, c.kind, c.before, c.after, str(c.first), str(c.last), c.confidence, *patch.position)
        for patch in patches
        for c in spot(patch.dates, patch.probabilities, patch.codes, rate, confidence, outliers)
    ]
    found = pd.DataFrame(rows, columns=list(_COLUMNS))
    return found.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def to_points(changes: pd.DataFrame) -> geopandas.GeoDataFrame:
    """Changes as points in EPSG:3035.

    Raises:
        LulcbenchError: positions are unknown.
    """
    import geopandas

    if changes[["x", "y"]].isna().any(axis=None):
        raise LulcbenchError("The patches have no positions.", "Add the columns x and y (EPSG:3035) to the table.")
    shapes = geopandas.points_from_xy(changes["x"], changes["y"], crs=CRS)
    return geopandas.GeoDataFrame(changes.drop(columns=["x", "y"]), geometry=shapes)
