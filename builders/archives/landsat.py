"""Landsat Collection 2 Level 2: surface reflectance with the quality layer QA_PIXEL."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from builders.readers.radiometry import reflectance
from builders.readers.source import RasterSource
from lulcbench.sensors import LANDSAT

# USGS Landsat Collection 2 Level-2 science product guide.
SCALE = 2.75e-5
OFFSET = -0.2
# Bits of QA_PIXEL: 0 fill, 1 dilated cloud, 2 cirrus, 3 cloud, 4 cloud shadow. Snow (5) counts as surface. Every pixel
# with data has a bit of its own (clear, cloud) and levels of confidence, so that 0 is not a state of one.
UNCLEAR = 0b11111


def is_clear(qa_pixel: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where there is an observation and none of the bits fill, dilated cloud, cirrus, cloud and shadow is set."""
    clear: npt.NDArray[np.bool_] = ((qa_pixel & UNCLEAR) == 0) & (qa_pixel != 0)
    return clear


def is_seen(qa_pixel: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True inside the swath (fill bit not set, another one is)."""
    seen: npt.NDArray[np.bool_] = ((qa_pixel & 1) == 0) & (qa_pixel != 0)
    return seen


SOURCE = RasterSource(LANDSAT, reflectance(SCALE, OFFSET, 0), is_clear, is_seen, quality_fill=1)
