"""Planet Fusion: surface reflectance with clouds filled, one file of four bands in the order given by the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from builders.readers.radiometry import reflectance
from builders.readers.source import RasterSource
from lulcbench.sensors import PLANET

SCALE = 1e-4  # Planet Fusion Monitoring technical specification: reflectance · 10,000, nodata 0


def is_clear(qa: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where there are data: clouds are filled already, and 0 means that there is no observation."""
    clear: npt.NDArray[np.bool_] = qa != 0
    return clear


SOURCE = RasterSource(PLANET, reflectance(SCALE, 0, 0), is_clear, is_clear, quality_fill=0, needs_quality=False)
