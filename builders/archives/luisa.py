"""The JRC LUISA Base Map: a GeoTIFF of LUISA codes, 50 or 100 m; or polygons with such codes."""

from __future__ import annotations

from builders.readers import LabelSource
from builders.readers.labels import VECTOR, RasterLabels
from builders.recipe import LabelRule
from lulcbench.legend import legend


def labels(rule: LabelRule) -> LabelSource:
    """The map as a label source. Its codes have level 4; coarser codes of the legend are accepted too."""
    codes = {code: code for code in legend().classes}
    if rule.path.suffix.lower() in VECTOR:
        from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

        words = {str(code): code for code in codes} | {"0": 0}
        return VectorLabels(rule.path, words, "LUISA", rule.layer, rule.field, rule.min_cover)
    return RasterLabels(rule.path, codes, "LUISA", rule.band, rule.year, rule.min_cover)
