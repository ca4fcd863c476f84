"""Sources: one file each, all behind two small protocols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pystac

from builders.area import Area
from builders.recipe import LabelRule
from builders.scene import Scene
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import Band


@dataclass(frozen=True, slots=True)
class Pixels:
    """What one scene shows of an area.

    Attributes:
        stored: ``(band, y, x)`` uint16 in the stored coding (``lulcbench.sensors``);
            0 in all bands where any is missing.
        seen: ``(y, x)`` bool, True where the scene has data, clouded or not.
        clear: ``(y, x)`` bool, False under cloud, shadow or a defect (and a safety margin around them).
    """

    stored: npt.NDArray[np.uint16]
    seen: npt.NDArray[np.bool_]
    clear: npt.NDArray[np.bool_]


class SceneSource(Protocol):
    """An archive of scenes of one sensor."""

    def scene(self, item: pystac.Item) -> Scene:
        """Everything needed to read the item's files later, with no further look at the catalog."""

    def read(self, scene: Scene, area: Area, bands: tuple[Band, ...]) -> Pixels:
        """The scene on the pixel grid of an area."""


class LabelSource(Protocol):
    """A map of LUISA codes."""

    def bounds(self) -> tuple[float, float, float, float]:
        """Extent in EPSG:3035 metres."""

    def read(self, area: Area) -> npt.NDArray[np.uint16]:
        """LUISA codes ``(y, x)`` on the pixel grid of an area; 0 where the map has none."""


def scene_source(sensor_name: str) -> SceneSource:
    """The archive of a sensor's scenes."""
    from builders.sources import landsat, planet, sentinel2

    return {"sentinel2": sentinel2.SOURCE, "landsat": landsat.SOURCE, "planet": planet.SOURCE}[sensor_name]


def label_source(rule: LabelRule) -> LabelSource:
    """The label map that a recipe names."""
    from builders.sources import corine, luisa

    if not rule.path.is_file():
        raise LulcbenchError(
            f"The label map {rule.path} is missing.", "Mend 'path' of the recipe's labels, or fetch the file."
        )
    return luisa.labels(rule.path) if rule.source == "luisa" else corine.labels(rule.path, rule.layer, rule.field)
