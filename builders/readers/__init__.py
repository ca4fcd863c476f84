"""Readers: code that turns files into pixels on the tile grid, behind two protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.area import Area
from builders.readers.scene import Scene
from lulcbench.sensors import Band


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of one scene over an area.

    Attributes:
        stored: ``(band, y, x)`` in the sensor's coding (``lulcbench.sensors``); nodata in all bands where any is
            missing.
        seen: ``(y, x)`` bool, True where the scene has data, cloudy or not.
        clear: ``(y, x)`` bool, False under cloud, shadow or a defect (and a safety margin around them).
    """

    stored: npt.NDArray[Any]
    seen: npt.NDArray[np.bool_]
    clear: npt.NDArray[np.bool_]


class SceneSource(Protocol):
    """An archive of scenes of one sensor."""

    def scene(self, item: pystac.Item) -> Scene:
        """Describe an item such that its files can be read later without the catalog."""

    def read(self, scene: Scene, area: Area, bands: tuple[Band, ...]) -> Pixels:
        """Read a scene on the pixel grid of an area."""


class LabelSource(Protocol):
    """A map of LUISA codes."""

    def bounds(self) -> tuple[float, float, float, float]:
        """Extent in EPSG:3035 metres."""

    def read(self, area: Area) -> npt.NDArray[np.uint16]:
        """LUISA codes ``(y, x)`` on the pixel grid of an area; 0 where the map has none."""
