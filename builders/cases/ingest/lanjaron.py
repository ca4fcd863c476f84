"""Lanjarón (Sierra Nevada): one undated Landsat 8 picture, bands B2 to B7, resampled to 60 m, no quality layer.

Its floating-point values are Collection 2 Level 2 DN (median near-infrared 16,500 is reflectance 0.25; read as
Collection 1 it would be 1.65), hence that coding; NaN is nodata.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

from builders._progress import Report, silent
from builders.archives import landsat
from builders.cases.ingest.catalog import File, item, write
from lulcbench.sensors import LANDSAT

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")  # B2 … B7
OPERATION = (datetime(2013, 2, 11, tzinfo=UTC), datetime(2023, 12, 31, tzinfo=UTC))  # Landsat 8; the day is not known


def ingest(folder: Path, out: Path, report: Report = silent) -> None:
    """One item for ``sat.tif``; the file stays where it is."""
    bands = [LANDSAT.band(name) for name in BANDS]
    picture = File("data", (folder / "sat.tif").resolve(), bands, landsat.SCALE, landsat.OFFSET, math.nan)
    write(
        out,
        "lanjaron",
        "Landsat 8 at Lanjarón",
        [item("lanjaron", LANDSAT, [picture], OPERATION, platform="landsat-8")],
    )
