"""CORINE Land Cover through the crosswalk to LUISA: rasters of grid or CLC codes, or polygons."""

from __future__ import annotations

from builders.readers import LabelSource
from builders.readers.labels import CORINE, RasterLabels
from builders.recipe import LabelRule
from lulcbench.legend import corine_raster_codes
from lulcbench.vectors import SUFFIXES


def labels(rule: LabelRule) -> LabelSource:
    """The map as a label source.

    Grid codes (1…44, used in the Copernicus rasters) and CLC codes (111…523) do not overlap, so that both are accepted
    without an option; rasters that seem to have codes of level 1 or 2, or that have both, are refused
    (``lulcbench.legend.corine_doubt``).
    """
    codes = corine_raster_codes()
    if rule.path.suffix.lower() in SUFFIXES:
        from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

        words = {str(code): luisa for code, luisa in codes.items()}
        return VectorLabels(rule.path, words, CORINE, rule.layer, rule.field, rule.min_cover)
    return RasterLabels(rule.path, codes, CORINE, rule.band, rule.year, rule.min_cover)
