"""Sensors and their bands: what a channel is.

Archives code reflectance in their own ways (and Sentinel-2 changed its own in 2022); a release stores every sensor in
one: ``reflectance = stored · 1e-4 − 0.1``, uint16, 0 = nodata. It is the coding of Sentinel-2 since baseline 04.00 and
holds reflectance −0.0999 … 6.45 at the archive's own step of 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lulcbench.errors import NotAvailableError

SCALE = 1e-4
OFFSET = -0.1
NODATA = 0


@dataclass(frozen=True, slots=True)
class Band:
    """One channel.

    Attributes:
        name: the name used in releases and by ``bands=``.
        wavelength: centre wavelength, µm.
        resolution: ground sampling distance of the original channel, m.
        asset: the channel's key in STAC items (Earth Search and USGS common names).
    """

    name: str
    wavelength: float
    resolution: int
    asset: str


@dataclass(frozen=True, slots=True)
class Sensor:
    """One instrument family, on one pixel grid.

    Attributes:
        name: ``sentinel2``, ``landsat`` or ``planet``.
        resolution: pixel size of its tiles, m.
        bands: all bands it can have, in order of wavelength.
        quality_asset: STAC asset of the per-pixel quality layer, or None.
        rgb: names of the bands for a true-colour picture.
    """

    name: str
    resolution: int
    bands: tuple[Band, ...]
    quality_asset: str | None
    rgb: tuple[str, str, str]

    def band(self, name: str) -> Band:
        """The band of that name.

        Raises:
            NotAvailableError: there is none; lists those that exist.
        """
        for band in self.bands:
            if band.name == name:
                return band
        known = ", ".join(band.name for band in self.bands)
        raise NotAvailableError(f"{self.name} has no band {name!r}.", f"It has {known}.")


# Wavelengths and ground sampling: ESA Sentinel-2 MSI (S2A); USGS Landsat 8 OLI; Planet Fusion specification.
SENTINEL2 = Sensor(
    "sentinel2",
    10,
    (
        Band("B01", 0.443, 60, "coastal"),
        Band("B02", 0.490, 10, "blue"),
        Band("B03", 0.560, 10, "green"),
        Band("B04", 0.665, 10, "red"),
        Band("B05", 0.704, 20, "rededge1"),
        Band("B06", 0.740, 20, "rededge2"),
        Band("B07", 0.783, 20, "rededge3"),
        Band("B08", 0.842, 10, "nir"),
        Band("B8A", 0.865, 20, "nir08"),
        Band("B09", 0.945, 60, "nir09"),
        Band("B10", 1.375, 60, "cirrus"),
        Band("B11", 1.610, 20, "swir16"),
        Band("B12", 2.190, 20, "swir22"),
    ),
    "scl",
    ("B04", "B03", "B02"),
)
LANDSAT = Sensor(
    "landsat",
    30,
    (
        Band("coastal", 0.44, 30, "coastal"),
        Band("blue", 0.48, 30, "blue"),
        Band("green", 0.56, 30, "green"),
        Band("red", 0.65, 30, "red"),
        Band("nir08", 0.87, 30, "nir08"),
        Band("swir16", 1.61, 30, "swir16"),
        Band("swir22", 2.20, 30, "swir22"),
    ),
    "qa_pixel",
    ("red", "green", "blue"),
)
PLANET = Sensor(
    "planet",
    3,
    (
        Band("blue", 0.485, 3, "blue"),
        Band("green", 0.545, 3, "green"),
        Band("red", 0.630, 3, "red"),
        Band("nir", 0.820, 3, "nir"),
    ),
    "qa",
    ("red", "green", "blue"),
)
SENSORS = {sensor.name: sensor for sensor in (SENTINEL2, LANDSAT, PLANET)}


def sensor(name: str) -> Sensor:
    """The sensor of that name.

    Raises:
        NotAvailableError: there is none; lists those that exist.
    """
    if name not in SENSORS:
        raise NotAvailableError(f"Unknown sensor {name!r}.", f"Known sensors: {', '.join(SENSORS)}.")
    return SENSORS[name]


def to_stored(reflectance: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
    """Reflectance → stored uint16, any shape; NaN → 0 (nodata), everything else clipped to 1 … 65535."""
    dn = np.rint((reflectance - OFFSET) / SCALE)
    valid = np.isfinite(dn)
    return np.where(valid, np.clip(np.where(valid, dn, 1), 1, 65535), NODATA).astype(np.uint16)


def to_reflectance(stored: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Stored uint16 → reflectance as float32, any shape; 0 (nodata) → NaN."""
    return np.where(stored == NODATA, np.float32(np.nan), stored * np.float32(SCALE) + np.float32(OFFSET))
