"""Clouds and their shadows over a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from builders.simulate.mixtures import Footprint
from builders.simulate.noise import Float, key, portable, value_noise

RESOLUTION = 60  # metres; clouds are drawn on this grid and interpolated


@dataclass(frozen=True)
class Sky:
    """Clouds over a scene on a 60 m grid.

    Attributes:
        opacity: float32 (h, w), fraction of the signal that comes from cloud, 0…1.
        shadow: float32 (h, w), fraction of the direct light that is blocked, 0…1.
    """

    opacity: Float
    shadow: Float

    def at(self, resolution: int, window: tuple[slice, slice]) -> tuple[Float, Float]:
        """Opacity and shadow of a window of finer pixels with the same upper left corner: float32 (h, w) each."""
        rows, columns = (
            (np.arange(part.start, part.stop, dtype=np.float32) + 0.5) * np.float32(resolution / RESOLUTION) - 0.5
            for part in window
        )
        return _bilinear(self.opacity, rows, columns), _bilinear(self.shadow, rows, columns)


def draw_sky(footprint: Footprint, country: Footprint, cover: float, sun: tuple[float, float], salt: str) -> Sky:
    """Draw the clouds over one granule of a pass; they continue across granule borders.

    Args:
        footprint: area of the granule.
        country: area of the whole pass.
        cover: fraction of the country under cloud, 0…1.
        sun: azimuth (degrees from north, clockwise) and elevation (degrees).
        salt: random key of the pass.
    """

    def field(area: Footprint, step: int, margin: int) -> tuple[Float, Float]:
        x = area.left + step * np.arange(-margin, area.width // step + margin, dtype=float)
        y = area.top - step * np.arange(-margin, area.height // step + margin, dtype=float)
        fronts = 0.8 * value_noise(x, y, 24_000, key(salt, "front"), 2)
        return value_noise(x, y, 6_000, key(salt, "cloud"), 5) + fronts, value_noise(x, y, 15_000, key(salt, "veil"), 4)

    margin = 40  # cells: clouds outside the scene still cast shadows into it
    height, veil = field(footprint, RESOLUTION, margin)
    if cover <= 0:
        opacity = np.zeros_like(height)
    else:
        threshold = np.quantile(field(country, 6 * RESOLUTION, 0)[0], 1 - min(cover, 1.0))
        # Opaque in the centre, ragged and thin at the edge.
        root = np.sqrt(np.clip((height - threshold) / 0.35, 0, 1))
        opacity = root * np.sqrt(root)  # to the power of 0.75: roots are the same on every processor, powers are not
        opacity = np.maximum(opacity, 0.12 * np.clip(veil - 1.2, 0, 1) * (cover > 0.1))
    # Cloud tops at 900 m cast shadows away from the sun.
    azimuth, elevation = np.radians(sun)
    reach = min(900 / portable(np.tan, elevation), 2_000) / RESOLUTION
    away = (reach * portable(np.cos, azimuth), -reach * portable(np.sin, azimuth))  # rows grow southwards
    shadow = ndimage.shift(opacity, away, order=1, mode="nearest") * (1 - opacity)
    inner = (slice(margin, -margin), slice(margin, -margin))
    return Sky(np.ascontiguousarray(opacity[inner]), np.ascontiguousarray(shadow[inner]))


def _bilinear(field: Float, rows: npt.NDArray[np.floating], columns: npt.NDArray[np.floating]) -> Float:
    r, c = np.clip(rows, 0, field.shape[0] - 1), np.clip(columns, 0, field.shape[1] - 1)
    r0 = np.minimum(r.astype(np.int32), field.shape[0] - 2)
    c0 = np.minimum(c.astype(np.int32), field.shape[1] - 2)
    near = field[r0[0] : r0[-1] + 2, c0[0] : c0[-1] + 2]
    if not near.any():
        return np.zeros((len(rows), len(columns)), np.float32)
    fr, fc = (r - r0)[:, None], (c - c0)[None, :]
    i, j = r0 - r0[0], c0 - c0[0]
    along = near[:, j] * (1 - fc) + near[:, j + 1] * fc
    between: Float = along[i] * (1 - fr) + along[i + 1] * fr
    return between
