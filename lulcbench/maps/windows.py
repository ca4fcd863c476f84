"""Prediction of the window of a block: read, predicted, calibrated, smoothed, weighted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lulcbench.errors import LulcbenchError
from lulcbench.maps.imagery import Counts, ReleaseImagery, Window
from lulcbench.maps.lattice import BLOCK, Index, Lattice
from lulcbench.maps.layers import SMOOTHED, Probabilities, normalized, temper
from lulcbench.maps.model import Predictor
from lulcbench.maps.smoothing import Smoothing, smooth

_ROWS = 16  # of a window of series that are predicted at a time


@dataclass(frozen=True, slots=True)
class Predicted:
    """What is known of the used part of a window, a block and its overlap.

    Attributes:
        p: weighted probabilities, float32 ``(class, y, x)``, followed by ``DISAGREEMENT`` if the model has members;
            None if no pixel has data.
        counts: ``composites`` and, if it is known, ``clear``, see ``lulcbench.maps.imagery.Window``: uint8 ``(y, x)``.
        damaged: tiles of the window that could not be read → what is wrong.
    """

    p: Probabilities | None
    counts: dict[str, Counts]
    damaged: dict[str, str]


def predict_window(
    predictor: Predictor,
    imagery: ReleaseImagery,
    lattice: Lattice,
    index: Index,
    temperature: float = 1.0,
    smoothing: Smoothing | None = None,
    blend: bool = True,
) -> Predicted:
    """Predict the window of a block.

    Args:
        predictor: the model.
        imagery: its inputs.
        lattice: of the map.
        index: of the block.
        temperature: divides the logits.
        smoothing: smooths the probabilities.
        blend: multiply with the weights of the lattice.

    Raises:
        LulcbenchError: a prediction with data is not finite.
    """
    window = imagery.read(lattice.window(index))
    used = slice(lattice.halo, lattice.side - lattice.halo)
    counts = {"composites": window.composites} | ({} if window.clear is None else {"clear": window.clear})
    counts = {name: values[used, used].copy() for name, values in counts.items()}
    composites = counts["composites"]
    damaged = {
        tile.id: imagery.damaged[tile.id] for tile in imagery.tiles(lattice.window(index)) if tile.id in imagery.damaged
    }
    if not composites.any():
        return Predicted(None, counts, damaged)
    margin = smoothing.margin if smoothing else 0
    outer = slice(lattice.halo - margin, lattice.side - lattice.halo + margin)
    p = _in_strips(predictor, window) if imagery.info.of_series else predictor(window.images)
    p = p[:, outer, outer]
    valid = window.composites[outer, outer] > 0
    if not np.isfinite(p).all():
        wrong = ~np.isfinite(p).all(axis=0)
        if (wrong & valid).any():
            raise LulcbenchError(
                f"{imagery.info.name} predicts values that are not finite in the window "
                f"{tuple(lattice.window(index))} of {imagery.year}.",
                "Check the weights of the model and the imagery there.",
            )
        p = np.where(wrong, np.float32(0), p)
    classes = len(imagery.info.classes)
    p, disagreement = temper(p[:classes], temperature), p[classes:]
    if smoothing is not None:
        before = p[:, margin:-margin, margin:-margin]
        p = smooth(p, valid, smoothing)
        decide = imagery.info.scheme.decide
        changed = (decide(before) != decide(p)) & valid[margin:-margin, margin:-margin]
        counts[SMOOTHED] = changed.astype(np.uint8)
        disagreement = disagreement[:, margin:-margin, margin:-margin]
    p = np.concatenate([p, disagreement]) if len(disagreement) else p
    if blend and lattice.overlap:
        p *= lattice.weights()
    return Predicted(p, counts, damaged)


def bottom(predicted: Predicted) -> Predicted:
    """The part of a window that overlaps the blocks below it."""
    p = None if predicted.p is None else predicted.p[:, BLOCK:].copy()
    return Predicted(p, {}, predicted.damaged)


def blended(
    own: Probabilities,
    left: Predicted | None,
    above: Predicted | None,
    corner: Predicted | None,
    overlap: int,
    classes: int,
) -> Probabilities:
    """The values of a block, of its window and the three windows that overlap it; changes ``own``.

    Args:
        own: weighted probabilities of the window of the block, see ``Predicted``.
        left: the window to the left.
        above: the part of the window above that overlaps the block, see ``bottom``.
        corner: likewise of the window above that to the left.
        overlap: of the lattice.
        classes: number of classes.
    """
    p = own[:, :BLOCK, :BLOCK]
    # In one order, so that sums do not depend on anything.
    if above is not None and above.p is not None:
        p[:, :overlap] += above.p[:, :, :BLOCK]
    if left is not None and left.p is not None:
        p[:, :, :overlap] += left.p[:, :BLOCK, BLOCK:]
    if corner is not None and corner.p is not None:
        p[:, :overlap, :overlap] += corner.p[:, :, BLOCK:]
    if overlap:
        normalized(p[:classes], out=p[:classes])
    return p


def predict_block(predict: Callable[[Index], Predicted], lattice: Lattice, index: Index, classes: int) -> Predicted:
    """Predict a block alone, as a map of it has it.

    Args:
        predict: predicts a window, see ``predict_window``; its results are not changed.
        lattice: of the map.
        index: of the block.
        classes: number of classes.
    """
    own = predict(index)
    if own.p is None:
        return own
    if not lattice.overlap:
        return Predicted(own.p[:, :BLOCK, :BLOCK], own.counts, own.damaged)
    i, j = index
    left, above, corner = (predict(at) for at in ((i, j - 1), (i - 1, j), (i - 1, j - 1)))
    p = blended(own.p.copy(), left, bottom(above), bottom(corner), lattice.overlap, classes)
    return Predicted(p, own.counts, own.damaged)


def _in_strips(predictor: Predictor, window: Window) -> Probabilities:
    """Predict rows of single pixels one after the other: a network of series has states of every step."""
    starts = range(0, len(window.composites), _ROWS)
    strips = {
        start: predictor({name: image[:, start : start + _ROWS] for name, image in window.images.items()})
        for start in starts
        if window.composites[start : start + _ROWS].any()
    }
    first = next(iter(strips.values()))
    p = np.zeros((len(first), *window.composites.shape), np.float32)
    for start, strip in strips.items():
        p[:, start : start + _ROWS] = strip
    return p
