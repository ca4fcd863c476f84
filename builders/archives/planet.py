"""Planet: surface reflectance, one file of four bands in the order given by the file.

Of Planet Fusion, clouds are filled. Scenes of PlanetScope have them, and a mask of usable data (UDM2) that tells where.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.items import file_name
from builders.readers.radiometry import reflectance
from builders.readers.scene import Scene, UnusableSceneError
from builders.readers.source import RasterSource
from lulcbench.sensors import PLANET

_USABLE_DATA = re.compile(r"(?<![a-z\d])udm2(?![a-z\d])", re.IGNORECASE)
_SCENE = re.compile(r"^PSScene|planetscope|AnalyticMS|_3B_", re.IGNORECASE)
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
    names = [Path(file_name(asset.href)).stem for asset in item.assets.values()]
    analytic = [name for name in names if re.search(r"AnalyticMS", name, re.IGNORECASE)]
    bands = [name for name in analytic if not re.search(r"metadata|udm|_DN_", name, re.IGNORECASE)]
    if bands and not any(re.search(r"_SR(?:_|$)", name) for name in bands):
        raise UnusableSceneError(
            "radiance",
            f"Item {item.id} is radiance at the sensor, not surface reflectance, by the name of {bands[0]}.",
            "Use the product of surface reflectance (SR) of the acquisition.",
        )


def is_filled(scene: Scene) -> bool:
    """False for scenes of PlanetScope, by the names of their products or their collection."""
    files = [file_name(asset.href) for asset in scene.assets.values()]
    return not any(_SCENE.search(text) for text in (scene.collection, *files))


SOURCE = RasterSource(
    PLANET,
    reflectance(SCALE, 0, 0),
    is_clear,
    is_clear,
    quality_fill=0,
    cloudless=is_filled,
    check=check,
    quality_names=_USABLE_DATA,
)
