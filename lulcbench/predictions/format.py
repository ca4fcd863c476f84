"""The format of a predictions file: what it may say, how it is laid out, how its values are coded.

**Probabilities are stored as** ``q = round(255 · √p)`` and read as ``p = (max(q, ½) / 255)²``, normalised to sum 1. The
root spends the 8 bits where log loss needs them: the step is 4e-6 near 0 and 0.008 near 1. No class is ever read as
less than 3.7e-6, so log loss stays below 12.6. The error of a probability is at most 0.031 (the worst case of all 46
rounding errors having one sign; a test finds at most 0.006 and 0.0003 on average over random softmax outputs).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, FailFast, Field

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.legend.tables import class_lookup
from lulcbench.release import Manifest, Sha256, Split, TilePosition, label_shape

Quantisation = Literal["q = round(255 * sqrt(p)); p = (max(q, 0.5) / 255) ** 2, normalised over classes"]
# Gzip level by array: maps are read far more often than written, probabilities barely shrink further.
COMPRESSION = {"codes": 6, "probabilities": 4}
REMEDY = "Write the file with lulcbench.PredictionWriter against this very release, split and level."


class PredictionInfo(Frozen):
    """What a predictions file says of itself.

    Attributes:
        task: ``segmentation`` (one year) or ``change`` (two years).
        tiles: tile ids in array order, all tiles of the split.
        probabilities: how probabilities are quantised, or None where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["lulcbench-predictions/1"]
    release: Annotated[str, Field(max_length=128)]
    release_digest: Sha256
    legend_digest: Sha256
    task: Literal["segmentation", "change"]
    split: Split
    years: Annotated[list[int], Field(min_length=1, max_length=2)]
    level: Annotated[int, Field(ge=1, le=4)]
    tiles: Annotated[list[Annotated[str, Field(max_length=10)]], Field(min_length=1), FailFast()]
    probabilities: Quantisation | None


def quantise(probabilities: npt.NDArray[np.floating], where: str = "array") -> npt.NDArray[np.uint8]:
    """Probabilities ``(…, class, y, x)`` → uint8, as the module docstring says.

    Raises:
        LulcbenchError: a value is not finite or negative, or a pixel's sum is not 1 within 1 %.
    """
    total = probabilities.sum(axis=-3)
    # A NaN makes every comparison false, so the condition is stated as what must hold.
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
    for part, out in zip(quantised, values, strict=True):  # class by class, because look-ups copy their indices
        _LEVELS.take(part, out=out, mode="clip")
    total = values.sum(axis=0)
    if np.abs(total - 1).max() > 0.05:  # rounding moves the sum by 0.027 at most, the writer tolerates 0.01
        raise LulcbenchError(f"Probabilities of {where} do not sum to 1 over classes.", REMEDY)
    values /= total
    return values


def check_codes(codes: npt.NDArray[Any], level: int, where: str) -> npt.NDArray[np.uint16]:
    """The codes as uint16, if all are of ``level``.

    Raises:
        LulcbenchError: a code is nodata, unknown or of another level; names it and its first position.
    """
    if codes.dtype != np.uint16 and (codes.min() < 0 or codes.max() > 65535):
        raise LulcbenchError(f"{where} holds codes from {codes.min()} to {codes.max()}.", REMEDY)
    values = codes.astype(np.uint16, copy=False)
    bad = class_lookup(level).take(values) == IGNORE_INDEX
    if bad.any():
        position = tuple(int(i) for i in np.argwhere(bad)[0])
        raise LulcbenchError(
            f"{where}: {values[position]} at {position} is no level-{level} LUISA code.",
            "Every pixel needs a class of that level; nodata is no prediction.",
        )
    return values


_NAMES = re.compile(
    r"((codes|probabilities)/)?zarr\.json|codes/c/[0-9]{1,7}/0/0/0|probabilities/c/[0-9]{1,7}/[01]/0/0/0"
)
# Value of each stored byte, before normalisation.
_LEVELS: npt.NDArray[np.float32] = ((np.maximum(np.arange(256), 0.5) / 255) ** 2).astype(np.float32)


def prediction_info(
    manifest: Manifest, split: str, years: list[int], level: int, tiles: list[str], probabilities: bool
) -> PredictionInfo:
    """What a file of these predictions says of itself.

    Raises:
        LulcbenchError: no such level, or years that make no task.
    """
    legend().codes(level)
    if len(years) > 2 or len(set(years)) != len(years):
        raise LulcbenchError(f"Years {years} make no task.", "Give one year, or two (from, to) for change.")
    return PredictionInfo(
        format="lulcbench-predictions/1",
        release=manifest.id,
        release_digest=manifest.digest,
        legend_digest=legend().digest,
        task="segmentation" if len(years) == 1 else "change",
        split=split,  # type: ignore[arg-type]
        years=years,
        level=level,
        tiles=tiles,
        probabilities=get_args(Quantisation)[0] if probabilities else None,
    )


def metadata(info: PredictionInfo) -> dict[str, dict[str, Any]]:
    """Every ``zarr.json`` of a file, wholly determined by what it holds: written so, and demanded so."""
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
    """Zarr v3 array metadata (zarr-specs v3.1). Gzip, because zlib alone decodes under a hard limit of output."""
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
    """Member name of a tile's chunk; ``year`` is a position too, and matters for probabilities alone."""
    return f"{array}/c/{position}/{year}/0/0" + ("/0" if array == "probabilities" else "")


def known_name(name: str) -> bool:
    """Whether a member of that name can be in a predictions file."""
    return _NAMES.fullmatch(name) is not None
