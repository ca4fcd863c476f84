"""Single EuroSAT patches: their bands, and decoding them from untrusted bytes."""

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
# The GeoTIFFs name no bands; this is their order on disk (phelber/EuroSAT): B8A comes last.
DISK_ORDER = (*(f"B{n:02d}" for n in range(1, 9)), "B09", "B10", "B11", "B12", "B8A")
# Band sets of the paper, in the order of its pictures.
BAND_SETS = {"rgb": RGB, "swir": ("B12", "B8A", "B04"), "color-infrared": ("B08", "B04", "B03"), "all": ALL}
SIZE = 64


def pick_bands(image: npt.NDArray[np.generic], order: Sequence[str], wanted: Sequence[str]) -> npt.NDArray[np.generic]:
    """Bands by name: ``(band, y, x)`` in ``order`` → those ``wanted``, whatever the order on disk.

    Raises:
        LulcbenchError: a band is not there, or two have the same name.

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
            raise LulcbenchError(f"These data have no band {name}.", f"They have {', '.join(order)}.")
    return image[[list(order).index(name) for name in wanted]]


def decode(content: bytes, name: str, wanted: Sequence[str]) -> npt.NDArray[np.generic]:
    """One patch: a JPEG as uint8, a GeoTIFF as float32 reflectance; ``(band, 64, 64)``.

    Args:
        content: of the file.
        name: of the file; its suffix says the format.
        wanted: names of the bands to take.

    Raises:
        LulcbenchError: it is damaged, of another size, or lacks a band.
    """
    try:
        if name.endswith(".tif"):
            from rasterio.io import MemoryFile

            # No other driver: a VRT under the name of a GeoTIFF could have GDAL read any file or address.
            with MemoryFile(content) as memory, memory.open(driver="GTiff") as file:
                _check_size(name, file.height, file.width)
                stored = file.read()
                order = file.descriptions if all(file.descriptions) else DISK_ORDER
            if (stored == 0).all(0).any():
                raise LulcbenchError(f"{name} holds nodata pixels.", "EuroSAT has none; is the file whole?")
            return pick_bands(stored, order, wanted).astype(np.float32) * np.float32(1e-4)
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
            _check_size(name, picture.height, picture.width)
            image = np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
        return pick_bands(image, RGB, wanted)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise LulcbenchError(f"{name} is not a readable image: {error}.", "Fetch the archive again.") from error


def _check_size(name: str, height: int, width: int) -> None:
    """Before anything is decoded: a small file can claim to be a huge picture."""
    if (height, width) != (SIZE, SIZE):
        raise LulcbenchError(f"{name} is {height} × {width}, not {SIZE} × {SIZE}.", "Fetch the archive again.")
