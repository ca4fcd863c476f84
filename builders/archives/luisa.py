"""The JRC LUISA Base Map: a GeoTIFF of LUISA codes, 50 or 100 m."""

from __future__ import annotations

from pathlib import Path

from builders.readers.labels import RasterLabels
from lulcbench.legend import legend


def labels(path: Path) -> RasterLabels:
    """The map as a label source. Its codes have level 4; coarser codes of the legend are accepted too."""
    return RasterLabels(path, {code: code for code in legend().classes}, "LUISA")
