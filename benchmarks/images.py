"""Image-like pixels for benchmarks. Constant pixels would compress too well and be read too fast."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Like real Sentinel-2: Blosc lz4 + bitshuffle compresses 100 EuroSAT patches with 12 bands 1.67 × (median 1.55 ×).
# These fields, with a power-law spectrum and sensor noise, have about the same ratio (see the table in README.md).
NOISE = 14.0  # stored units of 1e-4 reflectance


def images(n: int, bands: int, size: int, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Random scenes as stored values: uint16 ``(n, band, size, size)``, never 0."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    out = np.empty((n, bands, size, size), np.uint16)
    for i in range(n):
        # Bands image the same ground: three independent fields, mixed differently in each band.
        white = rng.standard_normal((3, size, size))
        fields = np.fft.irfft2(np.fft.rfft2(white) / frequency**1.3, s=(size, size))
        fields /= fields.std(axis=(-2, -1), keepdims=True)
        mix = rng.uniform(0.2, 1.0, (bands, 3)) * rng.uniform(60, 400, (bands, 1))
        signal = np.tensordot(mix, fields, 1) + rng.uniform(1300, 3500, (bands, 1, 1))
        out[i] = np.clip(signal + rng.normal(0, NOISE, signal.shape), 1, 65535)
    return out
