"""EcoDataCube: seasonal Landsat composites of Europe by OpenGeoHub, 30 m, EPSG:3035, one COG per band and season.

The file names hold band and season, spelled differently by each edition, so that the recipe gives the address of the
files, such as ``lcv_{band}_landsat.glad.ard_p50_30m_0..0cm_{start:%Y.%m.%d}..{end:%Y.%m.%d}_eumap_epsg3035_v1.1.tif``
under https://s3.eu-central-1.wasabisys.com/eumap/lcv/. The composites are made from GLAD Landsat ARD (Witjes et al.
2023, https://doi.org/10.7717/peerj.15478).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from builders.readers.listing import addresses, check_fields, composite, existing
from builders.readers.radiometry import reflectance
from builders.readers.source import RasterSource
from lulcbench.grid import Bounds
from lulcbench.seasons import Days
from lulcbench.sensors import LANDSAT, Band

# The whole part of reflectance · 255, in a byte (percentile_agg of skmap.datasets.eo.GLADLandsat in scikit-map).
# Editions differ in the value of missing pixels, 0 or 255, which the files themselves state.
SCALE = 1 / 255
NAMES = {"nir08": "nir", "swir16": "swir1", "swir22": "swir2"}  # others are those of the sensor


def _always(quality: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.ones(quality.shape, bool)


def items(
    template: str, collection: str, bands: Sequence[Band], spans: Sequence[Days], areas: Sequence[Bounds]
) -> list[pystac.Item]:
    """The seasons of which any band exists, as items; a season of the recipe must be one of the archive.

    Args:
        template: address of the files with the fields ``band``, ``start`` and ``end``; see ``listing.addresses``.
        collection: id that the items get.
        bands: those wanted.
        spans: days of the seasons.
        areas: not needed, since a file covers Europe.
    """
    check_fields(template, ("band", "start"))
    result = []
    for start, end in sorted(set(spans)):
        files = {
            band.asset: addresses(template, {"band": NAMES.get(band.name, band.name), "start": start, "end": end})
            for band in bands
        }
        there = existing(list(files.values()))
        assets: dict[str, tuple[str, tuple[str, ...]]] = {
            key: (href, ()) for key, href in files.items() if href in there
        }
        if assets:
            result.append(composite(f"{start:%Y%m%d}_{end:%Y%m%d}", collection, (start, end), assets))
    return result


SOURCE = RasterSource(
    LANDSAT, reflectance(SCALE, 0, 255), _always, _always, quality_fill=0, cloudless=lambda scene: True
)
