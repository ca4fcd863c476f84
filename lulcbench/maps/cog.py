"""Cloud-optimized GeoTIFFs of the layers of a map, with the overviews of the map itself.

GDAL resamples overviews by rules of its own, so those of the map are given to ``lulcbench.geotiff``, which writes the
files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lulcbench.geotiff import Part, Raster, RasterBand, write_cog
from lulcbench.legend import NODATA, ClassScheme
from lulcbench.legend.qgis import qgis_style
from lulcbench.maps.lattice import BLOCK, Index
from lulcbench.maps.layers import Layer
from lulcbench.maps.store import Pyramid


def write_cogs(pyramid: Pyramid, folder: Path, blocks: Iterable[Index], tags: dict[str, str]) -> list[Path]:
    """Write one GeoTIFF per layer, atomically.

    Args:
        pyramid: a complete map of one year.
        folder: of the GeoTIFFs.
        blocks: the blocks that may have data.
        tags: of the files, such as the model and the release.

    Returns:
        The files, ``<layer>.tif``, in the order of the layers.
    """
    blocks = list(blocks)
    written = []
    for layer in pyramid.layers:
        classes = _named(layer.attributes, pyramid.scheme) if "flag_values" in layer.attributes else {}
        raster = Raster(
            dtype=layer.dtype,
            shape=pyramid.frame.shape(),
            transform=pyramid.transform(),
            bands=_bands(layer, pyramid.scheme),
            nodata=layer.fill if layer.classes is None else None,
            classes=classes,
            tags=tags,
            style=qgis_style(classes) if classes else None,
        )
        levels = [_parts(pyramid, layer, halving, blocks) for halving in range(pyramid.frame.halvings + 1)]
        written.append(write_cog(folder / f"{layer.name}.tif", raster, levels))
    return written


def _parts(pyramid: Pyramid, layer: Layer, halving: int, blocks: list[Index]) -> Iterator[Part]:
    """The parts of one resolution that may have data."""
    height, width = pyramid.frame.shape(halving)
    first = pyramid.frame.first
    array = pyramid.array(layer.name, halving)
    for i, j in sorted({((i - first[0]) >> halving, (j - first[1]) >> halving) for i, j in blocks}):
        rows = slice(i * BLOCK, min((i + 1) * BLOCK, height))
        columns = slice(j * BLOCK, min((j + 1) * BLOCK, width))
        yield rows, columns, np.asarray(array[(..., rows, columns)])


def _bands(layer: Layer, scheme: ClassScheme) -> list[RasterBand]:
    scale = layer.attributes.get("scale_factor", 1.0)
    if layer.classes is None:
        return [RasterBand(str(layer.attributes["long_name"]), scale)]
    return [RasterBand(f"{code} {scheme.classes[code].name}", scale) for code in scheme.codes()]


def _named(attributes: Mapping[str, Any], scheme: ClassScheme) -> dict[int, tuple[str, str]]:
    """Name and colour of each value of a layer of classes; values may be none of the scheme."""
    flags = zip(
        attributes["flag_values"], attributes["flag_meanings"].split(), attributes["flag_colors"].split(), strict=True
    )
    known = scheme.classes
    return {
        value: (known[value].name if value in known else meaning.replace("_", " ").capitalize(), color)
        for value, meaning, color in flags
        if value != NODATA
    }
