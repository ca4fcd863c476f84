"""Quality layers in the form of real archives: scene classification, QA_PIXEL bits, Planet's data mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from builders.simulate.noise import Float
from lulcbench.sensors import Band, Sensor

# Thresholds of opacity at which a pixel is flagged; thinner cloud remains undetected, as in real data.
THIN, MEDIUM, THICK = 0.06, 0.25, 0.6
_SHADED = 0.3
_NEEDED = ("green", "red", "nir08", "swir16")


def extra_bands(sensor: Sensor, own: list[Band]) -> list[Band]:
    """Bands that the classification needs in addition to those recorded at its pixel size."""
    present = {band.asset for band in own}
    return [b for b in sensor.bands if b.asset in _NEEDED and b.asset not in present]


def layer(
    sensor: Sensor, reflectance: dict[str, Float], opacity: Float, shadow: Float, swath: npt.NDArray[np.bool_]
) -> npt.NDArray[np.unsignedinteger]:
    """The quality layer of a scene.

    Args:
        sensor: the sensor, which determines the type of quality layer.
        reflectance: asset key → float32 (h, w), at the pixel size of the layer.
        opacity: opacity of clouds, 0…1.
        shadow: shadow of clouds, 0…1.
        swath: True for observed pixels.

    Returns:
        uint8 scene classification, uint16 QA_PIXEL or uint8 data mask, (h, w).
    """
    if sensor.quality_asset == "scl":
        return _scl(reflectance, opacity, shadow, swath)
    if sensor.quality_asset == "qa_pixel":
        return _qa_pixel(reflectance, opacity, shadow, swath)
    return swath.astype(np.uint8)


def _ratio(a: Float, b: Float) -> Float:
    ratio: Float = (a - b) / np.maximum(a + b, np.float32(0.01))
    return ratio


def _surface(r: dict[str, Float]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], Float]:
    ndvi = _ratio(r["nir08"], r["red"])
    snow = (_ratio(r["green"], r["swir16"]) > 0.4) & (r["green"] > 0.3)
    water = (_ratio(r["green"], r["nir08"]) > 0) & (r["nir08"] < 0.12) & ~snow
    return snow, water, ndvi


def _scl(r: dict[str, Float], opacity: Float, shadow: Float, swath: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    snow, water, ndvi = _surface(r)
    out = np.full(opacity.shape, 5, np.uint8)
    out[ndvi > 0.35] = 4
    out[(ndvi > 0.2) & (ndvi <= 0.35) & (r["swir16"] < 0.1)] = 7
    out[(r["nir08"] < 0.07) & (r["swir16"] < 0.06)] = 2
    out[water] = 6
    out[snow] = 11
    out[shadow > _SHADED] = 3
    out[opacity > THIN] = 10
    out[opacity > MEDIUM] = 8
    out[opacity > THICK] = 9
    out[~swath] = 0
    return out


def _qa_pixel(
    r: dict[str, Float], opacity: Float, shadow: Float, swath: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint16]:
    snow, water, _ = _surface(r)
    cloud = opacity > MEDIUM
    dilated = ndimage.binary_dilation(cloud, iterations=3) & ~cloud
    cirrus = (opacity > THIN) & ~cloud
    shaded = (shadow > _SHADED) & ~cloud
    snow &= ~cloud
    low, high = 1, 3  # two-bit confidences of cloud (8), shadow (10), snow (12) and cirrus (14)
    out = np.zeros(opacity.shape, np.uint16)
    for bit, flag in enumerate((dilated, cirrus, cloud, shaded, snow, ~cloud & ~dilated, water & ~cloud), start=1):
        out |= flag.astype(np.uint16) << np.uint16(bit)
    for bit, flag in ((8, cloud), (10, shaded), (12, snow), (14, cirrus)):
        out |= np.where(flag, high, low).astype(np.uint16) << np.uint16(bit)
    out[~swath] = 1
    return out
