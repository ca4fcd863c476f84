"""Own labels: reading a mapping of own codes or words to LUISA codes, and writing a template of one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from builders.readers.labels import RasterLabels, composed
from builders.readers.locators import spelled
from builders.readers.opening import open_raster
from builders.readers.windows import read_window
from builders.recipe import LabelRule, check_codes
from lulcbench._files import Frozen, hash_file, write_atomic
from lulcbench._parsing import MAX_TEXT_BYTES, parse_toml, read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.vectors import SUFFIXES

KNOWN = ("luisa", "corine", "urban-atlas")  # legends with a crosswalk


class Mapping(Frozen):
    """A mapping file: ``[codes]``, own code or word = LUISA code of any level, or 0 to leave it unlabelled.

    Attributes:
        field: column of the codes or words of polygons; the command's option otherwise.
    """

    field: str | None = None
    codes: dict[str, int] = Field(min_length=1)


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        LulcbenchError: it is missing, is not TOML, or maps to what is not a LUISA code.
    """
    remedy = 'It has a table [codes] with lines such as "forest" = 31.'
    try:
        raw = parse_toml(read_limited(path, MAX_TEXT_BYTES), str(path), remedy)
        mapping = Mapping.model_validate(raw)
        check_codes(mapping.codes)
    except FileNotFoundError as error:
        raise LulcbenchError(f"There is no mapping {path}.", remedy) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise LulcbenchError(f"{path} is not a valid mapping: {problems}.", remedy) from error
    except ValueError as error:
        raise LulcbenchError(f"{path}: {error}.", "lulcbench/data/luisa_legend.csv lists the codes.") from error
    return mapping.model_copy(update={"codes": composed(mapping.codes, str(path))})


def label_rule(
    path: Path,
    year: int,
    source: str | None,
    mapping: Path | None,
    field: str | None,
    layer: str | None,
    band: str | None,
    template: Path,
) -> LabelRule:
    """The recipe's rule for a label file, its edition pinned. Every value of an own map must be mapped.

    Args:
        path: the labels.
        year: of the labels.
        source: ``luisa``, ``corine`` or ``urban-atlas`` for maps of these legends.
        mapping: mapping file of an own map.
        field: column of polygons.
        layer: of a vector file.
        band: of a raster with several: its number or description.
        template: where a template of the mapping is written if there is none, or values are not in it.

    Raises:
        LulcbenchError: the labels cannot be read, the legend is not told, or values are not mapped.
    """
    path = spelled(path)
    if not path.is_file():
        raise LulcbenchError(f"There are no labels {path}.", "Correct --labels.")
    which: dict[str, Any] = {
        "year": year,
        "path": path,
        "layer": layer,
        "band": int(band) if band and band.isdigit() else band,
        "sha256": hash_file(path),
    }
    if (source is None) == (mapping is None) and source is not None:
        raise LulcbenchError("--label-source and --mapping exclude each other.", "Give the one that the labels need.")
    if source is not None:
        if source not in KNOWN:
            raise LulcbenchError(
                f"Unknown label source {source!r}.", f"Choose {' or '.join(KNOWN)}, or give --mapping."
            )
        return LabelRule.model_validate({"source": source, "field": field, **which})
    known = read_mapping(mapping) if mapping else None
    field = field or (known.field if known else None)
    present = _values(path, layer, field, which["band"], year)
    codes = dict(known.codes) if known else {}
    if "0" in present and path.suffix.lower() not in SUFFIXES:
        codes = {"0": 0} | codes  # unlabelled in most rasters; stated, as it is a class in some
    unmapped = [value for value in present if value not in codes]
    if not set(present) - {"0"}:
        raise LulcbenchError(f"{path.name} contains no labels.", "Give a raster or polygons with class codes or words.")
    if known is None or unmapped:
        write_atomic(template, _template(path, field, present, codes).encode())
        shown = ", ".join(f"{value} ({present[value]:,})" for value in unmapped[:8])
        raise LulcbenchError(
            f"{path.name} has values without a LUISA code: {shown}{', …' if len(unmapped) > 8 else ''}.",
            f"Fill in the template {template} and give it with --mapping; or tell --label-source {' or '.join(KNOWN)}.",
        )
    return LabelRule(source="own", field=field, codes=codes, **which)


def _values(path: Path, layer: str | None, field: str | None, band: int | str | None, year: int) -> Counter[str]:
    """Values of a label map and how many pixels or polygons have each."""
    if path.suffix.lower() in SUFFIXES:
        from builders.readers.polygons import column_values

        return Counter(column_values(path, layer, field).dropna().tolist())
    with open_raster(str(path)) as dataset:
        number = RasterLabels(path, {}, "own", band, year).band_number(dataset)
        counts: Counter[str] = Counter()
        for _, window in dataset.block_windows(number):
            values, missing = read_window(dataset, number, window)
            numbers, n = np.unique(values if missing is None else values[~missing], return_counts=True)
            if (numbers != np.round(numbers)).any():
                raise LulcbenchError(f"{path.name} has values that are not whole numbers.", "Give class codes.")
            counts.update({str(int(number)): int(k) for number, k in zip(numbers, n, strict=True)})
    return counts


def _template(path: Path, field: str | None, present: Counter[str], codes: dict[str, int]) -> str:
    lines = [
        f"# Codes or words of {path.name} = LUISA codes of any level (lulcbench/data/luisa_legend.csv);",
        "# 0 leaves unlabelled. Pixels of the value 0 are unlabelled, unless you map them here.",
        *([f"field = {json.dumps(field, ensure_ascii=False)}"] if field else []),
        "",
        "[codes]",
    ]
    for value, n in present.most_common():
        key = json.dumps(value, ensure_ascii=False)
        lines.append(f"{key} = {codes[value]}  # {n:,}" if value in codes else f"# {key} = ?  # {n:,}")
    return "\n".join(lines) + "\n"
