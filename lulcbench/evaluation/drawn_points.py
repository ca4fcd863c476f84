"""The drawn points of a sample: one record per point, with its classes in a map and in the reference.

A sample is complete before anything is estimated. Points that are outside the map, or in a pixel without a class, were
drawn as well: the weights of the others do not change because of them. They are outside the domain of the estimates
(``Survey.domain``). Points without a reference class are those whose answer is missing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lulcbench.evaluation.class_maps import NONE, ClassCodes, ClassMap, at_level, at_points
from lulcbench.evaluation.reference_points import ReferencePoints, point_names

CENTRE = 4  # of the 3 × 3 pixels around a point

Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DrawnPoints:
    """Records of points with the classes of a map.

    Attributes:
        table: the records (``ReferencePoints.table``), ``n``.
        codes: codes of the map in the 3 × 3 pixels around the points, of any level, int32 ``(n, 9)``.
        mapped: codes of the map at the level, int64 ``(n,)``.
        truth: codes of the reference at the level, int64 ``(n,)``.
        unit: mask ``(n,)`` of one record per point whose position is known.
        inside: mask ``(n,)`` of records that the map has a class for.
        known: mask ``(n,)`` of records with a reference class.
        other_survey: mask ``(n,)`` of records that could be used, of points of which another survey is.
    """

    table: pd.DataFrame
    codes: ClassCodes
    mapped: Codes
    truth: Codes
    unit: Bools
    inside: Bools
    known: Bools
    other_survey: Bools

    @classmethod
    def of(cls, map_: ClassMap, points: ReferencePoints, level: int | None) -> DrawnPoints:
        """Read the map at the points, and choose one survey of each point.

        That is one with both classes, the nearest to the year of the map (the latest if that is unknown).

        Args:
            map_: the map.
            points: the points.
            level: legend level of the classes; None for classes of any level.
        """
        table = points.table
        x, y = (table[axis].to_numpy(float) for axis in ("x", "y"))
        located = np.isfinite(x) & np.isfinite(y)
        codes = at_points(map_, x, y)
        mapped, truth = at_level(codes[:, CENTRE], level), at_level(table["code"], level)
        usable = located & (mapped != NONE) & (truth != NONE)
        unit = located & _nearest(table, usable, located, map_.year)
        return cls(table, codes, mapped, truth, unit, mapped != NONE, truth != NONE, usable & ~unit)

    @property
    def used(self) -> Bools:
        """Mask ``(n,)`` of the records that are evaluated."""
        return self.unit & self.inside & self.known

    def not_located(self) -> Counter[str]:
        """Reason → records without a position."""
        located = np.isfinite(self.table["x"]) & np.isfinite(self.table["y"])
        return Counter(str(place).removeprefix("none: ") for place in self.table["place"][~located])


def _nearest(table: pd.DataFrame, usable: Bools, located: Bools, year: int | None) -> Bools:
    """Mask of the first record of each point: usable, nearest to the year (latest if it is unknown), then later."""
    years = table["year"].to_numpy(float)
    records = pd.DataFrame(
        {
            "point": point_names(table).to_numpy(),
            "other": ~usable,
            "distance": np.nan_to_num(-years if year is None else np.abs(years - year), nan=np.inf),
            "earlier": np.nan_to_num(-years),
            "row": np.arange(len(table)),
        }
    )[located].sort_values(["other", "distance", "earlier", "row"])
    first = np.zeros(len(table), bool)
    first[records["row"][~records.duplicated("point")].to_numpy(np.intp)] = True
    return first
