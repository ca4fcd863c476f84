"""A footprint's ground as one sensor sees it: material fractions, and how patches and slopes differ from the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from builders.simulate import patterns
from builders.simulate.acquisitions import SEASONS
from builders.simulate.config import SimulationConfig
from builders.simulate.mixtures import Footprint
from builders.simulate.noise import Float, generator, key, mix, value_noise
from builders.simulate.surface import Surface
from lulcbench.grid import LABEL_RESOLUTION

GROUPS = 3  # visible, near infrared, short-wave infrared: bands of one group vary together
_GROUP_LIMITS = (0.69, 1.2)  # µm
_ZOOM = 2  # patch effects are kept on a 25 m grid


def group(wavelength: float) -> int:
    """Position of a band's group."""
    return int(np.searchsorted(_GROUP_LIMITS, wavelength))


@dataclass(frozen=True)
class Relief:
    """Brightness of the ground relative to its materials, on a grid in EPSG:3035 (25 m, aligned with the label map).

    Attributes:
        patch: float16 (season, group, h, w): relative deviation of each patch's reflectance.
        east: float16 (h, w): slope towards the east, and ``north``: towards the north; tangents.
        north: see ``east``.
    """

    patch: npt.NDArray[np.float16]
    east: npt.NDArray[np.float16]
    north: npt.NDArray[np.float16]


def relief(surface: Surface, config: SimulationConfig) -> Relief:
    """Draw the deviations of every patch, and the slopes."""
    spread = config.spectral_variation
    always = [_normal(surface.patch, key(config.seed, "patch", n)) for n in range(GROUPS + 1)]
    seasons = []
    for season in range(len(SEASONS)):
        shared = _normal(surface.patch, key(config.seed, "season", season))
        deviations = []
        for n in range(GROUPS):
            own = _normal(surface.patch, key(config.seed, "season", season, n))
            total = 0.55 * always[-1] + 0.55 * always[n] + 0.45 * shared + 0.45 * own
            deviations.append(_fine(spread * total))
        seasons.append(deviations)
    x, y = surface.grid()
    rugged = np.clip(value_noise(x, y, 0.9 * config.climate_scale, key(config.seed, "height"), 5), 0, 2.5)
    height = 90 * rugged * value_noise(x, y, 2_500, key(config.seed, "slopes"), 4)
    height[surface.water] = 0
    down, east = np.gradient(height, LABEL_RESOLUTION)
    flat = surface.water
    return Relief(np.array(seasons), _fine(np.where(flat, 0, east)), _fine(np.where(flat, 0, -down)))


def _normal(patch: npt.NDArray[np.uint32], salt: int) -> Float:
    """About normal (a sum of four uniform numbers), one for each patch: float32 of the same shape."""
    hashed = mix(patch ^ np.uint32(salt))
    total = sum((hashed >> np.uint32(8 * n) & np.uint32(255)).astype(np.float32) for n in range(4))
    return (total / np.float32(255) - 2) * np.float32(np.sqrt(3))


def _fine(field: Float) -> npt.NDArray[np.float16]:
    smooth = ndimage.gaussian_filter(field, 0.5)
    return ndimage.zoom(smooth, _ZOOM, order=1, grid_mode=True, mode="nearest").astype(np.float16)


class Shading:
    """Brings the relief to a sensor's pixels, block by block.

    Args:
        surface: the ground.
        relief: its deviations.
        footprint: the scene's area.
        resolution: pixel size, metres.
        seed: of the country.
    """

    def __init__(self, surface: Surface, relief: Relief, footprint: Footprint, resolution: int, seed: int) -> None:
        self._surface, self._relief, self._footprint, self._resolution = surface, relief, footprint, resolution
        rng = generator(seed, "grain", resolution)
        self._grain = 0.03 * patterns.smooth(rng, 0.8) + 0.03 * patterns.smooth(rng, 5.0)

    def gain(self, window: tuple[slice, slice], season: int, sun: tuple[float, float]) -> Float:
        """Factor on the reflectance of each band group: float32 (group, h, w) of a window of pixels."""
        rows, columns = window
        ys = (np.arange(rows.start, rows.stop) + 0.5) * self._resolution
        xs = (np.arange(columns.start, columns.stop) + 0.5) * self._resolution
        x, y = self._footprint.locate(self._surface, ys, xs)
        h, w = self._relief.east.shape
        step = np.float32(LABEL_RESOLUTION / _ZOOM)
        at = (y / step).astype(np.int32).clip(0, h - 1) * w + (x / step).astype(np.int32).clip(0, w - 1)
        azimuth, elevation = np.radians(sun)
        light = -(self._relief.east * np.float32(np.sin(azimuth)) + self._relief.north * np.float32(np.cos(azimuth)))
        slope = 1 + light.ravel()[at] * np.float32(0.8 / np.tan(elevation))
        grain = self._grain[np.ix_(np.arange(rows.start, rows.stop) % patterns.SIZE,
                                   np.arange(columns.start, columns.stop) % patterns.SIZE)]  # fmt: skip
        common = np.clip(slope, 0.35, 1.7) * (1 + grain)
        patch = self._relief.patch[season].reshape(GROUPS, -1)[:, at]
        return common * np.clip(1 + patch.astype(np.float32), 0.3, 2.0)
