"""Periodic 3 m textures whose values are ranks, uniformly distributed over 0…255.

A class uses the lowest ranks for its objects, so that one texture serves all densities: towns of different density
share their street grid, forests and parks their crowns.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from builders.simulate.noise import generator, portable

SIZE = 1024  # cells; the period of a pattern, 3,072 m (rotated by the bearing of the patch)
CELL = 3.0  # metres
NAMES = ("none", "town", "halls", "runways", "rows", "orchard", "crowns", "blotch", "drift", "road")
BLOTCH, DRIFT, ROAD = (NAMES.index(name) for name in ("blotch", "drift", "road"))

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@functools.cache
def ranks(seed: int) -> Bytes:
    """All patterns: uint8 (pattern, SIZE, SIZE) in the order of ``NAMES``; ``road`` is drawn from the map instead."""
    draw = {
        "town": _blocks(generator(seed, "town"), street=30, lot=6, gap=1),
        "halls": _blocks(generator(seed, "halls"), street=64, lot=21, gap=5),
        "runways": _runways(),
        "rows": _rows(generator(seed, "rows")),
        "orchard": _orchard(generator(seed, "orchard")),
        "crowns": _crowns(generator(seed, "crowns")),
        # Gradual transition between materials, through mixtures of decreasing and increasing density.
        "drift": smooth(generator(seed, "drift"), 45.0) + 1.8 * smooth(generator(seed, "drift-fine"), 0.3),
        "blotch": smooth(generator(seed, "blotch"), 9.0) + 0.5 * smooth(generator(seed, "blotch-fine"), 2.0),
    }
    empty = np.full((SIZE, SIZE), 255, np.uint8)
    return np.stack([rank(draw[name]) if name in draw else empty for name in NAMES])


def rank(values: npt.NDArray[np.floating]) -> Bytes:
    """Ranks of values among all values, scaled to 0…255."""
    edges = np.quantile(values[::3, ::3], np.arange(1, 256) / 256)
    return np.searchsorted(edges, values).astype(np.uint8)


def smooth(rng: np.random.Generator, sigma: float) -> npt.NDArray[np.float32]:
    """Periodic Gaussian noise of unit variance: float32 (SIZE, SIZE); sigma in cells."""
    # Filtered in the frequency domain: periodic by construction, and equally fast for wide and narrow filters.
    spectrum = fft.rfft2(rng.standard_normal((SIZE, SIZE), np.float32))
    frequencies = (fft.fftfreq(SIZE), fft.rfftfreq(SIZE))
    damping = [portable(np.exp, -2 * (np.pi * sigma * f) ** 2) for f in frequencies]
    spectrum *= np.multiply.outer(*damping)
    field: npt.NDArray[np.float32] = fft.irfft2(spectrum)
    return field / field.std()


def _blocks(rng: np.random.Generator, street: int, lot: int, gap: int) -> npt.NDArray[np.float32]:
    """Values of streets (below 1), buildings (1 to 2, in random order) and yards (2 to 3)."""
    at = np.arange(SIZE)
    values = 2 + rng.random((SIZE, SIZE), np.float32)
    # One building per cell of a grid of lots, each a random rectangle of its lot.
    lots = SIZE // lot + 1
    row, column = at[:, None] // lot, at[None, :] // lot
    inset = [rng.integers(gap, max(lot // 2, gap + 1), (lots, lots)) for _ in range(4)]
    y, x = at[:, None] % lot, at[None, :] % lot
    top, bottom, left, right = (field[row, column] for field in inset)
    inside = (y >= top // 2 + gap) & (y < lot - bottom // 2) & (x >= left // 2 + gap) & (x < lot - right // 2)
    order = 1 + rng.random((lots, lots), np.float32)
    values = np.where(inside, order[row, column], values)
    # Streets about every `street` cells; values grow from the centre line, so that low ranks give narrow streets.
    for axis in (0, 1):
        centres = np.arange(0, SIZE, street) + rng.integers(-street // 5, street // 5 + 1, -(-SIZE // street))
        gaps = np.abs((at[:, None] - centres[None, :] + SIZE // 2) % SIZE - SIZE // 2).min(axis=1)
        near = np.where(gaps < 4, 0.1 + gaps / 5, 9).astype(np.float32)
        values = np.minimum(values, near[:, None] if axis == 0 else near[None, :])
    return values + 1e-3 * rng.random((SIZE, SIZE), np.float32)


def _runways() -> npt.NDArray[np.float32]:
    at = np.arange(SIZE)
    band = np.abs(at % 170 - 85) / 85.0
    taxiway = 0.12 + np.abs(at % 256 - 128) / 128.0
    return np.minimum(band[:, None], taxiway[None, :]).astype(np.float32)


def _rows(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    wave = np.array([0.0, 0.4, 1.0, 0.7])[np.arange(SIZE) % 4]
    return (wave[:, None] + 0.8 * rng.random((SIZE, SIZE))).astype(np.float32)


def _orchard(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    at = np.arange(SIZE) % 4
    distance = np.hypot(at[:, None] - 1.5, at[None, :] - 1.5)
    order: Floats = (distance + 0.5 * rng.random((SIZE, SIZE))).astype(np.float32)
    return order


def _crowns(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Tree crowns of up to three cells, in stands; a crown has nearly one value, and gaps have the highest values."""
    order = rng.random((SIZE, SIZE), np.float32)
    crowns = ndimage.minimum_filter(order, size=3, mode="wrap")
    ranked: Floats = crowns * 3 + 0.35 * smooth(rng, 12.0) + 0.05 * order
    return ranked
