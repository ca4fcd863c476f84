"""EuroSAT patches: their bands, and decoding them from untrusted bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL2

RGB = ("B04", "B03", "B02")
ALL = tuple(band.name for band in SENTINEL2.bands)
# The GeoTIFFs do not name their bands; this is the order on disk (phelber/EuroSAT): B8A is last.
DISK_ORDER = (*(f"B{n:02d}" for n in range(1, 9)), "B09", "B10", "B11", "B12", "B8A")
# Band sets of the paper, in the order of its figures.
BAND_SETS = {"rgb": RGB, "swir": ("B12", "B8A", "B04"), "color-infrared": ("B08", "B04", "B03"), "all": ALL}
SIZE = 64


def pick_bands(image: npt.NDArray[np.generic], order: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[np.generic]:
    """Select bands of an image ``(band, y, x)`` by name.

    Args:
        image: ``(band, y, x)``.
        order: names of the bands of the image.
        wanted: names of the bands to select.

    Raises:
        LulcbenchError: a band is missing, or two bands have the same name.

    Example:
        >>> pick_bands(np.arange(2).reshape(2, 1, 1), ("B04", "B03"), ("B03",)).tolist()
        [[[1]]]
    """
    if len(set(order)) != len(order):
        raise LulcbenchError(f"Two bands have the same name: {', '.join(order)}.", "Name every band.")
    if len(order) != len(image):
        raise LulcbenchError(f"{len(image)} bands, but {len(order)} names: {', '.join(order)}.", "Name every band.")
    for name in wanted:
        if name not in order:
            raise LulcbenchError(f"The image has no band {name}.", f"They have {', '.join(order)}.")
    return image[[list(order).index(name) for name in wanted]]


def decode(content: bytes, name: str, wanted: Sequence[str]) -> npt.NDArray[np.generic]:
    """Decode a patch ``(band, 64, 64)``: a JPEG as uint8, a GeoTIFF as float32 reflectance.

    Args:
        content: content of the file.
        name: name of the file; its suffix determines the format.
        wanted: names of the bands to select.

    Raises:
        LulcbenchError: the file is damaged, has another size or lacks a band.
    """
    try:
        if name.endswith(".tif"):
            from rasterio.io import MemoryFile

            # Only this driver: with a VRT named .tif, GDAL could be made to read any file or address.
            with MemoryFile(content) as memory, memory.open(driver="GTiff") as file:
                _check_size(name, file.height, file.width)
                stored = file.read()
                order = file.descriptions if all(file.descriptions) else DISK_ORDER
            if (stored == 0).all(0).any():
                raise LulcbenchError(
                    f"{name} has nodata pixels, which EuroSAT does not have.", "Download the archive again."
                )
            return pick_bands(stored, order, wanted).astype(np.float32) * np.float32(1e-4)
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as jpeg:
            _check_size(name, jpeg.height, jpeg.width)
            image = np.moveaxis(np.asarray(jpeg.convert("RGB")), 2, 0)
        return pick_bands(image, RGB, wanted)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise LulcbenchError(f"{name} is not a readable image: {error}.", "Download the archive again.") from error


def _check_size(name: str, height: int, width: int) -> None:
    """Check the size before decoding: a small file can state the size of a huge image."""
    if (height, width) != (SIZE, SIZE):
        raise LulcbenchError(f"{name} is {height} × {width}, not {SIZE} × {SIZE}.", "Download the archive again.")
