"""The legend as a table for people and programs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

from lulcbench.legend.classes import LEVELS, LandClass, legend
from lulcbench.legend.qgis import qgis_style

COLUMNS = ("level", "code", "parent", "name", "color")


def classes_of(level: int | None = None) -> list[LandClass]:
    """Classes of a level, or of all levels, coarse ones first; in ascending order of codes.

    Raises:
        LulcbenchError: there is no such level.
    """
    levels = LEVELS if level is None else (level,)
    return [legend().classes[code] for n in levels for code in legend().codes(n)]


def to_csv(level: int | None = None) -> str:
    """CSV with the columns level, code, parent (empty at level 1), name and color (``#rrggbb``).

    >>> print(to_csv(1).splitlines()[1])
    1,1,,Artificial surfaces,#996e52
    """
    out = io.StringIO()
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({name: asdict(entry)[name] for name in COLUMNS} for entry in classes_of(level))
    return out.getvalue()


def to_json(level: int | None = None) -> str:
    """JSON: the digest of the legend, and a list of objects with the columns of ``to_csv``."""
    rows = [{name: asdict(entry)[name] for name in COLUMNS} for entry in classes_of(level)]
    return json.dumps({"legend_digest": legend().digest, "classes": rows}, indent=1, ensure_ascii=False) + "\n"


def to_qml(level: int | None = None) -> str:
    """A style of QGIS for rasters of class codes."""
    return qgis_style({entry.code: (entry.name, entry.color) for entry in classes_of(level)})
