"""Crosswalks from CORINE Land Cover and LUCAS to the LUISA legend."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache

from lulcbench.legend.classes import NODATA, data_text, legend


@cache
def corine_to_luisa() -> dict[int, int]:
    """CORINE level-3 code (111…523) → LUISA code.

    Of the 44 CORINE classes, 35 have an equivalent at level 4 and 5 are merged (411–423 → 4000). Those that LUISA
    splits (112, 122, 124, 142) are mapped to their common class of level 3, so that no label is finer than its source.
    Column ``relation`` of ``corine_to_luisa.csv`` has ``exact``, ``merged`` or ``split``.

    Source: Copernicus CORINE Land Cover nomenclature; LUISA codes extend it by a digit.

    >>> corine_to_luisa()[311], corine_to_luisa()[112]
    (3110, 112)
    """
    return {int(row["clc_code"]): int(row["luisa_code"]) for row in _corine_rows()}


@cache
def corine_grid_codes() -> dict[int, int]:
    """CORINE raster grid code (1…44, as in the Copernicus GeoTIFFs) → CORINE level-3 code.

    >>> corine_grid_codes()[23]
    311
    """
    return {int(row["grid_code"]): int(row["clc_code"]) for row in _corine_rows()}


@cache
def corine_raster_codes() -> dict[int, int]:
    """Value of a CORINE raster or polygon layer → LUISA code.

    CLC codes (111…523) and grid codes (1…44) do not overlap. Grid code 48 and CLC code 999 are nodata.

    >>> corine_raster_codes()[23], corine_raster_codes()[311], corine_raster_codes()[48]
    (3110, 3110, 0)
    """
    by_clc = corine_to_luisa()
    return by_clc | {grid: by_clc[clc] for grid, clc in corine_grid_codes().items()} | {48: NODATA, 999: NODATA}


def corine_doubt(values: Iterable[int]) -> str | None:
    """Why it is not clear what the values of a CORINE raster are; None if it is.

    Codes of levels 1 and 2 (1…5, 11…52), to which CORINE is often aggregated, look like grid codes. Five values or more
    (three of level 1) that all are such codes are hardly grid codes, which have discontinuous urban fabric (2) and
    pastures (18) between them.

    Args:
        values: that occur in the raster, also others.

    >>> corine_doubt([2, 12, 18, 23, 24, 41]), corine_doubt([11, 12, 21, 23, 31, 41])
    (None, 'the values 11, 12, 21, 23, 31, 41 are classes of level 2 of CORINE or grid codes')
    >>> corine_doubt([112, 311, 2])
    'it has both grid codes (2) and CLC codes (112, 311)'
    """
    present = sorted(set(values))
    clc = [value for value in present if value in corine_to_luisa()]
    grid = [value for value in present if value in corine_grid_codes()]

    def listed(codes: list[int]) -> str:
        return ", ".join(map(str, codes[:12]))

    if clc and grid:
        return f"it has both grid codes ({listed(grid)}) and CLC codes ({listed(clc)})"
    for level, divisor, fewest in ((1, 100, 3), (2, 10, 5)):
        if len(grid) >= fewest and set(grid) <= {code // divisor for code in corine_to_luisa()}:
            return f"the values {listed(grid)} are classes of level {level} of CORINE or grid codes"
    return None


def lucas_to_luisa(lc1: str, lu1: str | None = None) -> int:
    """LUISA class of a LUCAS point (land cover, land use); 0 if the crosswalk has none.

    Only ``representative`` pairs of the LUCAS–CORINE table are used. Without land use, the result is the finest class
    that all representative pairs of the land cover have in common; it may be coarser than level 3, or 0.

    Args:
        lc1: LUCAS land-cover code such as ``"B11"``.
        lu1: LUCAS land-use code such as ``"U111"``, or None if the survey file lacks it.

    Source: LUCAS–CORINE correspondence of st-lucas 1.2.3 (MIT).

    >>> lucas_to_luisa("C10", "U120"), lucas_to_luisa("B11", "U111")
    (3110, 2110)
    """
    pairs = _lucas_pairs()
    matches = [clc for (c, u), clc in pairs.items() if c == lc1 and lu1 in (None, u)]
    if not matches or any(clc not in corine_to_luisa() for clc in matches):
        return NODATA
    tree = legend()
    targets = {corine_to_luisa()[clc] for clc in matches}
    if len(targets) == 1:
        return targets.pop()
    for level in (3, 2, 1):
        shared = {tree.ancestor(code, level) for code in targets}
        if len(shared) == 1 and NODATA not in shared:
            return shared.pop()
    return NODATA


@cache
def _lucas_pairs() -> dict[tuple[str, str], int]:
    rows = csv.DictReader(data_text("lucas_to_clc3.csv").splitlines())
    return {(r["lc1"], r["lu1"]): int(r["clc3"]) for r in rows if r["representative"] == "1"}


def _corine_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(data_text("corine_to_luisa.csv").splitlines()))
