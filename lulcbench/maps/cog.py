"""Cloud-optimized GeoTIFFs of the layers of a map, with the overviews of the map itself.

GDAL resamples overviews by rules of its own; so each resolution is written to a temporary GeoTIFF, and a VRT joins them
as overviews of one raster, which GDAL then copies. Class layers have a colour table and an attribute table with the
names of the classes, and beside the file a style for QGIS, which does not read the names.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS
from lulcbench.legend import NODATA, legend
from lulcbench.legend.qgis import qgis_style
from lulcbench.maps.lattice import BLOCK, Index
from lulcbench.maps.layers import Layer
from lulcbench.maps.store import Pyramid

TILE = 480  # px of the tiles of a GeoTIFF: a block
_FREE = 2**24  # bytes; a disk with less is full
_TYPES = {"uint8": "Byte", "uint16": "UInt16"}


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
    folder.mkdir(parents=True, exist_ok=True)
    blocks = list(blocks)
    return [_write(pyramid, layer, folder / f"{layer.name}.tif", blocks, tags) for layer in pyramid.layers]


def _write(pyramid: Pyramid, layer: Layer, target: Path, blocks: list[Index], tags: dict[str, str]) -> Path:
    import rasterio
    import rasterio.shutil

    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{layer.name}-") as temporary:
        joined, written = Path(temporary) / "joined.vrt", Path(temporary) / target.name
        options = {"COMPRESS": "DEFLATE", "LEVEL": "6", "PREDICTOR": "STANDARD", "BLOCKSIZE": str(TILE)}
        try:
            levels = [
                _level(pyramid, layer, halving, Path(temporary) / f"{halving}.tif", blocks)
                for halving in range(pyramid.frame.halvings + 1)
            ]
            joined.write_text(_vrt(pyramid, layer, levels, tags), encoding="utf-8")
            with rasterio.Env(GDAL_NUM_THREADS="1"):
                rasterio.shutil.copy(joined, written, driver="COG", OVERVIEWS="AUTO", BIGTIFF="IF_SAFER", **options)
        except Exception as error:  # GDAL does not pass on why it could not write
            if shutil.disk_usage(target.parent).free < _FREE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
            raise LulcbenchError(
                f"GDAL cannot write {target}: {error}.", "Check that the folder can be written, and run again."
            ) from error
        if "flag_values" in layer.attributes:
            write_atomic(target.with_suffix(".qml"), qgis_style(_named(layer.attributes)).encode())
        for path in sorted(written.parent.glob(f"{target.name}*"), reverse=True):  # the GeoTIFF itself last
            path.replace(target.with_name(path.name))
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _level(pyramid: Pyramid, layer: Layer, halving: int, path: Path, blocks: list[Index]) -> Path:
    """One resolution as a GeoTIFF, written part by part."""
    import rasterio
    from rasterio.windows import Window

    height, width = pyramid.frame.shape(halving)
    first = pyramid.frame.first
    array = pyramid.array(layer.name, halving)
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": layer.dtype,
        "count": layer.classes or 1,
        "height": height,
        "width": width,
        "crs": CRS,
        "transform": pyramid.transform(halving),
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "compress": "zstd",
        "sparse_ok": True,
        "nodata": layer.fill,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    sums: list[tuple[Window, int]] = []
    with rasterio.open(path, "w", **profile) as file:
        for i, j in sorted({((i - first[0]) >> halving, (j - first[1]) >> halving) for i, j in blocks}):
            rows = slice(i * BLOCK, min((i + 1) * BLOCK, height))
            columns = slice(j * BLOCK, min((j + 1) * BLOCK, width))
            values = np.asarray(array[(..., rows, columns)])
            window = Window.from_slices(rows, columns)
            file.write(values if values.ndim == 3 else values[None], window=window)
            sums.append((window, zlib.crc32(np.ascontiguousarray(values))))
    with rasterio.open(path) as file:  # GDAL does not fail if a block cannot be written when the file is closed
        for window, expected in sums:
            if zlib.crc32(file.read(window=window)) != expected:
                raise OSError(errno.EIO, "a block was not written", str(path))
    return path


def _vrt(pyramid: Pyramid, layer: Layer, levels: list[Path], tags: dict[str, str]) -> str:
    height, width = pyramid.frame.shape()
    left, top, size = pyramid.frame.bounds[0], pyramid.frame.bounds[3], pyramid.frame.lattice.resolution
    items = "".join(f'<MDI key="{escape(key)}">{escape(value)}</MDI>' for key, value in tags.items())
    bands = "".join(_band(layer, band, levels, (height, width)) for band in range(1, (layer.classes or 1) + 1))
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{CRS}</SRS>'
        f"<GeoTransform>{left}, {size}, 0, {top}, 0, {-size}</GeoTransform>"
        f'<Metadata>{items}<MDI key="AREA_OR_POINT">Area</MDI></Metadata>{bands}</VRTDataset>'
    )


def _band(layer: Layer, band: int, levels: list[Path], shape: tuple[int, int]) -> str:
    height, width = shape
    attributes = layer.attributes
    description = str(attributes["long_name"])
    parts = []
    if layer.classes is not None:
        code = legend().codes(_level_of(layer.classes))[band - 1]
        description = f"{code} {legend().classes[code].name}"
    else:
        parts.append(f"<NoDataValue>{layer.fill}</NoDataValue>")
    parts.append(f"<Description>{escape(description)}</Description>")
    if "scale_factor" in attributes:
        parts.append(f"<Scale>{attributes['scale_factor']!r}</Scale><Offset>0</Offset>")
    if "flag_values" in attributes:
        parts.append(_classes(_named(attributes)))
    source = f"<SourceFilename>{escape(os.fspath(levels[0]))}</SourceFilename><SourceBand>{band}</SourceBand>"
    extent = f'xOff="0" yOff="0" xSize="{width}" ySize="{height}"'
    parts.append(f"<SimpleSource>{source}<SrcRect {extent}/><DstRect {extent}/></SimpleSource>")
    for level in levels[1:]:
        own = f"<SourceFilename>{escape(os.fspath(level))}</SourceFilename><SourceBand>{band}</SourceBand>"
        parts.append(f"<Overview>{own}</Overview>")
    return f'<VRTRasterBand dataType="{_TYPES[layer.dtype]}" band="{band}">{"".join(parts)}</VRTRasterBand>'


def _level_of(classes: int) -> int:
    return next(level for level in (1, 2, 3, 4) if len(legend().codes(level)) == classes)


def _named(attributes: Mapping[str, Any]) -> dict[int, tuple[str, str]]:
    """Name and colour of each value of a layer of classes; values may be none of the legend."""
    flags = zip(
        attributes["flag_values"], attributes["flag_meanings"].split(), attributes["flag_colors"].split(), strict=True
    )
    known = legend().classes
    return {
        value: (known[value].name if value in known else meaning.replace("_", " ").capitalize(), color)
        for value, meaning, color in flags
        if value != NODATA
    }


def _classes(named: Mapping[int, tuple[str, str]]) -> str:
    """Colour table, and attribute table with names."""
    entries = []
    for value in range(max(named) + 1):
        red, green, blue = bytes.fromhex(named[value][1][1:]) if value in named else (0, 0, 0)
        entries.append(f'<Entry c1="{red}" c2="{green}" c3="{blue}" c4="{255 if value in named else 0}"/>')
    columns = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))
    fields = "".join(
        f'<FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>'
        for i, (name, kind, usage) in enumerate(columns)
    )
    rows = []
    for i, (value, (name, color)) in enumerate(named.items()):
        cells = (value, escape(name), *bytes.fromhex(color[1:]))
        rows.append(f'<Row index="{i}">{"".join(f"<F>{cell}</F>" for cell in cells)}</Row>')
    table = f'<GDALRasterAttributeTable tableType="thematic">{fields}{"".join(rows)}</GDALRasterAttributeTable>'
    return f"<ColorInterp>Palette</ColorInterp><ColorTable>{''.join(entries)}</ColorTable>{table}"
