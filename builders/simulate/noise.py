"""Deterministic randomness tied to places: integer hashes and value noise.

Everything is a function of (seed, key, position), never of the order of evaluation, so that any part of the country
can be rendered by any worker, alone, to the same bytes.
"""

from __future__ import annotations

import zlib
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
UInt = npt.NDArray[np.uint32]


def key(*parts: object) -> int:
    """A 32-bit key of anything printable; stable between processes, which ``hash`` is not."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def generator(*parts: object) -> np.random.Generator:
    """A random generator of its own for anything printable."""
    return np.random.Generator(np.random.SFC64(key(*parts)))


def mix(values: npt.NDArray[Any]) -> UInt:
    """Integers → well-mixed uint32 of the same shape (the finaliser 'lowbias32' of Wellons' hash prospector)."""
    h = values.astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def mix2(a: npt.NDArray[Any], b: npt.NDArray[Any], salt: int) -> UInt:
    """Two integer arrays (broadcast together) and a salt → uint32."""
    first = mix(a.astype(np.int64).astype(np.uint32) ^ np.uint32(salt))
    return mix(first + b.astype(np.int64).astype(np.uint32) * np.uint32(0x9E3779B9))


def uniform(hashed: UInt) -> Float:
    """uint32 → float32 in [0, 1)."""
    return (hashed >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def value_noise(x: npt.NDArray[Any], y: npt.NDArray[Any], wavelength: float, salt: int, octaves: int = 3) -> Float:
    """Smooth noise on a rectilinear grid: about zero mean and unit variance.

    Args:
        x: eastings of the columns (w,), metres, evenly spaced.
        y: northings of the rows (h,), metres.
        wavelength: lattice spacing of the coarsest octave, metres; each further one has half of it and half the
            amplitude.
        salt: key of this field.
        octaves: how many.

    Returns:
        float32 (h, w).
    """
    total = np.zeros((len(y), len(x)), np.float32)
    power = 0.0
    for octave in range(octaves):
        step = wavelength / 2**octave
        amplitude = 0.5**octave
        total += np.float32(amplitude) * _lattice(x / step, y / step, key(salt, octave))
        power += amplitude**2
    # Splines leave 0.23 of the lattice values' variance of one third.
    return total / np.float32(np.sqrt(power * 0.23 / 3.0))


def _lattice(u: npt.NDArray[Any], v: npt.NDArray[Any], salt: int) -> Float:
    """Cubic B-splines over random lattice values: smooth, and hardly marked by the directions of the lattice."""
    columns = np.arange(int(np.floor(u.min())) - 1, int(np.floor(u.max())) + 3)
    rows = np.arange(int(np.floor(v.min())) - 1, int(np.floor(v.max())) + 3)
    values = 2 * uniform(mix2(columns[None, :], rows[:, None], salt)) - 1
    # Interpolate along x for the lattice rows only, then along y: separable, hence cheap.
    i, along_x = _spline(u, columns[0])
    j, along_y = _spline(v, rows[0])
    along = reduce(np.add, (values[:, i + n] * along_x[n] for n in range(4)))
    smooth: Float = reduce(np.add, (along[j + n] * along_y[n][:, None] for n in range(4)))
    return smooth


def _spline(at: npt.NDArray[Any], first: int) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[Any]]]:
    """Position of the first of four lattice values around each point, and their weights."""
    floor = np.floor(at)
    f = (at - floor).astype(np.float32)
    g = 1 - f
    weights = [g**3 / 6, (3 * f**3 - 6 * f**2 + 4) / 6, (3 * g**3 - 6 * g**2 + 4) / 6, f**3 / 6]
    return floor.astype(np.int64) - 1 - first, weights
