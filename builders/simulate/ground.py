"""Variation of the reflectance of the ground by patch and slope, sampled on the pixels of a sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from builders.simulate import patterns
from builders.simulate.config import SimulationConfig
from builders.simulate.mixtures import BLOCK, Footprint
from builders.simulate.noise import Float, generator, key, mix, portable, value_noise
from builders.simulate.surface import Surface
from lulcbench.grid import LABEL_RESOLUTION

GROUPS = 3  # visible, near infrared, short-wave infrared: bands of one group vary together
_GROUP_LIMITS = (0.69, 1.2)  # µm
_ZOOM = 2  # patch effects are stored on a 25 m grid


def group(wavelength: float) -> int:
    """Index of the group of a band, from its wavelength in µm."""
    return int(np.searchsorted(_GROUP_LIMITS, wavelength))


@dataclass(frozen=True)
class Relief:
    """Brightness of the ground relative to its materials, on a grid in EPSG:3035 (25 m, aligned with the label map).

    Attributes:
        patch: float32 (season, group, h, w): factor on the reflectance of each patch.
        east: float32 (h, w): tangent of the slope towards the east.
        north: float32 (h, w): tangent of the slope towards the north.
    """

    patch: npt.NDArray[np.float32]
    east: npt.NDArray[np.float32]
    north: npt.NDArray[np.float32]


def relief(surface: Surface, config: SimulationConfig) -> Relief:
    """Draw the factors of all patches, and the slopes."""
    spread = config.spectral_variation
    always = [_normal(surface.patch, key(config.seed, "patch", n)) for n in range(GROUPS + 1)]
    seasons = []
    for season in range(len(config.seasons)):
        shared = _normal(surface.patch, key(config.seed, "season", season))
        factors = []
        for n in range(GROUPS):
            own = _normal(surface.patch, key(config.seed, "season", season, n))
            total = 0.55 * always[-1] + 0.55 * always[n] + 0.45 * shared + 0.45 * own
            factors.append(_fine(np.clip(1 + spread * total, 0.3, 2.0)))
        seasons.append(factors)
    x, y = surface.grid()
    rugged = np.clip(value_noise(x, y, 0.9 * config.climate_scale, key(config.seed, "height"), 5), 0, 2.5)
    height = 70 * rugged * value_noise(x, y, 1_800, key(config.seed, "slopes"), 5)
    height[surface.water] = 0
    down, east = np.gradient(height, LABEL_RESOLUTION)
    flat = surface.water
    return Relief(np.array(seasons), _fine(np.where(flat, 0, east)), _fine(np.where(flat, 0, -down)))


def _normal(patch: npt.NDArray[np.uint32], salt: int) -> Float:
    """Approximately standard normal values (sums of four uniform ones), one per patch: float32 of the same shape."""
    hashed = mix(patch ^ np.uint32(salt))
    total: Float = reduce(np.add, ((hashed >> np.uint32(8 * n) & np.uint32(255)).astype(np.float32) for n in range(4)))
    return (total / np.float32(255) - 2) * np.float32(np.sqrt(3))


def _fine(field: Float) -> npt.NDArray[np.float32]:
    smooth = ndimage.gaussian_filter(field, 0.5)
    fine: Float = ndimage.zoom(smooth, _ZOOM, order=1, grid_mode=True, mode="nearest").astype(np.float32)
    return fine


class Shading:
    """Samples the relief on the pixels of a sensor, block by block.

    Args:
        surface: the ground.
        relief: variation of its brightness.
        footprint: area of the scene.
        resolution: pixel size, metres.
        seed: seed of the country.
    """

    def __init__(self, surface: Surface, relief: Relief, footprint: Footprint, resolution: int, seed: int) -> None:
        self._relief = relief
        rng = generator(seed, "grain", resolution)
        self._grain = 1 + 0.03 * patterns.smooth(rng, 0.8) + 0.03 * patterns.smooth(rng, 5.0)
        # Patches and slopes vary slowly: they are looked up for cells of about 20 m and repeated for finer pixels.
        self._factor = max(1, 20 // resolution)
        cell = self._factor * resolution
        rows, columns = -(-footprint.height // cell), -(-footprint.width // cell)
        self._at = np.empty((rows, columns), np.int32)
        h, w = relief.east.shape
        step = np.float32(LABEL_RESOLUTION / _ZOOM)
        for row in range(0, rows, BLOCK):
            for column in range(0, columns, BLOCK):
                i, j = np.arange(row, min(row + BLOCK, rows)), np.arange(column, min(column + BLOCK, columns))
                x, y = footprint.locate(surface, (i + 0.5) * cell, (j + 0.5) * cell)
                at = (y / step).astype(np.int32).clip(0, h - 1) * w + (x / step).astype(np.int32).clip(0, w - 1)
                self._at[i[0] : i[-1] + 1, j[0] : j[-1] + 1] = at

    def gain(self, window: tuple[slice, slice], season: int, sun: tuple[float, float]) -> Float:
        """Factor on the reflectance of each band group in a window of pixels: float32 (group, h, w)."""
        rows, columns = window
        n = self._factor
        at = self._at[rows.start // n : -(-rows.stop // n), columns.start // n : -(-columns.stop // n)]
        azimuth, elevation = np.radians(sun)
        slope = self._relief.east.ravel()[at] * portable(np.sin, azimuth)
        slope += self._relief.north.ravel()[at] * portable(np.cos, azimuth)
        light = np.clip(1 - slope * np.float32(0.45) / portable(np.tan, elevation), 0.35, 1.7)
        coarse = light * self._relief.patch[season].reshape(GROUPS, -1)[:, at]
        fine = coarse.repeat(n, axis=1).repeat(n, axis=2) if n > 1 else coarse
        top, left = rows.start % n, columns.start % n
        fine = fine[:, top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
        i, j = np.arange(rows.start, rows.stop) % patterns.SIZE, np.arange(columns.start, columns.stop) % patterns.SIZE
        grained: Float = fine * self._grain[i[:, None], j]
        return grained
