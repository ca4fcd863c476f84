"""Spectral indices of time series, by spyndex."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.errors import LulcbenchError
from lulcbench.sensors import Band

# Vegetation, water, snow, soil and built-up (https://github.com/awesome-spectral-indices/awesome-spectral-indices).
INDICES = ("NDVI", "NDWI", "NDSI", "BI", "NDBI")
# Letters of spyndex for its bands that both Sentinel-2 and Landsat have, and for the red edge.
_LETTERS = ("A", "B", "G", "R", "RE1", "RE2", "RE3", "N", "N2", "S1", "S2")
_LIMIT = 10.0  # ratios of dark pixels are noise beyond any index's range


def letters(bands: Sequence[Band]) -> dict[str, int]:
    """Letter of each band in the formulas of spyndex → its position, by wavelength.

    The near infrared of Landsat, at 0.865 µm, stands for both of spyndex's.

    Examples:
        >>> from lulcbench.sensors import SENTINEL2
        >>> letters([SENTINEL2.band(name) for name in ("B04", "B08", "B11")])
        {'R': 0, 'N': 1, 'S1': 2}
    """
    import spyndex

    found: dict[str, int] = {}
    for letter in _LETTERS:
        known = spyndex.bands[letter]
        low, high = known.min_wavelength / 1000, known.max_wavelength / 1000
        middle = (low + high) / 2
        inside = [
            (abs(band.wavelength - middle), i)
            for i, band in enumerate(bands)
            if band.wavelength is not None and low <= band.wavelength <= high
        ]
        if inside:
            found[letter] = min(inside)[1]
    return found


@cache
def _needs(name: str) -> tuple[str, ...]:
    """Letters of the bands of an index.

    Raises:
        LulcbenchError: spyndex has no such index, or it needs more than bands.
    """
    import spyndex

    if name not in spyndex.indices:
        raise LulcbenchError(f"There is no spectral index {name!r}.", f"Common ones are {', '.join(INDICES)}.")
    bands: tuple[str, ...] = tuple(spyndex.indices[name].bands)
    if set(bands) - set(_LETTERS):
        raise LulcbenchError(
            f"The index {name} needs {', '.join(sorted(set(bands) - set(_LETTERS)))}.", "Choose one of bands alone."
        )
    return bands


def available(bands: Sequence[Band], names: Sequence[str] = INDICES) -> tuple[str, ...]:
    """The indices that these bands suffice for."""
    known = letters(bands)
    return tuple(name for name in names if set(_needs(name)) <= set(known))


def with_indices(
    values: npt.NDArray[np.floating[Any]], bands: Sequence[Band], names: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Reflectance with indices after the bands.

    Args:
        values: reflectance ``(…, band)``, NaN or masked where missing.
        bands: the bands, in their order.
        names: indices to compute.

    Returns:
        float32 ``(…, band + index)``; an index without a finite value is NaN.

    Raises:
        LulcbenchError: an index is unknown, or needs bands that are not there; values have another number of bands.

    Examples:
        >>> from lulcbench.sensors import SENTINEL2
        >>> red_nir = [SENTINEL2.band(name) for name in ("B04", "B08")]
        >>> with_indices(np.array([[0.1, 0.4]]), red_nir, ["NDVI"]).round(2).tolist()
        [[0.1..., 0.4..., 0.6...]]
    """
    import spyndex

    known = letters(bands)
    if np.shape(values)[-1:] != (len(bands),):
        raise LulcbenchError(
            f"Values {np.shape(values)} are not of {len(bands)} bands.",
            "Give all bands, in their order, as the last axis.",
        )
    values = np.ma.filled(np.ma.asarray(values, np.float32), np.nan)
    parts = [values]
    for name in names:
        if lacking := [letter for letter in _needs(name) if letter not in known]:
            raise LulcbenchError(
                f"The index {name} needs {', '.join(lacking)}, which {', '.join(b.name for b in bands)} lack.",
                "Choose other indices or more bands.",
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            inputs = {letter: parts[0][..., known[letter]].astype(np.float64) for letter in _needs(name)}
            index = np.asarray(spyndex.computeIndex([name], inputs), np.float64).reshape(values.shape[:-1])
        index[~np.isfinite(index)] = np.nan
        parts.append(np.clip(index, -_LIMIT, _LIMIT)[..., None].astype(np.float32))
    return np.concatenate(parts, axis=-1)
