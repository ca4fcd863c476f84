"""Mixed pixels: fractions of the 3 m materials in the pixels of a sensor, and their reflectance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from builders.simulate import materials
from builders.simulate.noise import Float
from builders.simulate.surface import Surface
from lulcbench import grid

BLOCK = 240  # side of the blocks in which the ground is evaluated (points) and imaged (pixels)
UNIT = 60  # metres; a multiple of the pixel sizes of Sentinel-2 (10, 20, 60 m), Landsat (30 m) and Planet (3 m)


@dataclass(frozen=True)
class Footprint:
    """The area of a scene in its native projection.

    Attributes:
        crs: identifier such as ``EPSG:32632``.
        left: easting of the left edge, metres.
        top: northing of the top edge, metres.
        width: width in metres.
        height: height in metres.
    """

    crs: str
    left: float
    top: float
    width: int
    height: int

    @classmethod
    def over(cls, bounds: grid.Bounds) -> Footprint:
        """The UTM area that covers bounds in EPSG:3035, aligned to multiples of 60 m."""
        west, south, east, north = transform_bounds(grid.CRS, "EPSG:4326", *bounds)
        zone = int(((west + east) / 2 + 180) // 6) + 1
        crs = f"EPSG:{32600 + zone if south + north > 0 else 32700 + zone}"
        left, bottom, right, top = transform_bounds(grid.CRS, crs, *bounds)
        left, bottom = np.floor(left / UNIT) * UNIT, np.floor(bottom / UNIT) * UNIT
        width, height = np.ceil((right - left) / UNIT) * UNIT, np.ceil((top - bottom) / UNIT) * UNIT
        return cls(crs, float(left), float(bottom + height), int(width), int(height))

    def shape(self, resolution: int) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.height // resolution, self.width // resolution)

    def transform(self, resolution: int) -> Affine:
        """Affine of the pixel grid at a resolution in metres."""
        return Affine(resolution, 0, self.left, 0, -resolution, self.top)

    def locate(
        self, surface: Surface, rows: npt.NDArray[np.floating], columns: npt.NDArray[np.floating]
    ) -> tuple[Float, Float]:
        """Position on the ground of the points of a grid.

        The map between the projections is smooth: bilinear interpolation between the corners of a block is accurate to
        a decimetre.

        Args:
            surface: the ground.
            rows: metres southwards from the upper edge, (h,), ascending.
            columns: metres eastwards from the left edge, (w,), ascending.

        Returns:
            Arguments x and y of ``Surface.materials``, float32 (h, w) each.
        """
        corner_x = self.left + np.array([columns[0], columns[-1]] * 2)
        corner_y = self.top - np.repeat([rows[0], rows[-1]], 2)
        east, north = transform_points(self.crs, grid.CRS, corner_x, corner_y)
        s = ((columns - columns[0]) / max(np.ptp(columns), 1)).astype(np.float32)[None, :]
        t = ((rows - rows[0]) / max(np.ptp(rows), 1)).astype(np.float32)[:, None]

        def between(corners: npt.NDArray[np.float64]) -> Float:
            a, b, c, d = corners.astype(np.float32)
            mixed: Float = a * (1 - s) * (1 - t) + b * s * (1 - t) + c * (1 - s) * t + d * s * t
            return mixed

        return between(np.array(east) - surface.left), between(surface.top - np.array(north))


def fractions(surface: Surface, footprint: Footprint, resolution: int, samples: int) -> npt.NDArray[np.uint8]:
    """Count the materials under every pixel.

    Args:
        surface: the ground.
        footprint: the area.
        resolution: pixel size, metres.
        samples: number of points per pixel along each axis; at most 15.

    Returns:
        uint8 (h, w, material): counts whose sum over the materials is ``samples`` squared.
    """
    height, width = footprint.shape(resolution)
    count = len(materials.NAMES)
    out = np.empty((height, width, count), np.uint8)
    step = resolution / samples
    size = BLOCK // samples

    def fill(origin: tuple[int, int]) -> None:
        row, column = origin
        h, w = min(size, height - row), min(size, width - column)
        ys = (np.arange(h * samples) + 0.5) * step + row * resolution
        xs = (np.arange(w * samples) + 0.5) * step + column * resolution
        indices = surface.materials(*footprint.locate(surface, ys, xs))
        pixel = (np.arange(h)[:, None, None, None] * w + np.arange(w)[None, None, :, None]) * count
        bins = indices.reshape(h, samples, w, samples) + pixel
        counts = np.bincount(bins.ravel(), minlength=h * w * count)
        out[row : row + h, column : column + w] = counts.reshape(h, w, count)

    origins = [(r, c) for r in range(0, height, size) for c in range(0, width, size)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, origins))
    return out


def coarsen(counts: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Counts on a grid that is coarser by an integer factor: sums over factor × factor pixels (at most 255)."""
    h, w, n = counts.shape
    blocks = counts.reshape(h // factor, factor, w // factor, factor, n)
    return blocks.sum(axis=(1, 3), dtype=np.uint8)


def reflectance(counts: npt.NDArray[np.uint8], spectra: Float) -> Float:
    """Linear mixing: counts (h, w, material) and spectra (material, band) → float32 (band, h, w).

    The sums are exact, because BLAS adds in another order on every kind of processor: spectra are rounded to multiples
    of 2⁻³⁰, and counts are integers whose sum is below 2⁸.
    """
    h, w, n = counts.shape
    total = int(counts[0, 0].sum())
    steps = np.rint(spectra.astype(np.float64) * 2**30)
    mixed: npt.NDArray[np.float64] = np.matmul(steps.T, counts.reshape(-1, n).astype(np.float64).T)
    mixed /= 2**30 * total
    return mixed.astype(np.float32).reshape(-1, h, w)
