"""Class counts at the edges of label areas and inside them, by spatial block, for paired tests on these pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation._pixels import count_pixels
from lulcbench.evaluation.confusion import confusion_at, margins
from lulcbench.evaluation.counts import labels_of
from lulcbench.legend import LEVELS, legend
from lulcbench.legend.tables import EDGE_DEPTHS, nodes
from lulcbench.predictions import Predictions
from lulcbench.release import AUTO, Row, TilePosition


class EdgeCounts(NamedTuple):
    """Class counts (``families.ClassCounts``) of each spatial block, int64 ``(block, 3, class)``."""

    edge: npt.NDArray[np.int64]
    interior: npt.NDArray[np.int64]


def edge_counts(predictions: Predictions, source: str = AUTO) -> dict[int, EdgeCounts]:
    """Count pixels whose label differs from that of a 4-neighbour at a level, and the others, by spatial block.

    Args:
        predictions: an opened predictions file of one year with labels.
        source: source of the labels; by default LUISA, or the only one.

    Returns:
        Level → counts, the blocks in alphabetical order. Edge and interior together are all labelled pixels.

    Raises:
        LulcbenchError: the file has several years, or the release has no labels of its year.

    Example:
        >>> from lulcbench import PredictionWriter, Release
        >>> with PredictionWriter("edges.zip", root, "test", year=2018) as writer:
        ...     for tile in writer.info.tiles:
        ...         writer.write(tile, np.full((96, 96), 3110))
        >>> with Predictions.open("edges.zip", Release.open(root)) as predictions:
        ...     counts = edge_counts(predictions)
        >>> counts[1].edge.shape
        (2, 3, 5)
    """
    (array,) = labels_of(predictions, source)
    level, tiles = predictions.info.level, predictions.tiles
    reader = predictions.release.reader(predictions.info.split)
    blocks = sorted(set(tiles.blocks))
    pixels = np.zeros((len(blocks), EDGE_DEPTHS, len(nodes()), len(legend().codes(level))), np.int64)
    for position, block in enumerate(tiles.blocks):
        row = tiles.row(TilePosition(position))
        labels = reader.tiles(array, row, Row(row + 1))
        codes = predictions.maps(range(position, position + 1))[:, 0]
        pixels[blocks.index(block)] += count_pixels(labels, np.ascontiguousarray(codes), level).pixels
    result = {}
    for at in LEVELS[:level]:
        depths = margins(confusion_at(pixels, level, at))
        first = EDGE_DEPTHS - at  # an edge at a coarser level is also an edge at this level
        result[at] = EdgeCounts(depths[:, first:].sum(axis=1), depths[:, :first].sum(axis=1))
    return result
