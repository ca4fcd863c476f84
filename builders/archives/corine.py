"""CORINE Land Cover through the crosswalk to LUISA: rasters of grid or CLC codes, or polygons."""

from __future__ import annotations

from pathlib import Path

from builders.readers import LabelSource
from builders.readers.labels import RasterLabels
from lulcbench.legend import corine_grid_codes, corine_to_luisa

VECTOR = (".gpkg", ".shp", ".fgb", ".geojson", ".parquet")


def labels(path: Path, layer: str | None = None, column: str | None = None) -> LabelSource:
    """The map as a label source.

    The files tell grid codes (1…44, as the Copernicus rasters have them) from CLC codes (111…523) themselves: the two
    do not overlap. Grid code 48 and CLC 999 are nodata.
    """
    by_clc = corine_to_luisa()
    codes = by_clc | {grid: by_clc[clc] for grid, clc in corine_grid_codes().items()} | {48: 0, 999: 0}
    if path.suffix.lower() in VECTOR:
        from builders.readers.polygons import VectorLabels  # pandas and all: only where polygons are read

        return VectorLabels(path, codes, "CORINE", layer, column)
    return RasterLabels(path, codes, "CORINE")
