"""Copernicus Urban Atlas 2012 and 2018: polygons of functional urban areas, with the column ``code_<year>``.

``urban_atlas.csv`` maps their codes to LUISA. Codes and names are those of the Urban Atlas 2012-2018 Product User
Manual (Copernicus Land Monitoring Service, mapping guide 6.3). No label is finer than its source: ``exact`` classes
have an equivalent at level 4, ``split`` ones get the finest class that covers them. ``ambiguous`` is dense
discontinuous urban fabric, which is continuous or not in LUISA; land without current use has no class below artificial
surfaces.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from builders.readers import LabelSource
from builders.readers.labels import check_years
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.vectors import SUFFIXES, find_layer

TABLE = Path(__file__).with_suffix(".csv")


@cache
def crosswalk() -> dict[int, int]:
    """Urban Atlas code → LUISA code; 0 where there are no data.

    Examples:
        >>> crosswalk()[31000], crosswalk()[91000]
        (31, 0)
    """
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {int(row["code"]): int(row["luisa_code"]) for row in csv.DictReader(file)}


def labels(rule: LabelRule) -> LabelSource:
    """The map as a label source.

    Raises:
        LulcbenchError: it is not a vector file, or no single layer has the column of the year.
    """
    if rule.path.suffix.lower() not in SUFFIXES:
        raise LulcbenchError(
            f"{rule.path} is not a vector file of Urban Atlas.", f"Name one that ends with {', '.join(SUFFIXES)}."
        )
    from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

    field = rule.field or f"code_{rule.year}"
    check_years(rule.year, field, str(rule.path), "'field' to the column of that year")
    layer = find_layer(rule.path, field, rule.layer).name
    words = {str(code): luisa for code, luisa in crosswalk().items()}
    return VectorLabels(rule.path, words, "Urban Atlas", layer, field, rule.min_cover)
