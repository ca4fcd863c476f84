"""The JRC LUISA Base Map: a GeoTIFF of LUISA codes, 50 or 100 m; or polygons with such codes."""

from __future__ import annotations

from pathlib import Path

from builders.readers import LabelSource
from builders.readers.labels import VECTOR, RasterLabels
from lulcbench.legend import legend


def labels(path: Path, layer: str | None = None, column: str | None = None) -> LabelSource:
    """The map as a label source. Its codes have level 4; coarser codes of the legend are accepted too."""
    if path.suffix.lower() in VECTOR:
        from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

        return VectorLabels(path, {str(code): code for code in legend().classes} | {"0": 0}, "LUISA", layer, column)
    return RasterLabels(path, {code: code for code in legend().classes}, "LUISA")
