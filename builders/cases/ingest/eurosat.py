"""EuroSAT RGB patches with georeference: true-colour pictures of Sentinel-2, 640 m each.

Their bytes are reflectance 0 … 0.275 stretched to 0 … 255: against the 13-band originals of the same patches, L1C
DN = 10.6 to 11.0 · byte with correlations above 0.99 (2750 / 255 = 10.78). The patches were acquired in 2015 to 2017,
on days that EuroSAT does not give.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from builders._progress import Report, silent
from builders.cases.ingest.catalog import File, item, write
from lulcbench.errors import LulcbenchError
from lulcbench.sensors import SENTINEL2

SCALE = 0.275 / 255
ACQUIRED = (datetime(2015, 6, 27, tzinfo=UTC), datetime(2017, 12, 31, tzinfo=UTC))  # since Sentinel-2A's first image


def ingest(folder: Path, out: Path, report: Report = silent) -> None:
    """One item for each ``.tif`` of a folder; the files stay where they are."""
    files = sorted(folder.glob("*.tif"))
    if not files:
        raise LulcbenchError(f"{folder} holds no .tif.", "Name a folder of georeferenced EuroSAT patches.")
    bands = [SENTINEL2.band(name) for name in ("B04", "B03", "B02")]
    items = [
        item(path.stem, SENTINEL2, [File("visual", path.resolve(), bands, SCALE)], ACQUIRED, platform="sentinel-2")
        for path in files
    ]
    write(out, "eurosat", "EuroSAT RGB patches", items)
