"""Landsat Collection 2 Level 2: surface reflectance with the quality layer QA_PIXEL."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.radiometry import reflectance
from builders.readers.scene import UnusableSceneError
from builders.readers.source import RasterSource
from lulcbench.sensors import LANDSAT

# USGS Landsat Collection 2 Level-2 science product guide.
SCALE = 2.75e-5
OFFSET = -0.2
# Bits of QA_PIXEL: 0 fill, 1 dilated cloud, 2 cirrus, 3 cloud, 4 cloud shadow. Snow (5) counts as surface. Every pixel
# with data has a bit of its own (clear, cloud) and levels of confidence, so that 0 is not a state of one.
UNCLEAR = 0b11111
DILATED, CLOUD, NO_CLOUD = 1, 3, 6  # bits: the last is set where neither of the others is
ODD_SHARE = 0.01  # of the pixels of a layer that may contradict this

# Level, and number of the collection, in names of products: LC08_L1TP_195024_20180710_20180717_01_T1.
PRODUCT = re.compile(r"L[COTEM]0?\d_(L\d)\w\w_\d{6}_\d{8}(?:_\d{8})?_(\d\d)_")


def check(item: pystac.Item) -> None:
    """Nothing, for a product of surface reflectance of Collection 2, or one whose item does not tell what it is.

    Raises:
        UnusableSceneError: the item is Level-1 (top of atmosphere) or of Collection 1, by its name, level or files.
    """
    properties = item.properties
    names = [item.id, *(asset.href for asset in item.assets.values())]
    product = next(filter(None, map(PRODUCT.search, names)), None)
    levels = [product and product[1], *(properties.get(key) for key in ("landsat:correction", "processing:level"))]
    level = next((str(text) for text in levels if text), "")
    number = product[2] if product else str(properties.get("landsat:collection_number") or "02").zfill(2)
    if level.upper().startswith("L1") or number != "02":
        what = "Level-1" if number == "02" else f"Collection {int(number) if number.isdecimal() else number}"
        raise UnusableSceneError(
            what,
            f"Item {item.id} is a Landsat product of {what}, whose numbers have another meaning than surface "
            "reflectance of Collection 2.",
            "Use the product L2SP or L2SR of Collection 2, or correct the item.",
        )


def check_quality(values: npt.NDArray[Any]) -> str:
    """What is wrong with a sample of QA_PIXEL ``(n,)``; empty if it is of Collection 2.

    Its bit 6 is set where there is neither cloud nor dilated cloud. Other collections and products have other bits
    there, such that clouds would be clear ground.
    """
    known = values[(values > 1) & (values == np.floor(values))].astype(np.int64)
    cloudy = ((known >> DILATED) | (known >> CLOUD)) & 1
    odd = known[cloudy == (known >> NO_CLOUD) & 1]
    if odd.size <= known.size * ODD_SHARE:
        return ""
    shown = ", ".join(map(str, np.unique(odd)[:5]))
    return f"holds codes that QA_PIXEL of Collection 2 does not have, such as {shown}"


def is_clear(qa_pixel: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where there is an observation and none of the bits fill, dilated cloud, cirrus, cloud and shadow is set."""
    clear: npt.NDArray[np.bool_] = ((qa_pixel & UNCLEAR) == 0) & (qa_pixel != 0)
    return clear


def is_seen(qa_pixel: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True inside the swath (fill bit not set, another one is)."""
    seen: npt.NDArray[np.bool_] = ((qa_pixel & 1) == 0) & (qa_pixel != 0)
    return seen


SOURCE = RasterSource(
    LANDSAT,
    reflectance(SCALE, OFFSET, 0),
    is_clear,
    is_seen,
    quality_fill=1,
    check=check,
    check_quality=check_quality,
)
