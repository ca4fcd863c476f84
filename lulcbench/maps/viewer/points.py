"""Observations on the ground that a site shows on its maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lulcbench.legend import NODATA, ClassScheme
from lulcbench.maps.viewer.source import Overview


@dataclass(frozen=True, slots=True)
class Point:
    """An observation on the ground.

    Attributes:
        x: easting in EPSG:3035, m.
        y: northing.
        code: LUISA code of any level, 0 if the observation has none.
        text: what is shown beside the class, such as survey, year and id.
    """

    x: float
    y: float
    code: int
    text: str


def listed(points: Sequence[Point], grids: Sequence[Overview], scheme: ClassScheme) -> list[dict[str, Any]]:
    """Entries of ``site.json``: the points inside a map, with the codes of its legend."""
    return [
        {"x": round(point.x, 1), "y": round(point.y, 1), "code": _code(point, scheme), "text": point.text}
        for point in points
        if any(_inside(point, grid) for grid in grids)
    ]


def _code(point: Point, scheme: ClassScheme) -> int:
    return point.code or NODATA if scheme.subset is None else int(scheme.from_luisa(point.code))


def _inside(point: Point, grid: Overview) -> bool:
    right, bottom = grid.left + grid.width * grid.resolution, grid.top - grid.height * grid.resolution
    return grid.left <= point.x < right and bottom < point.y <= grid.top
