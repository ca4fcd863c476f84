"""The LUISA legend: classes, crosswalks from other nomenclatures, lookup tables for counting."""

from __future__ import annotations

from lulcbench.legend.classes import IGNORE_INDEX, LEVELS, NODATA, Codes, Indices, LandClass, Legend, legend
from lulcbench.legend.crosswalks import (
    corine_doubt,
    corine_grid_codes,
    corine_raster_codes,
    corine_to_luisa,
    lucas_to_luisa,
)
from lulcbench.legend.decisions import aggregate, decide
from lulcbench.legend.scheme import ClassScheme
from lulcbench.legend.subset import LegendSubset

__all__ = [
    "IGNORE_INDEX",
    "LEVELS",
    "NODATA",
    "ClassScheme",
    "Codes",
    "Indices",
    "LandClass",
    "Legend",
    "LegendSubset",
    "aggregate",
    "corine_doubt",
    "corine_grid_codes",
    "corine_raster_codes",
    "corine_to_luisa",
    "decide",
    "legend",
    "lucas_to_luisa",
]
