"""Sensors, their bands, and the coding of their values in releases.

Archives code reflectance in different ways (and that of Sentinel-2 changed in 2022); releases use one coding for all
optical sensors, ``REFLECTANCE``: that of Sentinel-2 since processing baseline 04.00, which covers reflectance
−0.0999 … 6.4535 in steps of 1e-4, as in the archive. Other quantities have other codings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass as stored_dataclass

from lulcbench.errors import NotAvailableError

_STORED = ConfigDict(extra="forbid")


@stored_dataclass(frozen=True, slots=True, config=_STORED)
class Coding:
    """Coding of the values of a band: ``value = stored · scale + offset``.

    Attributes:
        dtype: NumPy name of the stored type.
        scale: step between stored values, in the unit of the band.
        offset: value that is stored as 0.
        nodata: stored value of missing pixels: the lowest or highest value of an integer type; ``"NaN"`` for float32.

    Raises:
        ValueError: ``nodata`` does not fit the type, or ``scale`` is not positive.

    Examples:
        >>> coding = Coding("int16", 0.01, 0, -32768)
        >>> coding.encode(np.array([-12.345, np.nan, 1e9]))
        array([ -1234, -32768,  32767], dtype=int16)
        >>> coding.decode(np.array([-1234, -32768], np.int16))
        array([-12.34,    nan], dtype=float32)
    """

    dtype: Literal["uint8", "int16", "uint16", "float32"]
    scale: float
    offset: float
    nodata: int | Literal["NaN"]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not (0 < self.scale < math.inf and math.isfinite(self.offset)):
            raise ValueError(f"scale {self.scale} and offset {self.offset} must be finite, and scale positive")
        allowed = ("NaN",) if self.dtype == "float32" else (np.iinfo(self.dtype).min, np.iinfo(self.dtype).max)
        if self.nodata not in allowed:
            raise ValueError(f"nodata of {self.dtype} is {self.nodata}, not {' or '.join(map(str, allowed))}")
        return self

    @property
    def fill_value(self) -> Any:
        """``nodata`` as a NumPy scalar of the stored type."""
        return np.dtype(self.dtype).type(self.nodata)

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest stored value that is not nodata."""
        if self.dtype == "float32":
            return float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
        low, high = np.iinfo(self.dtype).min, np.iinfo(self.dtype).max
        return low + (self.nodata == low), high - (self.nodata == high)

    def missing(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Mask of stored values that are nodata, of the same shape."""
        missing: npt.NDArray[np.bool_] = np.isnan(stored) if self.nodata == "NaN" else stored == self.fill_value
        return missing

    def encode(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Convert values in the unit of the band to stored values of the same shape.

        Values that are not finite become nodata; others are clipped to ``limits``, so that they do not.
        """
        codes = (values - self.offset) / self.scale
        valid = np.isfinite(codes)
        low, high = self.limits
        codes = np.clip(np.where(valid, codes, low), low, high)
        if self.dtype != "float32":
            codes = np.rint(codes)
        return np.where(valid, codes, self.fill_value).astype(self.dtype)

    def decode(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Convert stored values to float32 values in the unit of the band, of the same shape; nodata becomes NaN."""
        values = stored * np.float32(self.scale) + np.float32(self.offset)
        return np.where(self.missing(stored), np.float32(np.nan), values)


REFLECTANCE = Coding("uint16", 1e-4, -0.1, 0)
# −327.67 … 327.67 dB in steps of 0.01 dB, far below the radiometric accuracy of Sentinel-1 of 1 dB (3σ; Torres et al.
# 2012, doi.org/10.1016/j.rse.2011.05.028).
BACKSCATTER = Coding("int16", 0.01, 0, -32768)
# Class codes of labels, 0 where unlabelled.
CLASS_CODES = Coding("uint16", 1, 0, 0)
# Numbers of clear observations; 255 stands for 255 and more. 0 is a number like others, and what is not stored.
CLEAR_COUNTS = Coding("uint8", 1, 0, 0)


@stored_dataclass(frozen=True, slots=True, config=_STORED)
class Band:
    """One channel of a sensor.

    Attributes:
        name: name in releases and in ``bands=``.
        wavelength: centre wavelength in µm; None for bands that are not optical.
        resolution: ground sampling distance of the original channel, in metres.
        asset: key of the channel in STAC items (common names of Earth Search and USGS).
        unit: unit of the values in UDUNITS notation; ``"1"`` for reflectance and other ratios.
        coding: coding of the values; the same for all bands of a sensor, because they share an array.
    """

    name: str
    wavelength: float | None
    resolution: int
    asset: str
    unit: str = "1"
    coding: Coding = REFLECTANCE


@dataclass(frozen=True, slots=True)
class Sensor:
    """A family of instruments with one pixel grid and one list of bands.

    Attributes:
        name: name, such as ``sentinel2``.
        resolution: pixel size in releases, in metres.
        bands: all bands of the sensor, in order of wavelength.
        quality_asset: STAC asset of the per-pixel quality layer, or None.
        collection: default id of the STAC collection of its scenes.

    Raises:
        ValueError: bands differ in coding or unit.
    """

    name: str
    resolution: int
    bands: tuple[Band, ...]
    quality_asset: str | None
    collection: str

    def __post_init__(self) -> None:
        check_bands(self.bands)

    @property
    def coding(self) -> Coding:
        """The coding of all bands."""
        return self.bands[0].coding

    def band(self, name: str) -> Band:
        """The band with a name.

        Raises:
            NotAvailableError: there is no such band; states those that exist.
        """
        for band in self.bands:
            if band.name == name:
                return band
        known = ", ".join(band.name for band in self.bands)
        raise NotAvailableError(f"{self.name} has no band {name!r}.", f"It has {known}.")


def check_bands(bands: Sequence[Band]) -> None:
    """Check that bands can share an array.

    Raises:
        ValueError: there are no bands, two have the same name, or codings or units differ.
    """
    if not bands:
        raise ValueError("there are no bands")
    if len({band.name for band in bands}) < len(bands):
        raise ValueError(f"two bands have the same name: {', '.join(band.name for band in bands)}")
    if len({(band.coding, band.unit) for band in bands}) > 1:
        raise ValueError("bands of an array must share coding and unit")


def true_color(bands: Sequence[Band]) -> tuple[int, int, int] | None:
    """Positions of red, green and blue among bands; None if one of these is missing.

    Examples:
        >>> true_color(SENTINEL2.bands)
        (3, 2, 1)
    """
    assets = [band.asset for band in bands]
    if not {"red", "green", "blue"} <= set(assets):
        return None
    return assets.index("red"), assets.index("green"), assets.index("blue")


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
    "sentinel-2-l2a",
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
    "landsat-c2-l2",
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
    "planet-fusion",
)
# Terrain-corrected backscatter (gamma nought) of the C-band radar, in decibels, on 10 m pixels.
SENTINEL1 = Sensor(
    "sentinel1",
    10,
    (
        Band("VV", None, 10, "vv", "dB", BACKSCATTER),
        Band("VH", None, 10, "vh", "dB", BACKSCATTER),
    ),
    None,
    "sentinel-1-rtc",
)
SENSORS = {sensor.name: sensor for sensor in (SENTINEL2, LANDSAT, PLANET, SENTINEL1)}


def sensor(name: str) -> Sensor:
    """The sensor with a name.

    Raises:
        NotAvailableError: there is no such sensor; states those that exist.

    Examples:
        >>> sensor("sentinel2").resolution
        10
        >>> sensor("landsat").band("nir08").wavelength
        0.87
    """
    if name not in SENSORS:
        raise NotAvailableError(f"Unknown sensor {name!r}.", f"Known sensors: {', '.join(SENSORS)}.")
    return SENSORS[name]
