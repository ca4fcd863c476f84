"""Ingest: scenes in files become a STAC catalog, so that the archives read them like any other."""

from __future__ import annotations

from pathlib import Path

from builders._progress import Report, silent
from builders.recipe import IngestRule


def ingest(rule: IngestRule, out: Path, report: Report = silent) -> None:
    """Write ``catalog.json`` (last), items and, where files must be converted, GeoTIFFs under ``out``.

    Raises:
        LulcbenchError: the files are missing or damaged, or do not tell what they are.
    """
    if rule.kind == "flanders":
        from builders.cases import flanders

        flanders.ingest(rule.path, out, report)
    else:
        from builders.ingest.folder import understand, write_catalog
        from builders.ingest.packed import unpack

        name = rule.path.name
        if rule.path.suffix.lower() == ".zip" and rule.path.is_file():
            rule = rule.model_copy(update={"path": unpack(rule.path, out / "files", report)})
        write_catalog(understand(rule).scenes, out, name)
