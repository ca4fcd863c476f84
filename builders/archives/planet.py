"""Planet Fusion: surface reflectance with clouds filled, one file of four bands in the order given by the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.radiometry import reflectance
from builders.readers.scene import UnusableSceneError
from builders.readers.source import RasterSource
from lulcbench.sensors import PLANET

SCALE = 1e-4  # Planet Fusion Monitoring technical specification: reflectance · 10,000, nodata 0


def is_clear(qa: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where there are data: clouds are filled already, and 0 means that there is no observation."""
    clear: npt.NDArray[np.bool_] = qa != 0
    return clear


def check(item: pystac.Item) -> None:
    """Nothing, unless files of an item are radiance at the sensor, by the names of PlanetScope's products.

    Raises:
        UnusableSceneError: they are.
    """
    names = [Path(asset.href.partition("?")[0]).stem for asset in item.assets.values()]
    analytic = [name for name in names if re.search(r"AnalyticMS", name, re.IGNORECASE)]
    bands = [name for name in analytic if not re.search(r"metadata|udm|_DN_", name, re.IGNORECASE)]
    if bands and not any(re.search(r"_SR(?:_|$)", name) for name in bands):
        raise UnusableSceneError(
            "radiance",
            f"Item {item.id} is radiance at the sensor, not surface reflectance, by the name of {bands[0]}.",
            "Use the product of surface reflectance (SR) of the acquisition.",
        )


SOURCE = RasterSource(
    PLANET, reflectance(SCALE, 0, 0), is_clear, is_clear, quality_fill=0, needs_quality=False, check=check
)
