"""Attribute tables of class rasters: desktop GIS stores numbers 1, 2, 3 … in pixels and their codes in a table."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_VALUE = "value"
# Columns that are not codes: numbers of pixels and rows, colours.
_OTHER = re.compile(r"(?i)count|histogram|red|green|blue|alpha|opacity|[rgba]|o?id|objectid|rowid|fid")
_MOST_BYTES = 2**22  # of a file that is looked into


def recoded(path: Path, codes: Mapping[int, int]) -> tuple[str, int, int] | None:
    """The column of a raster's attribute table with codes of the legend, if pixels hold other numbers than these.

    Args:
        path: the raster; its table is in ``<name>.vat.dbf`` or ``<name>.aux.xml`` beside it.
        codes: number in the legend → class.

    Returns:
        Name of the column, a number of pixels, and its code in the column; None if the table, if there is one, has no
        column with codes of the legend, or has one that means the same as the pixels.
    """
    table = _table(path)
    keys = next((table[name] for name in table if name.lower() == _VALUE), [])
    pixels = [_whole(key) for key in keys]
    found = None
    for name, cells in table.items():
        numbers = [_whole(cell) for cell in cells]
        if name.lower() == _VALUE or _OTHER.fullmatch(name) or len(set(numbers)) < max(2, len(numbers)):
            continue
        if not all(number is not None and codes.get(number) for number in numbers):
            continue
        pairs = [(a, b) for a, b in zip(pixels, numbers, strict=True) if a is not None and b is not None]
        differ = [(a, b) for a, b in pairs if codes.get(a) != codes[b]]
        if not differ:
            return None
        if 2 * len(differ) > len(pairs):
            found = found or (name, *differ[0])
    return found


def has_table(path: Path) -> bool:
    """Whether a raster has an attribute table beside it."""
    return bool(_table(path))


def sampled_values(raster: Any, band: int, blocks: int = 64) -> list[int]:
    """Whole numbers that a raster has in blocks that are spread evenly over it, in ascending order.

    Blocks that cannot be read are left out: the error comes when they are needed.

    Args:
        raster: dataset of rasterio.
        band: its number.
        blocks: number of blocks at most; of a raster with fewer, all are read.
    """
    from rasterio.errors import RasterioError

    windows = [window for _, window in raster.block_windows(band)]
    found: set[int] = set()
    for i in {round(at) for at in np.linspace(0, len(windows) - 1, min(blocks, len(windows)))}:
        try:
            values = raster.read(band, window=windows[i])
            present = np.unique(values[raster.read_masks(band, window=windows[i]) > 0])
        except RasterioError:
            continue
        found.update(int(value) for value in present if np.isfinite(value) and value == int(value))
    return sorted(found)


def _table(path: Path) -> dict[str, list[Any]]:
    """Cells of each column; empty if there is no table, or it cannot be read."""
    dbf, xml = (path.with_name(f"{path.name}{end}") for end in (".vat.dbf", ".aux.xml"))
    if dbf.is_file() and dbf.stat().st_size <= _MOST_BYTES:
        try:
            import pyogrio

            frame = pyogrio.read_dataframe(dbf, read_geometry=False)
        except (ImportError, ValueError, RuntimeError):
            return {}
        return {str(name): frame[name].tolist() for name in frame}
    if not xml.is_file() or xml.stat().st_size > _MOST_BYTES:
        return {}
    try:
        root = ET.fromstring(xml.read_bytes())  # noqa: S314 expat limits entities; GDAL reads the file as well
    except ET.ParseError:
        return {}
    found = root.find("./PAMRasterBand/GDALRasterAttributeTable")
    if found is None:
        return {}
    names = [str(field.findtext("Name")) for field in found.iter("FieldDefn")]
    rows = [[cell.text for cell in row.iter("F")] for row in found.iter("Row")]
    return {name: [row[i] for row in rows] for i, name in enumerate(names) if all(len(row) > i for row in rows)}


def _whole(cell: Any) -> int | None:
    match = re.fullmatch(r"(-?\d{1,9})(?:\.0*)?", str(cell).strip())
    return int(match[1]) if match else None
