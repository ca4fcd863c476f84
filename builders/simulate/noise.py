"""Deterministic randomness tied to places: integer hashes and value noise.

Everything is a function of (seed, key, position), never of the order of evaluation, so that any part of the country
can be rendered by any worker, alone, to the same bytes.
"""

from __future__ import annotations

import zlib
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
    # A smoothed lattice of uniform values has about 0.37 of their variance.
    return total / np.float32(np.sqrt(power * 0.37 / 3.0))


def _lattice(u: npt.NDArray[Any], v: npt.NDArray[Any], salt: int) -> Float:
    u0, v0 = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    columns = np.arange(u0.min(), u0.max() + 2)
    rows = np.arange(v0.min(), v0.max() + 2)
    values = 2 * uniform(mix2(columns[None, :], rows[:, None], salt)) - 1
    fu, fv = (u - u0).astype(np.float32), (v - v0).astype(np.float32)
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    i, j = u0 - columns[0], v0 - rows[0]
    # Interpolate along x for the lattice rows only, then along y: separable, hence cheap.
    along = values[:, i] * (1 - fu) + values[:, i + 1] * fu
    return along[j] * (1 - fv)[:, None] + along[j + 1] * fv[:, None]
