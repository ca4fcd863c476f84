"""An own label map, as a raster or as polygons, with a mapping of its codes or words to LUISA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builders.readers import LabelSource
from builders.readers.labels import VECTOR, RasterLabels
from lulcbench.errors import LulcbenchError


def labels(path: Path, codes: Mapping[str, int], layer: str | None = None, column: str | None = None) -> LabelSource:
    """The map as a label source.

    Args:
        path: a raster of whole numbers, or a vector file.
        codes: own code or word → LUISA code of any level, 0 for what is left unlabelled.
        layer: of the vector file, if it has several.
        column: of the vector file.

    Raises:
        LulcbenchError: words are mapped for a raster.
    """
    if path.suffix.lower() in VECTOR:
        from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

        return VectorLabels(path, dict(codes), "own", layer, column)
    words = [own for own in codes if not own.lstrip("-").isdigit()]
    if words:
        raise LulcbenchError(
            f"{path} is a raster, but the mapping of its codes names {', '.join(words[:5])}.",
            "Map the numbers of the raster.",
        )
    return RasterLabels(path, {int(own): code for own, code in codes.items()}, "own")
