"""CORINE Land Cover through the crosswalk to LUISA: rasters of grid or CLC codes, or polygons."""

from __future__ import annotations

from pathlib import Path

from builders.readers import LabelSource
from builders.readers.labels import VECTOR, RasterLabels
from lulcbench.legend import corine_raster_codes


def labels(path: Path, layer: str | None = None, column: str | None = None) -> LabelSource:
    """The map as a label source.

    Grid codes (1…44, used in the Copernicus rasters) and CLC codes (111…523) do not overlap, so that both are accepted
    without an option.
    """
    codes = corine_raster_codes()
    if path.suffix.lower() in VECTOR:
        from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

        return VectorLabels(path, {str(code): luisa for code, luisa in codes.items()}, "CORINE", layer, column)
    return RasterLabels(path, codes, "CORINE")
