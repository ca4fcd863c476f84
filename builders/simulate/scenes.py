"""Rendering a scene: mixing, shading, point spread, geolocation error, clouds, noise and the archive's coding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builders.simulate import materials, mixtures, quality
from builders.simulate.acquisitions import Acquisition
from builders.simulate.clouds import Sky, draw_sky
from builders.simulate.ground import Shading, group
from builders.simulate.mixtures import BLOCK, Footprint
from builders.simulate.noise import Float, generator
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import Band, Sensor

_MARGIN = 3  # pixels around a block that are needed for point spread and geolocation error
_BLUR = 0.16  # weight of each neighbour along an axis; gives a modulation transfer of about 0.3 at Nyquist
_CLOUD = {0.4: 0.62, 0.7: 0.58, 1.0: 0.6, 1.7: 0.5, 3.0: 0.4}  # reflectance of cloud at wavelengths, µm


@dataclass(frozen=True)
class Image:
    """One file of a scene: stored values in the archive's coding, and the pixel size in metres."""

    values: npt.NDArray[np.unsignedinteger]
    resolution: int


@dataclass(frozen=True)
class Coding:
    """Reflectance = DN · scale + offset; DN 0 is nodata."""

    scale: float
    offset: float

    def encode(self, reflectance: Float) -> npt.NDArray[np.uint16]:
        """Encode reflectance as uint16 digital numbers from 1 upwards, since 0 is nodata."""
        dn = reflectance - np.float32(self.offset)
        dn *= np.float32(1 / self.scale)
        np.clip(dn, 1, 65535, out=dn)
        return np.rint(dn, out=dn).astype(np.uint16)


def coding(taken: Acquisition) -> Coding:
    """The coding of an archive: ESA L2A (with the offset since baseline 04.00), USGS Collection 2, Planet Fusion."""
    if taken.sensor == "landsat":
        return Coding(2.75e-5, -0.2)
    if taken.baseline is not None and float(taken.baseline) >= 4:
        return Coding(1e-4, -0.1)
    return Coding(1e-4, 0.0)


@dataclass(frozen=True)
class Layer:
    """The ground at one pixel size: material counts uint8 (h, w, material) and the shading of its pixels."""

    counts: npt.NDArray[np.uint8]
    shading: Shading
    resolution: int


def take(
    taken: Acquisition,
    sensor: Sensor,
    bands: tuple[Band, ...],
    layers: dict[int, Layer],
    footprint: Footprint,
    country: Footprint,
) -> tuple[dict[str, Image], float]:
    """Render a scene.

    Args:
        taken: the acquisition.
        sensor: the sensor.
        bands: the bands to record.
        layers: pixel size in metres → ground.
        footprint: area of the scene.
        country: area of the whole pass, to which clouds and the edge of the swath refer.

    Returns:
        Asset key → image, including the quality layer, and the fraction of the observed area under cloud.
    """
    sky = draw_sky(footprint, country, taken.cloud, taken.sun, taken.salt)
    images: dict[str, Image] = {}
    clear: dict[str, Float] = {}
    for resolution, layer in layers.items():
        recorded = [b for b in bands if _rendered_at(b, layers) == resolution]
        needed = recorded if resolution != max(layers) else recorded + quality.extra_bands(sensor, recorded)
        rendered = _render(taken, needed, layer, sky)
        swath = _swath(taken.wedge, footprint, country, resolution)
        for band, values in zip(needed, rendered, strict=True):
            if resolution == max(layers):
                clear[band.asset] = values
            if band in recorded:
                images[band.asset] = _record(taken, footprint, band, values, swath, resolution)
    coarse = max(layers)
    shape = layers[coarse].counts.shape[:2]
    swath = _swath(taken.wedge, footprint, country, coarse)
    opacity, shadow = sky.at(coarse, (slice(0, shape[0]), slice(0, shape[1])))
    images[str(sensor.quality_asset)] = Image(quality.layer(sensor, clear, opacity, shadow, swath), coarse)
    return images, float((opacity > quality.THIN)[swath].mean()) if swath.any() else 0.0


def _rendered_at(band: Band, layers: dict[int, Layer]) -> int:
    """Pixel size at which a band is rendered; bands coarser than all layers are averaged from the coarsest one."""
    return min(band.resolution, max(layers))


def _wavelength(band: Band) -> float:
    if band.wavelength is None:
        raise LulcbenchError(f"Band {band.name} has no wavelength.", "The simulator renders only optical sensors.")
    return band.wavelength


def _record(
    taken: Acquisition, footprint: Footprint, band: Band, values: Float, swath: npt.NDArray[np.bool_], resolution: int
) -> Image:
    factor = band.resolution // resolution
    if factor > 1:
        h, w = values.shape
        values = values.reshape(h // factor, factor, w // factor, factor).mean(axis=(1, 3))
        swath = swath.reshape(h // factor, factor, w // factor, factor).all(axis=(1, 3))
    rng = generator(taken.salt, footprint.left, footprint.top, band.name)
    noise = rng.standard_normal(values.shape, np.float32)
    noise *= np.float32(0.0012) + np.float32(0.008) * values
    noise += values
    dn = coding(taken).encode(noise)
    dn[~swath] = 0
    return Image(dn, band.resolution)


def _render(taken: Acquisition, bands: list[Band], layer: Layer, sky: Sky) -> Float:
    """Reflectance including haze, clouds and their shadows: float32 (band, h, w)."""
    wavelengths = [_wavelength(band) for band in bands]
    spectra = materials.reflectance(taken.time.timetuple().tm_yday, wavelengths, taken.late)
    haze = np.array([taken.haze * (0.49 / wavelength) ** 2 for wavelength in wavelengths], np.float32)
    cloud = np.interp(wavelengths, list(_CLOUD), list(_CLOUD.values())).astype(np.float32)
    groups = [group(wavelength) for wavelength in wavelengths]
    height, width = layer.counts.shape[:2]
    moves = [taps(offset / layer.resolution) for offset in (taken.shift[0], -taken.shift[1])]
    out = np.empty((len(bands), height, width), np.float32)
    for row in range(0, height, BLOCK):
        for column in range(0, width, BLOCK):
            inner = (slice(row, min(row + BLOCK, height)), slice(column, min(column + BLOCK, width)))
            outer = tuple(slice(max(s.start - _MARGIN, 0), min(s.stop + _MARGIN, n))
                          for s, n in zip(inner, (height, width), strict=True))  # fmt: skip
            block = mixtures.reflectance(layer.counts[outer], spectra)
            gain = layer.shading.gain((outer[0], outer[1]), taken.season, taken.sun)
            for band, own in zip(block, groups, strict=True):
                band *= gain[own]
            block = spread(block, moves[0], axis=2)
            block = spread(block, moves[1], axis=1)
            top, left = inner[0].start - outer[0].start, inner[1].start - outer[1].start
            block = block[:, top : top + inner[0].stop - row, left : left + inner[1].stop - column]
            block += haze[:, None, None]
            thick, shadow = sky.at(layer.resolution, inner)
            if thick.any() or shadow.any():
                block *= (1 - np.float32(0.6) * shadow) * (1 - thick)
                block += cloud[:, None, None] * thick
            out[(slice(None), *inner)] = block
    return out


def taps(shift: float) -> npt.NDArray[np.float32]:
    """Five weights along an axis: the point spread function, shifted by ``shift`` pixels (-1 to 1)."""
    spread = np.array([_BLUR, 1 - 2 * _BLUR, _BLUR])
    part = abs(shift)
    move = np.array([0.0, 1 - part, part] if shift >= 0 else [part, 1 - part, 0.0])
    weights = np.zeros(5)
    for first, weight in enumerate(spread):  # not np.convolve: BLAS adds in another order on every kind of processor
        weights[first : first + 3] += weight * move
    return weights.astype(np.float32)


def spread(block: Float, weights: npt.NDArray[np.float32], axis: int) -> Float:
    """Convolve images (band, h, w) with an odd number of weights along one axis; edge pixels are repeated."""
    reach = len(weights) // 2
    padding = [(0, 0)] * 3
    padding[axis] = (reach, reach)
    padded = np.pad(block, padding, mode="edge")
    n = block.shape[axis]
    out = np.zeros_like(block)
    term = np.empty_like(block)
    for position, weight in enumerate(weights):
        # A weight to the right of the centre shifts the image to the right.
        start = 2 * reach - position
        part = padded[:, start : start + n] if axis == 1 else padded[:, :, start : start + n]
        np.multiply(part, weight, out=term)
        out += term
    return out


def _swath(
    wedge: tuple[float, float, float] | None, footprint: Footprint, country: Footprint, resolution: int
) -> npt.NDArray[np.bool_]:
    """True for pixels of the swath: the whole scene, or the area on one side of an oblique line across the country."""
    height, width = footprint.shape(resolution)
    if wedge is None:
        return np.ones((height, width), bool)
    normal_x, normal_y, cut = wedge
    x = footprint.left - country.left + (np.arange(width, dtype=np.float32) + 0.5) * resolution
    y = country.top - footprint.top + (np.arange(height, dtype=np.float32) + 0.5) * resolution
    across = normal_x * (x / country.width - 0.5)[None, :] + normal_y * (y / country.width)[:, None]
    return across > cut - 0.5 + min(normal_y, 0) * country.height / country.width
