"""Readers: code that turns files into pixels on the tile grid, behind two protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.area import Area
from builders.readers.scene import Scene
from lulcbench.grid import Bounds
from lulcbench.sensors import Band


class Damage(NamedTuple):
    """A part of a scene that is not used because a file of it cannot be read there.

    Attributes:
        bounds: of the part, EPSG:3035 metres.
        what: the file, the place in it, and what is wrong.
    """

    bounds: Bounds
    what: str


@dataclass(frozen=True, slots=True)
class Pixels:
    """The pixels of one scene over an area.

    Attributes:
        stored: ``(band, y, x)`` in the sensor's coding (``lulcbench.sensors``). Where one band is missing, so are all:
            an observation has all bands.
        seen: ``(y, x)`` bool, True where the scene has data, cloudy or not.
        clear: ``(y, x)`` bool, False under cloud, shadow or a defect (and a safety margin around them).
        damage: parts of the scene that are treated as not seen, because their files are damaged.
    """

    stored: npt.NDArray[Any]
    seen: npt.NDArray[np.bool_]
    clear: npt.NDArray[np.bool_]
    damage: tuple[Damage, ...] = ()


class SceneSource(Protocol):
    """An archive of scenes of one sensor."""

    def scene(self, item: pystac.Item, bands: Sequence[Band] | None = None) -> Scene:
        """Describe an item such that its files can be read later without the catalog.

        Args:
            item: the item.
            bands: those to read; None is all that the item has.

        Raises:
            UnusableSceneError: the item lacks a band or its extent, or is not a product of this archive.
            LulcbenchError: its metadata contradict each other or its files.
        """

    def knows_clouds(self, scene: Scene) -> bool:
        """Whether the scene's pixels are known to be clear or not: it has a quality layer, or none is needed."""

    def read(self, scene: Scene, area: Area, bands: tuple[Band, ...]) -> Pixels:
        """Read a scene on the pixel grid of an area."""


class Labels(NamedTuple):
    """Labels of an area.

    Attributes:
        codes: LUISA codes ``(y, x)``; 0 where the map has none.
        sparse: ``(y, x)`` bool, True where the map has a class on too little of a pixel to label it.
        overlapping: ``(y, x)`` bool, True where a pixel has no label because polygons of several classes overlap.
    """

    codes: npt.NDArray[np.uint16]
    sparse: npt.NDArray[np.bool_]
    overlapping: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Labels:
        """No labels, in arrays that may be written to."""
        return cls(np.zeros(shape, np.uint16), np.zeros(shape, bool), np.zeros(shape, bool))


class LabelSource(Protocol):
    """A map of LUISA codes."""

    def bounds(self) -> tuple[float, float, float, float]:
        """Extent in EPSG:3035 metres."""

    def read(self, area: Area) -> Labels:
        """Labels on the pixel grid of an area."""
