"""Layers of a map: what is stored of the probabilities of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lulcbench.geozarr import flag_attributes
from lulcbench.legend import ClassScheme
from lulcbench.maps.answers import UNCERTAIN, answers

MISSING = 255  # of scores
SMOOTHED, GENERALISED = "changed_by_smoothing", "changed_by_mapping_unit"
DISAGREEMENT = ("deviation", "mutual_information")  # of the members of an ensemble or a stack
_STEPS = 254  # of scores: 0 … 254 stand for 0 … 1
_TINY = np.float32(1e-12)
_ROWS = 32  # of a window that are computed at a time

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """One array of a map.

    Attributes:
        name: of the array.
        dtype: of the stored values.
        fill: stored value of pixels without data.
        overview: how four pixels become one of an overview.
        attributes: CF attributes.
        classes: length of the first axis of probabilities; None for layers ``(y, x)``.
    """

    name: str
    dtype: Literal["uint8", "uint16"]
    fill: int
    overview: Literal["mode", "average"]
    attributes: Mapping[str, Any]
    classes: int | None = None


def layers(
    scheme: ClassScheme,
    *,
    clear: bool = False,
    dated: bool = False,
    ensemble: bool = False,
    smoothed: bool = False,
    generalised: bool = False,
    conformal: float | None = None,
) -> tuple[Layer, ...]:
    """All layers of a map.

    Args:
        scheme: classes of the model.
        clear: whether the number of clear observations is known.
        dated: whether the imagery is dated, in place of seasonal composites.
        ensemble: whether the model has members: an ensemble or a stack.
        smoothed: whether probabilities are smoothed.
        generalised: whether patches that are too small are filled.
        conformal: coverage of conformal answers; None if there are none.

    >>> [layer.name for layer in layers(ClassScheme.luisa(2))]
    ['class_1', 'class_2', 'probability', 'entropy', 'margin', 'least_confidence', 'composites']
    """
    classes = [
        Layer(name, "uint16", 0, "mode", {"long_name": f"class code{scheme.level_name(n)}", **_flags(scheme, n)})
        for n, name in zip(scheme.levels, scheme.layers, strict=True)
    ]
    probability = Layer(
        "probability",
        "uint8",
        0,
        "average",
        {
            "long_name": "probability of each class",
            "units": "1",
            "scale_factor": 1 / 255,
            "comment": f"0 in all classes where {scheme.layers[0]} is 0: there are no data",
        },
        len(scheme.codes()),
    )
    return (
        *classes,
        probability,
        _score("entropy", "entropy of the probabilities divided by the logarithm of the number of classes"),
        _score("margin", "difference between the two highest probabilities"),
        _score("least_confidence", "1 minus the highest probability"),
        *(_disagreement() if ensemble else []),
        _count("composites", f"number of {'dates, at most 255,' if dated else 'seasonal composites'} with data"),
        *([_count("clear", "number of clear observations in these composites, at most 255")] if clear else []),
        *([_count(SMOOTHED, "1 where smoothing changed the class")] if smoothed else []),
        *([_count(GENERALISED, "1 where the minimum mapping unit changed the class")] if generalised else []),
        *(_answers(scheme, conformal) if conformal is not None else []),
    )


def _disagreement() -> tuple[Layer, Layer]:
    deviation, information = DISAGREEMENT
    return (
        _score(deviation, "standard deviation over the members of the probability of the decided class"),
        _score(information, "mutual information of member and class divided by the logarithm of the number of classes"),
    )


def _flags(scheme: ClassScheme, level: int | None = None) -> dict[str, Any]:
    """Attributes of a layer of class codes, of one level or of all."""
    codes = list(scheme.classes) if level is None else scheme.codes(level)
    return flag_attributes([scheme.classes[code] for code in codes], scheme.digest)


def _answers(scheme: ClassScheme, coverage: float) -> tuple[Layer, Layer]:
    known = _flags(scheme)
    attributes = {
        "long_name": f"finest class that is certain at {coverage:.0%}",
        **known,
        "flag_values": [*known["flag_values"], UNCERTAIN],
        "flag_meanings": f"{known['flag_meanings']} uncertain_at_all_levels",
        "flag_colors": f"{known['flag_colors']} #000000",
    }
    size = _count("set_size", f"number of classes{scheme.level_name(scheme.depth)} in the finest class that is certain")
    return Layer("certain", "uint16", 0, "mode", attributes), size


def _score(name: str, long_name: str) -> Layer:
    attributes = {"long_name": long_name, "units": "1", "scale_factor": 1 / _STEPS, "_FillValue": MISSING}
    return Layer(name, "uint8", MISSING, "average", attributes)


def _count(name: str, long_name: str) -> Layer:
    return Layer(name, "uint8", 0, "average", {"long_name": long_name, "units": "1"})


def temper(p: Probabilities, temperature: float) -> Probabilities:
    """Divide the logits of probabilities ``(class, …)`` by a temperature; they sum to 1 afterwards."""
    if temperature == 1:
        return normalized(p)
    result = np.empty(p.shape, np.float32)
    for part, out in _parts(p, result):
        logits = np.log(np.maximum(part, np.float32(1e-7)))
        logits /= np.float32(temperature)
        _normalize(np.exp(logits, out=logits), out)
    return result


def normalized(p: Probabilities, out: Probabilities | None = None) -> Probabilities:
    """Values ``(class, …)`` divided by their sum, which is made in the order of the classes.

    Args:
        p: the values.
        out: array for the result, which may be ``p``; None for a new one.
    """
    out = np.empty(p.shape, np.float32) if out is None else out
    for part, result in _parts(p, out):
        _normalize(part, result)
    return out


def _normalize(p: Probabilities, out: Probabilities) -> None:
    total = np.zeros(p.shape[1:], np.float32)
    for own in p:
        total += own
    np.divide(p, np.maximum(total, _TINY, out=total), out=out)


def _parts(p: Probabilities, out: Probabilities) -> Iterator[tuple[Probabilities, Probabilities]]:
    """Views of both, by strips of rows if they are images."""
    if p.ndim == 1:
        yield p, out
    else:
        yield from ((p[:, rows], out[:, rows]) for rows in _strips(p.shape[1]))


def _strips(height: int) -> Iterator[slice]:
    """Rows that are computed at a time, so that they stay in the cache of the processor."""
    for start in range(0, height, _ROWS):
        yield slice(start, start + _ROWS)


def entropy(p: Probabilities) -> npt.NDArray[np.float32]:
    """Entropy of probabilities ``(class, …)`` in nats, float32 ``(…)``, summed in the order of the classes."""
    total = np.zeros(p.shape[1:], np.float32)
    for own in p:
        total -= own * np.log(np.maximum(own, _TINY))
    return total


def encode(
    p: Probabilities, counts: Mapping[str, npt.NDArray[np.uint8]], scheme: ClassScheme, limit: float | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Layers of a block.

    Args:
        p: probabilities ``(class, y, x)`` that sum to 1, and after them ``DISAGREEMENT`` if the model has members;
            any value where there are no data.
        counts: ``composites``, number of composites with data ``(y, x)``, 0 where there are no data, and other counts.
        scheme: the classes.
        limit: threshold of conformal answers; None if there are none.

    Returns:
        Layer → stored values: probabilities ``(class, y, x)``, others ``(y, x)``.
    """
    strips = [_encode(p[:, rows], counts["composites"][rows] > 0, scheme, limit) for rows in _strips(p.shape[1])]
    return {name: np.concatenate([own[name] for own in strips], axis=-2) for name in strips[0]} | dict(counts)


def _encode(
    p: Probabilities, valid: npt.NDArray[np.bool_], scheme: ClassScheme, limit: float | None
) -> dict[str, npt.NDArray[Any]]:
    """Layers of a strip."""
    classes = len(scheme.codes())
    p, disagreement = p[:classes], p[classes:]
    chosen = scheme.decide(p)
    out: dict[str, npt.NDArray[Any]] = {}
    for n, name in zip(scheme.levels, scheme.layers, strict=True):
        out[name] = scheme.codes_over(n)[chosen] * valid
    steps = p * (valid * np.float32(255))
    out["probability"] = np.rint(steps, out=steps).astype(np.uint8)
    first = np.zeros(p.shape[1:], np.float32)
    second = first.copy()
    for own in p:
        np.maximum(second, np.minimum(first, own), out=second)
        np.maximum(first, own, out=first)
    scores = {
        "entropy": entropy(p) / np.float32(np.log(len(p))),
        "margin": first - second,
        "least_confidence": 1 - first,
        **dict(zip(DISAGREEMENT, disagreement, strict=False)),
    }
    for name, score in scores.items():
        rounded = np.rint(np.clip(score, 0, 1) * np.float32(_STEPS))
        out[name] = np.where(valid, rounded, MISSING).astype(np.uint8)
    if limit is not None:
        codes, sizes = answers(p, scheme, limit, chosen)
        out["certain"] = np.where(valid, codes, 0).astype(np.uint16)
        out["set_size"] = np.where(valid, sizes, 0).astype(np.uint8)
    return out
