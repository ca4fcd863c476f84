"""Cloud-optimized GeoTIFFs: the one writer of maps and of exported releases.

A raster is written part by part to temporary GeoTIFFs, one per resolution; a VRT joins them and adds what is known of
its bands; GDAL copies that. Where the caller has no overviews, GDAL makes them. Rasters of classes have a colour table
and an attribute table with the names of the classes, and beside the file a style for QGIS, which does not read the
names.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
from affine import Affine

from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.grid import CRS

TILE = 480  # px of the tiles of a GeoTIFF
_FREE = 2**24  # bytes; a disk with less is full
_TYPES = {"uint8": "Byte", "int16": "Int16", "uint16": "UInt16", "float32": "Float32"}

Part = tuple[slice, slice, npt.NDArray[Any]]
"""Rows and columns of a part of a raster, and its values ``(band, y, x)`` or, of a single band, ``(y, x)``."""


@dataclass(frozen=True, slots=True)
class RasterBand:
    """What a GeoTIFF says of one of its bands.

    Attributes:
        description: shown by GIS as the name of the band.
        scale: value = stored · scale + offset.
        offset: see ``scale``.
        unit: of the values.
        color: the channel of true colour that the band is.
    """

    description: str
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    color: Literal["Red", "Green", "Blue"] | None = None


@dataclass(frozen=True, slots=True)
class Raster:
    """All of a GeoTIFF but its pixels.

    Attributes:
        dtype: uint8, int16, uint16 or float32.
        shape: (height, width) in pixels.
        transform: from pixels to EPSG:3035.
        bands: of the file.
        nodata: stored value of missing pixels; None if there is none.
        classes: name and colour (``#rrggbb``) of each value of a raster of classes.
        tags: of the file.
        style: content of a style for QGIS (QML), to be written beside the file.
        resampling: how GDAL makes overviews where none are given.
        sparse: leave out tiles without data.
        part: side in pixels of the parts of full resolution, a multiple of 16.
    """

    dtype: str
    shape: tuple[int, int]
    transform: Affine
    bands: Sequence[RasterBand]
    nodata: float | None = None
    classes: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    style: str | None = None
    resampling: Literal["mode", "average"] = "average"
    sparse: bool = False
    part: int = TILE


def write_cog(target: Path, raster: Raster, levels: Sequence[Iterable[Part]]) -> Path:
    """Write a cloud-optimized GeoTIFF, atomically.

    Args:
        target: the file; its folder is made.
        raster: what the file says of its pixels.
        levels: the parts of each resolution that have data: full, half, a quarter … Overviews that are not given are
            made by GDAL.

    Returns:
        ``target``.

    Raises:
        OSError: the disk is full (``ENOSPC``).
        LulcbenchError: GDAL cannot write the file; or errors of the iterators of ``levels``.
    """
    try:
        import rasterio
        import rasterio.shutil
    except ImportError as error:
        raise LulcbenchError("Writing GeoTIFFs requires rasterio.", "Run: pip install 'lulcbench[geo]'.") from error

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-") as temporary:
        joined, written = Path(temporary) / "joined.vrt", Path(temporary) / target.name
        options = {"COMPRESS": "DEFLATE", "LEVEL": "6", "PREDICTOR": "YES", "BLOCKSIZE": str(TILE)}
        options |= {"SPARSE_OK": "YES"} if raster.sparse else {}
        options |= {"OVERVIEW_RESAMPLING": raster.resampling.upper()} if len(levels) == 1 else {}
        try:
            paths = [
                _level(raster, halving, parts, Path(temporary) / f"{halving}.tif")
                for halving, parts in enumerate(levels)
            ]
            joined.write_text(_vrt(raster, paths), encoding="utf-8")
            with rasterio.Env(GDAL_NUM_THREADS="1"):
                rasterio.shutil.copy(joined, written, driver="COG", OVERVIEWS="AUTO", BIGTIFF="IF_SAFER", **options)
        except LulcbenchError:
            raise
        except Exception as error:  # GDAL does not pass on why it could not write
            if shutil.disk_usage(target.parent).free < _FREE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
            raise LulcbenchError(
                f"GDAL cannot write {target}: {error}.", "Check that the folder can be written, and run again."
            ) from error
        if raster.style is not None:
            write_atomic(target.with_suffix(".qml"), raster.style.encode())
        for path in sorted(written.parent.glob(f"{target.name}*"), reverse=True):  # the GeoTIFF itself last
            path.replace(target.with_name(path.name))
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _level(raster: Raster, halving: int, parts: Iterable[Part], path: Path) -> Path:
    """One resolution as a GeoTIFF, written part by part."""
    import rasterio
    from rasterio.windows import Window

    height, width = raster.shape
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": raster.dtype,
        "count": len(raster.bands),
        "height": height >> halving,
        "width": width >> halving,
        "crs": CRS,
        "transform": raster.transform @ Affine.scale(2**halving),
        "tiled": True,
        "blockxsize": raster.part,
        "blockysize": raster.part,
        "compress": "zstd",
        "sparse_ok": True,
        "nodata": raster.nodata,
        "interleave": "band",
        "bigtiff": "if_safer",
    }
    sums: list[tuple[Window, int]] = []
    with rasterio.open(path, "w", **profile) as file:
        for rows, columns, values in parts:
            window = Window.from_slices(rows, columns)
            file.write(values if values.ndim == 3 else values[None], window=window)
            sums.append((window, zlib.crc32(np.ascontiguousarray(values))))
    with rasterio.open(path) as file:  # GDAL does not fail if a block cannot be written when the file is closed
        for window, expected in sums:
            if zlib.crc32(file.read(window=window)) != expected:
                raise OSError(errno.EIO, "a block was not written", str(path))
    return path


def _vrt(raster: Raster, levels: Sequence[Path]) -> str:
    height, width = raster.shape
    items = "".join(f'<MDI key="{escape(key)}">{escape(value)}</MDI>' for key, value in raster.tags.items())
    place = ", ".join(map(str, raster.transform.to_gdal()))
    bands = "".join(_band(raster, number, levels) for number in range(1, len(raster.bands) + 1))
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{CRS}</SRS>'
        f"<GeoTransform>{place}</GeoTransform>"
        f'<Metadata>{items}<MDI key="AREA_OR_POINT">Area</MDI></Metadata>{bands}</VRTDataset>'
    )


def _band(raster: Raster, number: int, levels: Sequence[Path]) -> str:
    height, width = raster.shape
    band = raster.bands[number - 1]
    parts = [] if raster.nodata is None else [f"<NoDataValue>{raster.nodata}</NoDataValue>"]
    parts.append(f"<Description>{escape(band.description)}</Description>")
    if band.unit:
        parts.append(f"<UnitType>{escape(band.unit)}</UnitType>")
    if (band.scale, band.offset) != (1, 0):
        parts.append(f"<Scale>{band.scale!r}</Scale><Offset>{band.offset!r}</Offset>")
    if band.color:
        parts.append(f"<ColorInterp>{band.color}</ColorInterp>")
    if raster.classes:
        parts.append(_classes(raster.classes))
    source = f"<SourceFilename>{escape(os.fspath(levels[0]))}</SourceFilename><SourceBand>{number}</SourceBand>"
    extent = f'xOff="0" yOff="0" xSize="{width}" ySize="{height}"'
    parts.append(f"<SimpleSource>{source}<SrcRect {extent}/><DstRect {extent}/></SimpleSource>")
    for level in levels[1:]:
        own = f"<SourceFilename>{escape(os.fspath(level))}</SourceFilename><SourceBand>{number}</SourceBand>"
        parts.append(f"<Overview>{own}</Overview>")
    return f'<VRTRasterBand dataType="{_TYPES[raster.dtype]}" band="{number}">{"".join(parts)}</VRTRasterBand>'


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
