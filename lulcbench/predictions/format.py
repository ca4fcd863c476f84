"""Format of predictions files: header, layout, and coding of values.

**Probabilities are stored as** ``q = round(255 · √p)`` and read as ``p = (max(q, ½) / 255)²``, normalised to sum 1. The
root gives small probabilities, which matter for log loss, more of the 8 bits: the step is 4e-6 near 0 and 0.008 near 1.
No probability is read as less than 3.7e-6, so log loss is below 12.6. The error of a probability is at most 0.031 (if
all 46 rounding errors have the same sign; a test finds at most 0.006, and 0.0003 on average, over random softmax
outputs).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, FailFast, Field

from lulcbench._files import Frozen, Name
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.legend.tables import class_lookup
from lulcbench.release import Manifest, Sha256, TilePosition, label_shape

MAX_YEARS = 100
Task = Literal["segmentation", "change", "series"]
Quantisation = Literal["q = round(255 * sqrt(p)); p = (max(q, 0.5) / 255) ** 2, normalised over classes"]
# Gzip level by array: maps are read far more often than written; probabilities would hardly be smaller.
COMPRESSION = {"codes": 6, "probabilities": 4}
REMEDY = "Write the file with lulcbench.PredictionWriter against this very release, split and level."


class PredictionInfo(Frozen):
    """Header of a predictions file.

    Attributes:
        release_digest: digest of the data of the release, ``Manifest.data_digest``: predictions are also of later
            versions that differ only in descriptions.
        task: task for the number of years, see ``task_of``.
        years: in ascending order.
        tiles: tile ids in array order, all tiles of the split.
        probabilities: quantisation of the probabilities; None without them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["lulcbench-predictions/1"]
    release: Annotated[str, Field(max_length=128)]
    release_digest: Sha256
    legend_digest: Sha256
    task: Task
    split: Name
    years: Annotated[list[int], Field(min_length=1, max_length=MAX_YEARS)]
    level: Annotated[int, Field(ge=1, le=4)]
    tiles: Annotated[list[Annotated[str, Field(max_length=10)]], Field(min_length=1), FailFast()]
    probabilities: Quantisation | None


def quantise(probabilities: npt.NDArray[np.floating], where: str = "array") -> npt.NDArray[np.uint8]:
    """Probabilities ``(…, class, y, x)`` → uint8, as the module docstring says.

    Raises:
        LulcbenchError: a value is not finite or negative, or a pixel's sum is not 1 within 1 %.
    """
    total = probabilities.sum(axis=-3)
    # Comparisons with NaN are false, so the valid condition is tested.
    if not (np.all(np.abs(total - 1) <= 0.01) and probabilities.min() >= 0):
        raise LulcbenchError(
            f"Probabilities of {where} are not finite, non-negative and summing to 1 over classes.",
            "Give softmax outputs, not logits.",
        )
    quantised: npt.NDArray[np.uint8] = np.rint(255 * np.sqrt(np.minimum(probabilities, 1))).astype(np.uint8)
    return quantised


def dequantise(quantised: npt.NDArray[np.uint8], where: str = "array") -> npt.NDArray[np.float32]:
    """The inverse of ``quantise`` for ``(class, y, x)``: float32, summing to 1 over classes.

    Raises:
        LulcbenchError: a pixel's values cannot come from probabilities (their sum is off by more than rounding).
    """
    values = np.empty(quantised.shape, np.float32)
    for part, out in zip(quantised, values, strict=True):  # by class, because table look-ups copy their indices
        _LEVELS.take(part, out=out, mode="clip")
    total = values.sum(axis=0)
    if np.abs(total - 1).max() > 0.05:  # rounding moves the sum by 0.027 at most, the writer tolerates 0.01
        raise LulcbenchError(f"Probabilities of {where} do not sum to 1 over classes.", REMEDY)
    values /= total
    return values


def check_codes(codes: npt.NDArray[Any], level: int, where: str) -> npt.NDArray[np.uint16]:
    """Convert codes to uint16, after checking that all are of ``level``.

    Raises:
        LulcbenchError: a code is nodata, unknown or of another level; states it and its first position.
    """
    if codes.dtype != np.uint16 and (codes.min() < 0 or codes.max() > 65535):
        raise LulcbenchError(f"{where} holds codes from {codes.min()} to {codes.max()}.", REMEDY)
    values = codes.astype(np.uint16, copy=False)
    bad = class_lookup(level).take(values) == IGNORE_INDEX
    if bad.any():
        position = tuple(int(i) for i in np.argwhere(bad)[0])
        raise LulcbenchError(
            f"{where}: {values[position]} at {position} is not a LUISA code of level {level}.",
            "Every pixel needs a class of that level; nodata is not a prediction.",
        )
    return values


_NAMES = re.compile(
    r"((codes|probabilities)/)?zarr\.json|codes/c/[0-9]{1,7}/0/0/0|probabilities/c/[0-9]{1,7}/[0-9]{1,2}/0/0/0"
)
# Value of each stored byte, before normalisation.
_LEVELS: npt.NDArray[np.float32] = ((np.maximum(np.arange(256), 0.5) / 255) ** 2).astype(np.float32)


def task_of(years: Sequence[int]) -> Task:
    """Task of maps of these years: segmentation for one, change for two, series for more.

    Examples:
        >>> task_of([2018]), task_of([2012, 2018]), task_of([2006, 2012, 2018])
        ('segmentation', 'change', 'series')
    """
    return "segmentation" if len(years) == 1 else "change" if len(years) == 2 else "series"


def prediction_info(
    manifest: Manifest, split: str, years: list[int], level: int, tiles: list[str], probabilities: bool
) -> PredictionInfo:
    """Header of a file of these predictions.

    Raises:
        LulcbenchError: there is no such level, no year, more than ``MAX_YEARS``, or they are not in ascending order.
    """
    legend().codes(level)
    if not 0 < len(years) <= MAX_YEARS or any(a >= b for a, b in pairwise(years)):
        raise LulcbenchError(
            f"Years of predictions are {years}.",
            f"Give one year, two (from, to) for change, or a series of up to {MAX_YEARS}, in ascending order.",
        )
    return PredictionInfo(
        format="lulcbench-predictions/1",
        release=manifest.id,
        release_digest=manifest.data_digest,
        legend_digest=legend().digest,
        task=task_of(years),
        split=split,
        years=years,
        level=level,
        tiles=tiles,
        probabilities=get_args(Quantisation)[0] if probabilities else None,
    )


def check_years(manifest: Manifest, years: Sequence[int]) -> None:
    """Check that the release has imagery or labels of all years.

    Raises:
        NotAvailableError: the release has neither for a year.
    """
    for year in years:
        if year not in manifest.years:
            raise NotAvailableError(
                f"{manifest.id} has nothing of {year}.", f"It has {', '.join(map(str, manifest.years))}."
            )


def metadata(info: PredictionInfo) -> dict[str, dict[str, Any]]:
    """Every ``zarr.json`` of a file; readers require exactly this content."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": info.model_dump(mode="json")}
    height, width = label_shape()
    n, years, classes = len(info.tiles), len(info.years), len(legend().codes(info.level))
    codes = _array("codes", (n, years, height, width), (1, years, height, width), ("tile", "year", "y", "x"))
    content = {"zarr.json": group, "codes/zarr.json": codes}
    if info.probabilities is not None:
        content["probabilities/zarr.json"] = _array(
            "probabilities",
            (n, years, classes, height, width),
            (1, 1, classes, height, width),
            ("tile", "year", "class", "y", "x"),
        )
    return content


def _array(name: str, shape: tuple[int, ...], chunk: tuple[int, ...], dimensions: tuple[str, ...]) -> dict[str, Any]:
    """Zarr v3 array metadata (zarr-specs v3.1). Gzip, because only zlib can decode under a hard limit on the output."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    dtype, to_bytes = ("uint16", little) if name == "codes" else ("uint8", {"name": "bytes"})
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [to_bytes, {"name": "gzip", "configuration": {"level": COMPRESSION[name]}}],
        "attributes": {},
        "dimension_names": list(dimensions),
    }


def chunk_name(array: str, position: TilePosition, year: int = 0) -> str:
    """Name of the member with the chunk of a tile; ``year`` is a position, and only used for probabilities."""
    return f"{array}/c/{position}/{year}/0/0" + ("/0" if array == "probabilities" else "")


def known_name(name: str) -> bool:
    """Whether predictions files can have a member of this name."""
    return _NAMES.fullmatch(name) is not None
