"""Crosswalks of users: tables that translate the classes of a map or of points to LUISA codes."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from lulcbench._parsing import read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.legend import NODATA, legend

_MAX_BYTES = 2**20
_SHIPPED = {"eurosat": Path(__file__).parents[1] / "data" / "eurosat_to_luisa.csv"}


def read_crosswalk(path: str | os.PathLike[str]) -> dict[str, int]:
    r"""Read a CSV file with the columns ``value`` (class of a map or of points) and ``code`` (LUISA, or 0 for none).

    The name ``eurosat`` stands for the classes of EuroSAT; its two classes of water have one code.

    Raises:
        LulcbenchError: the file is missing, lacks a column, has a value twice, or a code that LUISA lacks.

    Examples:
        >>> _ = Path("legend.csv").write_text("value,code\nforest,31\nlake,512\ncloud,0\n")
        >>> read_crosswalk("legend.csv")
        {'forest': 31, 'lake': 512, 'cloud': 0}
    """
    path = _SHIPPED.get(str(path), Path(path))
    if not path.is_file():
        raise LulcbenchError(f"The crosswalk {path} is missing.", "Give a CSV file with columns value and code.")
    try:
        text = read_limited(path, _MAX_BYTES, "It is not a crosswalk.").decode("utf-8-sig")
        lines = text.splitlines()
        names = lines[0].lower() if lines else ""
        separator = next((sign for sign in ";\t" if sign in names), ",")  # as spreadsheets write in some languages
        rows = [
            {str(name).strip().lower(): cell for name, cell in row.items()}
            for row in csv.DictReader(lines, delimiter=separator)
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LulcbenchError(f"Cannot read the crosswalk {path}: {error}.", "Write it as UTF-8.") from error
    table: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        value, code = (str(row.get(name) or "").strip() for name in ("value", "code"))
        if not value or not code.isdecimal() or (int(code) != NODATA and int(code) not in legend().classes):
            raise LulcbenchError(
                f"{path}, line {line}: {value!r} → {code!r} is not a value and a LUISA code.",
                "Columns are value and code; codes are those of lulcbench/data/luisa_legend.csv, or 0.",
            )
        if table.setdefault(value, int(code)) != int(code):
            raise LulcbenchError(f"{path}, line {line}: {value!r} has two codes.", "Keep one of them.")
    if not table:
        raise LulcbenchError(f"The crosswalk {path} is empty.", "Give a CSV file with columns value and code.")
    return table
