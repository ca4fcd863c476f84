"""An own label map, as a raster or as polygons, with a mapping of its codes or words to LUISA."""

from __future__ import annotations

import re

from builders.readers import LabelSource
from builders.readers.labels import RasterLabels
from builders.recipe import LabelRule
from lulcbench.errors import LulcbenchError
from lulcbench.vectors import SUFFIXES


def labels(rule: LabelRule) -> LabelSource:
    """The map as a label source: a raster of whole numbers, or a vector file.

    Raises:
        LulcbenchError: words are mapped for a raster, or one number to several codes.
    """
    codes = dict(rule.codes or {})
    if rule.path.suffix.lower() in SUFFIXES:
        from builders.readers.polygons import VectorLabels  # imports geopandas: only if polygons are read

        return VectorLabels(rule.path, codes, "own", rule.layer, rule.field, rule.min_cover)
    words = [own for own in codes if not re.fullmatch(r"-?[0-9]+", own)]
    if words:
        raise LulcbenchError(
            f"{rule.path} is a raster, but the mapping of its codes names {', '.join(map(repr, words[:5]))}.",
            "Map the numbers of the raster.",
        )
    numbers: dict[int, int] = {}
    for own, code in codes.items():
        if numbers.setdefault(int(own), code) != code:
            raise LulcbenchError(
                f"The mapping of {rule.path} has {int(own)} in several spellings, with the codes "
                f"{numbers[int(own)]} and {code}.",
                "Remove one of them.",
            )
    return RasterLabels(rule.path, numbers, "own", rule.band, rule.year, rule.min_cover)
