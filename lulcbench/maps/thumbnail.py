"""A picture of a year of a map for programs that show STAC: they draw GeoTIFFs of class codes in grey."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from PIL import Image

from lulcbench._files import write_atomic
from lulcbench.legend import ClassScheme

THUMBNAIL: Final = "thumbnail.png"
SIDE: Final = 600  # pixels of the longer side, at most


def write_thumbnail(folder: Path, scheme: ClassScheme) -> None:
    """Write ``thumbnail.png``: classes of the finest level in their colours, transparent where there are no data.

    Args:
        folder: of a year of a map whose overviews are written.
        scheme: classes of the map.

    Raises:
        OSError: the file cannot be written.
    """
    codes = _coarsest(folder, scheme.layers[-1])
    colors = np.zeros((max(scheme.codes()) + 1, 4), np.uint8)  # by code; 0, no data, is transparent
    for code in scheme.codes():
        colors[code] = [*bytes.fromhex(scheme.classes[code].color.removeprefix("#")), 255]
    content = BytesIO()
    picture = Image.fromarray(colors[codes])
    picture.crop(picture.getbbox()).save(content, "PNG", optimize=True)  # without the margins of the blocks
    write_atomic(folder / THUMBNAIL, content.getvalue())


def _coarsest(folder: Path, layer: str) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Codes of a layer ``(y, x)`` of the finest overview that fits into ``SIDE``; every n-th pixel if none does."""
    overviews = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    arrays = [zarr.open_array(path / layer, mode="r") for path in overviews]
    array = next((found for found in arrays if max(found.shape) <= SIDE), arrays[-1])
    step = -(-max(array.shape) // SIDE)
    return np.asarray(array[::step, ::step])
