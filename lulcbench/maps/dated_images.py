"""Images of a place at several dates as inputs of a model: what all kinds of them have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.grid import Bounds
from lulcbench.maps.model import Image, ModelInfo, ModelInput
from lulcbench.sensors import SENSORS, Band

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen of an area at a date.

    Attributes:
        images: sensor → normalised image, float32 ``(channel, y, x)``; nodata is 0.
        clear: pixels in which the surface was seen: bool ``(y, x)`` on the grid of the first sensor.
    """

    images: dict[str, Image]
    clear: Mask


class DatedImages(Protocol):
    """Images of a place at several dates.

    Attributes:
        name: of the place or release.
        crs: of ``bounds``, in metres.
        bounds: of all images: left, bottom, right, top.
        origin: a corner of the grid of pixels and of patches.
        composites: whether an image was made of many observations, so that it has no clouds.
        simulated: whether the images are simulated.
        bands: of the pictures.
    """

    name: str
    bounds: Bounds
    bands: tuple[Band, ...]

    @property
    def crs(self) -> str:
        """See above."""

    @property
    def origin(self) -> tuple[float, float]:
        """See above."""

    @property
    def composites(self) -> bool:
        """See above."""

    @property
    def simulated(self) -> bool:
        """See above."""

    def dates(self, bounds: Bounds) -> list[np.datetime64]:
        """Dates of the images of an area, in order: datetime64[D]."""

    def read(self, date: np.datetime64, bounds: Bounds) -> Seen:
        """What a model sees of an area, whose sides are whole pixels of the grid."""

    def picture(self, date: np.datetime64, bounds: Bounds) -> Floats:
        """Values of ``bands`` in an area: float32 ``(band, y, x)``, NaN where there is none."""


def single_input(info: ModelInfo) -> tuple[str, ModelInput]:
    """The only sensor of a model of single images.

    Raises:
        LulcbenchError: it takes several sensors, composites or series.
    """
    (sensor, wanted), *more = info.inputs.items()
    if more or wanted.seasons or wanted.series:
        composites = f"composites of {', '.join(season.name for season in wanted.seasons)}"
        what = "several sensors" if more else composites if wanted.seasons else "series of a year"
        raise LulcbenchError(
            f"{info.name} takes {what}, not single images of dates.",
            "Use a model of single images, such as one of EuroSAT patches, or a release with composites of years.",
        )
    return sensor, wanted


def named_bands(sensor: str, names: Sequence[str]) -> tuple[Band, ...]:
    """Bands of a sensor by name; unknown ones have no wavelength."""
    known = {band.name: band for band in SENSORS[sensor].bands} if sensor in SENSORS else {}
    return tuple(known.get(name, Band(name, None, 1, name)) for name in names)
