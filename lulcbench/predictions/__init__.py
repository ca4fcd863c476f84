"""Predictions of a split: one Zarr v3 zip, written by ``PredictionWriter``, read back by ``Predictions``.

The zip holds a group with ``codes`` (tile, year, 96, 96) uint16, LUISA codes of one level on the 50 m label grid, and
optionally ``probabilities`` (tile, year, class, 96, 96) uint8. A chunk is one tile, so a missing tile is a missing
member. Any Zarr v3 reader opens the file; ``Predictions`` does not interpret array metadata: they must match those of
the writer, key by key.
``lulcbench.predictions.format`` describes the layout and the coding of probabilities.
"""

from __future__ import annotations

from lulcbench.predictions.label_grid import to_label_grid
from lulcbench.predictions.reader import OtherReleaseError, Predictions, archive_limits, peek
from lulcbench.predictions.writer import PredictionWriter

__all__ = ["OtherReleaseError", "PredictionWriter", "Predictions", "archive_limits", "peek", "to_label_grid"]
