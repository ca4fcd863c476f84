"""Deterministic random fields: integer hashes and value noise.

Everything is a function of (seed, key, position), never of the order of evaluation, so that any worker can render any
part of the country to the same bytes.
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
    """A 32-bit key computed from the text of ``parts``; stable between processes, which ``hash`` is not."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def generator(*parts: object) -> np.random.Generator:
    """A random generator seeded with the key of ``parts``."""
    return np.random.Generator(np.random.SFC64(key(*parts)))


def portable(function: np.ufunc, *values: npt.ArrayLike) -> Any:
    """A function such as ``np.cos`` with the same results on every processor: computed in 64 bits, rounded to float32.

    NumPy has several implementations of such functions and chooses by the instructions of the processor; the last bits
    of their results differ.
    """
    return function(*(np.asarray(v, np.float64) for v in values)).astype(np.float32)


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
    """Smooth noise on a rectilinear grid, with a mean of about 0 and a variance of about 1.

    Args:
        x: eastings of the columns (w,), metres.
        y: northings of the rows (h,), metres.
        wavelength: lattice spacing of the coarsest octave, metres; each further octave has half the spacing and half
            the amplitude.
        salt: key of this field.
        octaves: number of octaves.

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
    # The lattice values have variance 1/3, of which the splines retain 0.23.
    return total / np.float32(np.sqrt(power * 0.23 / 3.0))


def _lattice(u: npt.NDArray[Any], v: npt.NDArray[Any], salt: int) -> Float:
    """Cubic B-splines over random lattice values: smooth, and nearly isotropic."""
    columns = np.arange(int(np.floor(u.min())) - 1, int(np.floor(u.max())) + 3)
    rows = np.arange(int(np.floor(v.min())) - 1, int(np.floor(v.max())) + 3)
    values = 2 * uniform(mix2(columns[None, :], rows[:, None], salt)) - 1
    # Separable: interpolated along x only for the lattice rows, then along y.
    i, along_x = _spline(u, columns[0])
    j, along_y = _spline(v, rows[0])
    along = reduce(np.add, (values[:, i + n] * along_x[n] for n in range(4)))
    smooth: Float = reduce(np.add, (along[j + n] * along_y[n][:, None] for n in range(4)))
    return smooth


def _spline(at: npt.NDArray[Any], first: int) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[Any]]]:
    """Index of the first of the four lattice values around each point, and their weights."""
    floor = np.floor(at)
    f = (at - floor).astype(np.float32)
    g = 1 - f
    f2, g2 = f * f, g * g  # products are the same on every processor, powers are not
    f3, g3 = f2 * f, g2 * g
    weights = [g3 / 6, (3 * f3 - 6 * f2 + 4) / 6, (3 * g3 - 6 * g2 + 4) / 6, f3 / 6]
    return floor.astype(np.int64) - 1 - first, weights
