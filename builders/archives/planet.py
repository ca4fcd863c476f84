"""Planet Fusion: surface reflectance with clouds filled, one file of four bands in the order given by the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.items import Channel
from builders.readers.raster import RasterSource, Scaling
from lulcbench.sensors import PLANET

SCALE = 1e-4  # Planet Fusion Monitoring technical specification: reflectance · 10,000, nodata 0


def is_clear(qa: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where there are data: clouds are filled already, and 0 means that there is no observation."""
    clear: npt.NDArray[np.bool_] = qa != 0
    return clear


def scaling(item: pystac.Item, channel: Channel) -> Scaling:
    """The item's own scale and offset, or those of Planet Fusion."""
    if channel.scale is None:
        return Scaling(SCALE, 0, 0)
    return Scaling(channel.scale, channel.offset or 0, channel.nodata)


SOURCE = RasterSource(PLANET, scaling, is_clear, is_clear, quality_fill=0)
