"""Ingest: files that are no STAC scenes yet get a catalog, so that the generic sources read them like any archive."""

from __future__ import annotations

from pathlib import Path

from builders._progress import Report, silent
from builders.recipe import IngestRule
from lulcbench.errors import LulcbenchError


def ingest(rule: IngestRule, out: Path, report: Report = silent) -> None:
    """Write ``catalog.json`` (last), items and, where files must be converted, GeoTIFFs under ``out``.

    Raises:
        LulcbenchError: the files are missing, damaged or without georeference.
    """
    from builders.cases.ingest import eurosat, flanders, lanjaron

    if not rule.path.exists():
        raise LulcbenchError(f"There is nothing at {rule.path} to ingest.", "Mend 'path' of the [ingest] table.")
    readers = {"eurosat": eurosat.ingest, "flanders": flanders.ingest, "lanjaron": lanjaron.ingest}
    readers[rule.kind](rule.path, out, report)
