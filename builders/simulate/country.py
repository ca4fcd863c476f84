"""A procedural LUISA map: a plausible European landscape on the 50 m grid.

For each pixel, the natural or agricultural class with the highest score is chosen; scores are noise fields weighted by
relief, climate and moisture. ``settlements`` adds built-up classes. Everything is a function of absolute position and
seed, so that neighbouring maps fit together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from builders.simulate.noise import Float, key, value_noise
from lulcbench.grid import LABEL_RESOLUTION, Bounds

Codes = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Canvas:
    """A grid to draw on: eastings of its columns, northings of its rows (EPSG:3035 metres), and the seed."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    seed: int

    @classmethod
    def over(cls, bounds: Bounds, seed: int) -> Canvas:
        """The 50 m cell centres of (left, bottom, right, top), north up."""
        left, bottom, right, top = bounds
        half = LABEL_RESOLUTION / 2
        x = np.arange(left + half, right, LABEL_RESOLUTION)
        return cls(x, np.arange(top - half, bottom, -LABEL_RESOLUTION), seed)

    def noise(self, name: str, wavelength: float, octaves: int = 3) -> Float:
        """The noise field of a name: float32 (h, w), mean about 0, variance about 1."""
        return value_noise(self.x, self.y, wavelength, key(self.seed, name), octaves)


class _Affinity(NamedTuple):
    """Score of a class of open land: its bonus, weights of height, warmth and moisture, and its patch size (m)."""

    code: int
    bonus: float
    height: float
    warmth: float
    moisture: float
    patch: float


# Tuned so that the classes have about their European proportions.
_OPEN_LAND = (
    _Affinity(2110, 1.25, -0.75, 0.0, -0.1, 2200),
    _Affinity(2120, 0.15, -0.6, 0.9, -0.6, 1500),
    _Affinity(2130, -0.7, -1.2, 0.8, 0.7, 1200),
    _Affinity(2210, 0.05, 0.0, 0.8, -0.3, 900),
    _Affinity(2220, 0.1, -0.3, 0.4, 0.1, 700),
    _Affinity(2230, -0.25, 0.1, 1.2, -0.5, 1100),
    _Affinity(2310, 1.05, -0.1, -0.5, 0.5, 1500),
    _Affinity(2410, -0.3, -0.2, 0.9, -0.3, 700),
    _Affinity(2420, 0.6, -0.2, 0.1, 0.0, 800),
    _Affinity(2430, 0.7, 0.25, 0.1, 0.0, 900),
    _Affinity(2440, -0.5, 0.1, 1.1, -0.5, 1600),
    _Affinity(3110, 0.75, 0.45, 0.1, 0.2, 1300),
    _Affinity(3120, 0.65, 0.9, -0.6, 0.1, 1700),
    _Affinity(3130, 0.5, 0.65, -0.2, 0.2, 1000),
    _Affinity(3210, -0.1, 0.9, -0.1, -0.1, 1000),
    _Affinity(3220, -0.2, 0.4, -0.7, 0.5, 900),
    _Affinity(3230, -0.2, 0.4, 1.1, -0.6, 1000),
    _Affinity(3240, 0.45, 0.5, 0.1, 0.0, 600),
    _Affinity(3330, -0.9, 1.1, 0.4, -0.6, 700),
    _Affinity(3340, -1.0, 0.4, 0.7, -0.5, 600),
    _Affinity(4000, -0.5, -0.8, -0.4, 1.2, 800),
)


def draw_land(canvas: Canvas, climate_scale: float) -> Codes:
    """Draw land and water without settlements.

    Args:
        canvas: the grid.
        climate_scale: wavelength of the biomes, metres.

    Returns:
        Level-4 LUISA codes, uint16 (h, w), north up.
    """
    height = canvas.noise("height", 0.9 * climate_scale, 5)
    warmth = canvas.noise("warmth", 1.1 * climate_scale, 2)
    moisture = canvas.noise("moisture", 0.7 * climate_scale, 4)

    best = np.full(height.shape, -np.inf, np.float32)
    land = np.zeros(height.shape, np.uint16)
    for affinity in _OPEN_LAND:
        score = affinity.bonus + affinity.height * height + affinity.warmth * warmth + affinity.moisture * moisture
        score += 0.75 * canvas.noise(f"class-{affinity.code}", affinity.patch, 2)
        wins = score > best
        best[wins] = score[wins]
        land[wins] = affinity.code

    rugged = height + 0.25 * canvas.noise("rugged", 700)
    land[rugged > 1.9] = 3330
    land[rugged > 2.15] = 3320
    land[(rugged > 2.4) & (warmth < 0.6)] = 3350
    _draw_water(canvas, land, height, climate_scale)
    return land


def _draw_water(canvas: Canvas, land: Codes, height: Float, climate_scale: float) -> None:
    # Rivers follow the zero contour of a noise field, the coast a contour of another one that includes the relief.
    river = np.abs(canvas.noise("river", 9_000, 4))
    valley = height < 1.2
    land[(river < 0.13) & valley & (canvas.noise("marsh", 1_500) > 0.9)] = 4000
    land[(river < 0.022) & valley] = 5110
    land[(canvas.noise("lake", 2_600) + 0.3 * canvas.noise("lake-edge", 500) > 2.15) & valley] = 5120

    coast = canvas.noise("coast", 1.6 * climate_scale, 5) + 0.35 * height
    shore = coast < -1.33
    beach = shore & (canvas.noise("beach", 1_200) > 0.1)
    land[beach] = 3310
    land[shore & ~beach & (canvas.noise("saltmarsh", 1_000) > 0.2)] = 4000
    land[coast < -1.4] = 5230
    land[(coast < -1.15) & (coast > -1.6) & (river < 0.07 + 0.12 * np.clip(-1.15 - coast, 0, 1))] = 5220
    land[(coast < -1.2) & (coast >= -1.37) & (canvas.noise("lagoon", 2_200) > 0.85)] = 5210
