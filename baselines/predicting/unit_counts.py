"""Counts of scored predictions by spatial block or patch, from which studies compute metrics and paired tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from baselines.arrays import read_arrays
from lulcbench._files import write_atomic
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.comparison import block_counts
from lulcbench.evaluation.counts import Counts, count
from lulcbench.evaluation.edges import edge_counts
from lulcbench.evaluation.families import BINS
from lulcbench.evaluation.series import agreement_by_class
from lulcbench.legend import IGNORE_INDEX, legend
from lulcbench.predictions import Predictions
from lulcbench.release import TilePosition

AGREEMENT = "agreement"  # in place of a family: agreement between years by class
FLAT = 0  # in place of a level, for legends without levels


@dataclass(frozen=True)
class UnitCounts:
    """Counts by unit: those of several units are their sum.

    Attributes:
        unit: what is resampled: ``spatial blocks`` or ``patches``.
        split: split that was scored.
        units: names of the units, ``n``.
        sums: (name, level) → counts ``(n, …)``. Names are those of families (``lulcbench.evaluation.families``), and
            ``edge`` and ``interior`` for class counts of these pixels, and
            ``agreement``, see ``count_series``. The level is 0 (``FLAT``) without levels.
        classes: level → names of the classes.
    """

    unit: str
    split: str
    units: tuple[str, ...]
    sums: dict[tuple[str, int], npt.NDArray[Any]]
    classes: dict[int, tuple[str, ...]]

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels, in ascending order."""
        return tuple(sorted(self.classes))

    def save(self, path: Path) -> None:
        """Write the counts as ``.npz``."""
        arrays = {f"sums/{name}/{level}": values for (name, level), values in self.sums.items()}
        arrays |= {f"classes/{level}": np.array(names) for level, names in self.classes.items()}
        arrays |= {"unit": np.array(self.unit), "split": np.array(self.split), "units": np.array(self.units)}
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # names are not those of its options
        write_atomic(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> UnitCounts:
        """Read counts.

        Raises:
            LulcbenchError: the file is missing or damaged.
        """
        remedy = "Delete it and run the study again."
        arrays = read_arrays(path, remedy)
        try:
            sums, classes = {}, {}
            for name, values in arrays.items():
                kind, *rest = name.split("/")
                if kind == "sums":
                    sums[rest[0], int(rest[1])] = values
                elif kind == "classes":
                    classes[int(rest[0])] = tuple(map(str, values))
            units = tuple(map(str, arrays["units"]))
            return cls(str(arrays["unit"]), str(arrays["split"]), units, sums, classes)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise LulcbenchError(f"{path} is damaged: {error!r}.", remedy) from error


def count_samples(
    unit: str,
    split: str,
    units: Sequence[str] | npt.NDArray[np.str_],
    truth: npt.NDArray[np.intp],
    p: npt.NDArray[np.float64],
    names: Sequence[str],
    level: int | None,
    predicted: npt.NDArray[np.intp] | None = None,
) -> UnitCounts:
    """Count samples with one class each.

    Args:
        unit: what is resampled.
        split: split of the samples.
        units: unit of each sample, ``n``.
        truth: class indices ``(n,)``; samples with ``IGNORE_INDEX`` are left out.
        p: probabilities above 0, ``(n, class)``.
        names: names of the classes.
        level: legend level of the classes, also counted at coarser levels; None for other legends.
        predicted: class indices ``(n,)`` that were decided in another way than by the highest probability.
    """
    order, group = np.unique(np.asarray(units), return_inverse=True)
    labelled = truth != IGNORE_INDEX
    group, truth, p = group[labelled], truth[labelled], p[labelled]
    decided = None if predicted is None else predicted[labelled]
    sums: dict[tuple[str, int], npt.NDArray[Any]] = {}
    classes: dict[int, tuple[str, ...]] = {}
    for at in range(1, level + 1) if level else (FLAT,):
        parents = legend().parents(level, at) if level else np.arange(len(names))
        classes[at] = legend().names(at) if level else tuple(names)
        n = len(classes[at])
        coarse = np.zeros((len(p), n))
        np.add.at(coarse.T, parents, p.T)
        best = coarse.argmax(1) if decided is None else parents[decided]
        sums["classes", at] = _class_counts(group, len(order), parents[truth], best, n)
        sums["calibration", at] = _calibration(group, len(order), parents[truth], best, coarse)
    return UnitCounts(unit, split, tuple(map(str, order)), sums, classes)


def _class_counts(
    group: npt.NDArray[np.intp], units: int, truth: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp], n: int
) -> npt.NDArray[np.int64]:
    """Class counts (``families.ClassCounts``) of each unit, ``(unit, 3, class)``."""
    counts = np.zeros((units, 3, n), np.int64)
    right = truth == predicted
    np.add.at(counts[:, 0], (group[right], truth[right]), 1)
    np.add.at(counts[:, 1], (group, truth), 1)
    np.add.at(counts[:, 2], (group, predicted), 1)
    return counts


def _calibration(
    group: npt.NDArray[np.intp],
    units: int,
    truth: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
    p: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Calibration sums (``families.CalibrationSums``) of each unit, ``(unit, 5, bin)``."""
    rows = np.arange(len(p))
    confidence, of_truth = p[rows, predicted], p[rows, truth]
    brier = np.square(p).sum(1) - 2 * of_truth + 1
    bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
    sums = np.zeros((units, 5, BINS))
    values = (np.ones(len(p)), confidence, predicted == truth, -np.log(of_truth), brier)
    for row, value in enumerate(values):
        np.add.at(sums[:, row], (group, bins), value)
    return sums


def count_maps(predictions: Predictions) -> UnitCounts:
    """Count maps of a release by spatial block, also for the pixels at the edges of label areas.

    Args:
        predictions: an opened predictions file of one year.

    Raises:
        LulcbenchError: the file is refused, or the release has no labels of the split.
    """
    counts = count(predictions)
    found = _by_block(counts)
    for level, (edge, interior) in edge_counts(predictions, counts.source).items():
        found.sums["edge", level], found.sums["interior", level] = edge, interior
    return found


def count_series(predictions: Predictions) -> UnitCounts:
    """Count maps of several years of a release by spatial block, with their agreement between years by class.

    Args:
        predictions: an opened predictions file.

    Raises:
        LulcbenchError: the file is refused, or the release has no labels of the split.
    """
    counts = count(predictions)
    found = _by_block(counts)
    for level, values in _agreement(predictions, counts).items():
        found.sums[AGREEMENT, level] = values
    return found


def _agreement(predictions: Predictions, counts: Counts) -> dict[int, npt.NDArray[np.int64]]:
    """Agreement of maps and of labels by class: level → ``(block, pair, 4, class)``.

    The four are pixels of a class in the map of the first year, in those of both years, and the same of the labels.
    """
    release, info, tiles = predictions.release, predictions.info, predictions.tiles
    found = {
        level: np.zeros((len(counts.blocks), len(counts.years) - 1, 4, len(legend().codes(level))), np.int64)
        for level in counts.levels
    }
    scored = [info.years.index(year) for year in counts.years]
    for position, block in enumerate(tiles.blocks):
        row = tiles.row(TilePosition(position))
        codes = predictions.codes(TilePosition(position))[scored]
        labels = np.stack([release.labels(info.split, year, [row], counts.source)[0] for year in counts.years])
        for level, values in found.items():
            for start, maps in ((0, codes), (2, labels)):
                classes = legend().encode(maps, level).astype(np.int64)
                classes[classes == IGNORE_INDEX] = -1
                table = agreement_by_class(classes, values.shape[-1])
                values[counts.blocks.index(block), :, start : start + 2] += table
    return found


def _by_block(counts: Counts) -> UnitCounts:
    blocks = block_counts(counts)
    sums = {
        (family, level): np.asarray(values, np.float64)
        for family, by_level in blocks.sums.items()
        for level, values in by_level.items()
    }
    classes = {level: legend().names(level) for level in counts.levels}
    return UnitCounts("spatial blocks", blocks.split, blocks.blocks, sums, classes)
