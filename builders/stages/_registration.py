"""Co-registration: how far the images of two sensors are apart, measured per tile by correlation in the Fourier domain.

Images are averaged onto the finest grid that both pixel sizes divide (30 m for 3, 10 and 30 m), in the two bands that
are closest in wavelength. Their Laplacians of Gaussian are correlated: edges count, brightness does not, and unlike
plain phase correlation the aliased high frequencies of averaged pixels weigh little (with 30 m pixels the error falls
from 3 m to below 1 m). Each season gives an estimate; the tile's is their median.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from lulcbench.release import ArrayKey
from lulcbench.sensors import Band

Floats = npt.NDArray[np.floating[Any]]

# Edges between vegetation, soil and water are sharpest in the near infrared.
PREFERRED_WAVELENGTH = 0.86  # µm
SAME_WAVELENGTH = 0.05  # µm; bands closer than this show the same contrasts
MIN_VALID = 0.8  # of the pixels, in both images: holes are edges that both images share, and draw the estimate to 0
MIN_SIDE = 32  # pixels; smaller images have too few edges
# Correlation of both images after alignment; below it (open sea, haze) the peak is noise.
MIN_CORRELATION = 0.5
EDGE_SCALE = 1.0  # pixels; standard deviation of the Gaussian
UPSAMPLING = 50  # the step of the estimate is 1/50 pixel


class Shift(NamedTuple):
    """Displacement of an image against another, metres east and north."""

    east: float
    north: float


@dataclass(frozen=True, slots=True)
class Image:
    """The images of one sensor and year on a tile.

    Attributes:
        key: the array.
        bands: its bands.
        resolution: pixel size, m.
        values: values in the bands' unit, float ``(season, band, y, x)``, NaN where missing.
    """

    key: ArrayKey
    bands: Sequence[Band]
    resolution: int
    values: Floats


@dataclass(frozen=True, slots=True)
class ShiftJob:
    """The cached images of one tile: array, bands, pixel size in metres and ``.npy`` file of each."""

    tile: str
    images: tuple[tuple[ArrayKey, tuple[Band, ...], int, Path], ...]


def measure_shifts(job: ShiftJob) -> tuple[str, dict[str, float]]:
    """The tile, and what its row of the index says of displacements; NaN where one cannot be measured."""
    images = {
        key: Image(key, bands, resolution, bands[0].coding.decode(np.load(file, allow_pickle=False)))
        for key, bands, resolution, file in job.images
    }
    columns: dict[str, float] = {}
    for a, b in pairs([(key, image.bands) for key, image in images.items()]):
        shift = tile_shift(images[a], images[b]) or Shift(math.nan, math.nan)
        columns |= {column(a, b, axis): metres for axis, metres in shift._asdict().items()}
    return job.tile, columns


def pairs(keys: Sequence[tuple[ArrayKey, Sequence[Band]]]) -> list[tuple[ArrayKey, ArrayKey]]:
    """Pairs of arrays of one year whose sensors have a band in common, in the order of the keys."""
    return [
        (a, b)
        for (a, a_bands), (b, b_bands) in combinations(keys, 2)
        if a.first == b.first and common_band(a_bands, b_bands) is not None
    ]


def common_band(a: Sequence[Band], b: Sequence[Band]) -> tuple[int, int] | None:
    """Positions of the two bands to compare: of one wavelength, and nearest to ``PREFERRED_WAVELENGTH``; else None."""
    alike = [
        (abs(one.wavelength - PREFERRED_WAVELENGTH) + abs(other.wavelength - one.wavelength), i, j)
        for i, one in enumerate(a)
        for j, other in enumerate(b)
        if one.wavelength and other.wavelength and abs(one.wavelength - other.wavelength) <= SAME_WAVELENGTH
    ]
    return min(alike)[1:] if alike else None


def column(a: ArrayKey, b: ArrayKey, axis: str) -> str:
    """Name of the index column with the displacement of ``b`` against ``a``: ``shift_sentinel2_landsat_2018_east``."""
    return f"shift_{a.name}_{b}_{axis}"


def tile_shift(a: Image, b: Image) -> Shift | None:
    """Displacement of ``b`` against ``a``, the median over seasons; None where it cannot be measured.

    It cannot without a common band, enough valid pixels, or contrasts that both images show.
    """
    bands = common_band(a.bands, b.bands)
    if bands is None:
        return None
    grid = math.lcm(a.resolution, b.resolution)
    shifts = [
        image_shift(_average(one, grid // a.resolution), _average(other, grid // b.resolution), grid)
        for one, other in zip(a.values[:, bands[0]], b.values[:, bands[1]], strict=True)
    ]
    known = [shift for shift in shifts if shift is not None]
    return Shift(*(float(v) for v in np.median(known, axis=0))) if known else None


def image_shift(reference: Floats, moved: Floats, resolution: float) -> Shift | None:
    """Displacement of one image against another, by the peak of the correlation of their edges.

    Args:
        reference: float ``(y, x)``, NaN where missing; rows run from north to south.
        moved: the same ground on the same grid.
        resolution: pixel size, m.

    Returns:
        Metres by which the content of ``moved`` lies east and north of that of ``reference``; None where too little is
        valid or the images do not correlate even when aligned.

    Examples:
        >>> from scipy import ndimage
        >>> ground = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(200, 200)), 2)
        >>> shift = image_shift(ground[20:180, 20:180], ground[20:180, 17:177], resolution=10)
        >>> round(shift.east), round(shift.north)  # moved by 3 pixels to the east
        (30, 0)
    """
    valid = np.isfinite(reference) & np.isfinite(moved)
    if min(valid.shape) < MIN_SIDE or valid.mean() < MIN_VALID:
        return None
    taper = np.hanning(valid.shape[0])[:, None] * np.hanning(valid.shape[1])
    first, second = (np.where(valid, image - image[valid].mean(), 0.0) for image in (reference, moved))
    if not (first.any() and second.any()):  # without any contrast
        return None
    edges = [ndimage.gaussian_laplace(image, EDGE_SCALE) * taper for image in (first, second)]
    (down, right), *_ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        *edges, upsample_factor=UPSAMPLING, normalization=None
    )
    aligned = ndimage.shift(np.where(valid, second, np.nan), (down, right), order=1, cval=np.nan)
    both = np.isfinite(aligned) & valid
    if both.mean() < MIN_VALID / 2 or _correlation(first[both], aligned[both]) < MIN_CORRELATION:
        return None
    # ``down`` and ``right`` move the second image back onto the first.
    return Shift(float(-right * resolution) + 0.0, float(down * resolution) + 0.0)


def _correlation(a: Floats, b: Floats) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread else 0.0


def _average(image: Floats, factor: int) -> Floats:
    """Means of ``factor × factor`` blocks; missing only where all pixels are."""
    height, width = (side // factor for side in image.shape)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        means: Floats = np.nanmean(blocks, axis=(1, 3)) if factor > 1 else image
    return means
