"""Counts from one pass over predictions and labels, from which all scores and maps are computed.

Most counts are by stratum: the tiles of one region in one spatial block, so that regions and blocks are unions of
strata. By tile there are only the numbers of evaluated and correct pixels at each level, for maps of accuracy.

Memory does not depend on the number of pixels. A stratum takes 40 kB at level 4 (and 10 kB with probabilities), a tile
64 bytes: 100,000 tiles in 1,000 blocks of 48 km take 50 MB, in addition to the tiles being read (at most 20 MB per
processor).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from lulcbench.evaluation._pixels import UnknownCode, count_pixels
from lulcbench.evaluation.confusion import confusion_at, hierarchy_sums, margins
from lulcbench.evaluation.families import BINS, CalibrationSums, ChangeSums, Family, SeriesSums
from lulcbench.evaluation.series import series_sums
from lulcbench.legend import LEVELS, legend
from lulcbench.legend.tables import class_lookup, node_lookup, node_to_class, nodes
from lulcbench.predictions import Predictions
from lulcbench.predictions.format import PredictionInfo
from lulcbench.release import AUTO, ArrayKey, Release, TilePosition
from lulcbench.release.index import SplitTiles

# Tiles per step: enough to amortise a call to TensorStore; fewer with probabilities, which take longer.
_BATCH, _BATCH_WITH_PROBABILITIES = 128, 8
_MAX_THREADS = 8

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
# What a step adds to the counts: array, index, amount.
Addition = tuple[npt.NDArray[Any], Any, npt.NDArray[Any]]


@dataclass(frozen=True)
class Counts:
    """Counts of a scoring, for ``T`` tiles, ``S`` strata, ``L`` levels, ``C`` classes of level ``L``, 106 label nodes.

    Attributes:
        info: metadata of the predictions file.
        sha256: SHA-256 of the predictions file.
        release: the release.
        source: of the labels scored against.
        years: that are scored: those of the predictions that have labels.
        tiles: the tiles of the split.
        strata: (region, block) of each stratum.
        evaluated: int64 ``(T, L)``: evaluated pixels of each tile at levels 1 to L; of all years together.
        correct: int64 ``(T, L)``: of these, pixels with the correct class.
        confusion: int64 ``(S, 106, C)``: label node × predicted class.
        edges: int64 ``(5, 106, C)``: the same by depth of the label edge: 0 none, 1 an edge only at level 4, … 4 an
            edge at level 1 and hence at all levels, such as next to unlabelled pixels.
        calibration: level → float64 ``(S, 5, 15)``, ``families.CalibrationSums``; empty without probabilities.
        change: level → int64 ``(S, 5)``, ``families.ChangeSums``, over all pairs of consecutive years; empty where
            there is one year alone.
        transitions: level → int64 ``(3, n, n)``, ``families.TransitionCounts``; empty likewise.
        series: level → int64 ``(S, 12)``, ``families.SeriesSums``; empty likewise.
    """

    info: PredictionInfo
    sha256: str
    release: Release
    source: str
    years: tuple[int, ...]
    tiles: SplitTiles
    strata: tuple[tuple[str, str], ...]
    evaluated: Ints
    correct: Ints
    confusion: Ints
    edges: Ints
    calibration: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)
    change: dict[int, Ints] = field(default_factory=dict)
    transitions: dict[int, Ints] = field(default_factory=dict)
    series: dict[int, Ints] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[int, ...]:
        """Scored levels: that of the predictions and all coarser ones."""
        return LEVELS[: self.info.level]

    def confusion_at(self, level: int) -> Ints:
        """Confusion matrices of the strata at a level: ``(S, n, n)``, rows are labels."""
        return confusion_at(self.confusion, self.info.level, level)

    def of(self, family: Family, level: int) -> npt.NDArray[Any] | None:
        """Counts of a family at a level, ``(S, …)`` (of one that has none by block ``(1, …)``); None without any."""
        if family is Family.CLASSES:
            return margins(self.confusion_at(level))
        if family is Family.HIERARCHY and level == self.info.level:
            return hierarchy_sums(self.confusion, level)
        if family is Family.CALIBRATION:
            return self.calibration.get(level)
        if family is Family.CHANGE:
            return self.change.get(level)
        if family is Family.TRANSITIONS and level in self.transitions:
            return self.transitions[level][None]
        if family is Family.SERIES:
            return self.series.get(level)
        return None

    @property
    def blocks(self) -> tuple[str, ...]:
        """Spatial blocks of the split, in the order of ``by_block``."""
        return tuple(sorted({block for _, block in self.strata}))

    def by_block(self, counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sum counts of strata ``(S, …)`` by spatial block, ``(n, …)`` of the same dtype."""
        return _sum_by(counts, [block for _, block in self.strata])

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions of the split, in the order of ``by_region``."""
        return tuple(sorted({region for region, _ in self.strata}))

    def by_region(self, counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sum counts of strata ``(S, …)`` by region, ``(n, …)`` of the same dtype."""
        return _sum_by(counts, [region for region, _ in self.strata])


def _sum_by(counts: npt.NDArray[Any], names: list[str]) -> npt.NDArray[Any]:
    _, group = np.unique(names, return_inverse=True)  # sorted, as the names are
    sums = np.zeros((group.max() + 1, *counts.shape[1:]), counts.dtype)
    np.add.at(sums, group, counts)
    return sums


def count(
    predictions: Predictions,
    advance: Callable[[int, int], None] = lambda done, total: None,
    source: str = AUTO,
) -> Counts:
    """Count predictions against the labels of their release, a few tiles at a time, on all processors.

    Years without labels are left out, and change is counted between consecutive years of the others.

    The labels' shards are hashed first, so that the counts are of the very bytes that the release digest names. Steps
    are added up in the order of the tiles, so that sums of floats come out the same on any number of processors.

    Args:
        predictions: an opened predictions file.
        advance: called with (tiles done, total tiles).
        source: of the labels; by default LUISA, or the only one.

    Raises:
        NotAvailableError: the release has no such labels of the split, or of none of the years.
        LulcbenchError: a chunk of the file is refused (see ``Predictions``).
        CorruptFileError: the labels of the release are missing or altered.
    """
    release = predictions.release
    threads = min(os.cpu_count() or 1, _MAX_THREADS)
    with ThreadPoolExecutor(threads) as pool:
        info, tiles = predictions.info, predictions.tiles
        arrays = labels_of(predictions, source)
        source = arrays[0].name
        shards = [file.path for array in arrays for file in release.manifest.files_of(array, info.split)]
        for _ in pool.map(lambda shard: release.verify_files([shard]), shards):
            pass
        pairs = list(zip(tiles.regions, tiles.blocks, strict=True))
        strata = tuple(sorted(set(pairs)))
        position = {stratum: i for i, stratum in enumerate(strata)}
        stratum_of = np.array([position[pair] for pair in pairs])
        counts = _empty(predictions, source, tuple(array.first for array in arrays), strata)
        batch = _BATCH if info.probabilities is None else _BATCH_WITH_PROBABILITIES
        reader = release.reader(info.split, threads=1)  # in addition to those of the pool

        def step(positions: range) -> list[Addition]:
            start, stop = (tiles.row(TilePosition(i)) for i in (positions.start, positions.stop))
            years = [reader.tiles(array, start, stop) for array in arrays]
            labels = np.stack(years, axis=1) if len(years) > 1 else years[0][:, None]  # a view of a single year
            return list(_step(counts, predictions, stratum_of, positions, labels))

        for positions, additions in _in_order(pool, step, len(tiles), batch, 2 * threads):
            for array, where, amount in additions:
                array[where] += amount
            advance(positions.stop, len(tiles))
    return counts


def labels_of(predictions: Predictions, source: str = AUTO) -> list[ArrayKey]:
    """The labels that predictions are scored against: of all their years that have some.

    Raises:
        NotAvailableError: the release has no such labels of the split, or of none of the years.
    """
    info, manifest = predictions.info, predictions.release.manifest
    source = manifest.choose_labels(source)
    held = manifest.labels[source].years
    # Where no year has labels, the error names the first.
    years = [year for year in info.years if year in held] or info.years[:1]
    return [manifest.label_array(source, year, info.split) for year in years]


def _empty(
    predictions: Predictions, source: str, years: tuple[int, ...], strata: tuple[tuple[str, str], ...]
) -> Counts:
    info = predictions.info
    shape = (len(nodes()), len(legend().codes(info.level)))
    levels = LEVELS[: info.level]
    sizes = {level: len(legend().codes(level)) for level in levels}
    calibrated = levels if info.probabilities is not None else ()
    changed = levels if len(years) > 1 else ()
    return Counts(
        info,
        predictions.sha256,
        predictions.release,
        source,
        years,
        predictions.tiles,
        strata,
        np.zeros((len(predictions.tiles), len(levels)), np.int64),
        np.zeros((len(predictions.tiles), len(levels)), np.int64),
        np.zeros((len(strata), *shape), np.int64),
        np.zeros((5, *shape), np.int64),
        {level: np.zeros((len(strata), len(CalibrationSums._fields), BINS)) for level in calibrated},
        {level: np.zeros((len(strata), len(ChangeSums._fields)), np.int64) for level in changed},
        {level: np.zeros((3, sizes[level], sizes[level]), np.int64) for level in changed},
        {level: np.zeros((len(strata), len(SeriesSums._fields)), np.int64) for level in changed},
    )


def _in_order(
    pool: ThreadPoolExecutor, step: Callable[[range], list[Addition]], tiles: int, batch: int, ahead: int
) -> Iterator[tuple[range, list[Addition]]]:
    """Yield the additions of all steps in the order of tiles; at most ``ahead`` steps are in progress."""
    pending: deque[tuple[range, Future[list[Addition]]]] = deque()
    try:
        for start in range(0, tiles, batch):
            positions = range(start, min(start + batch, tiles))
            pending.append((positions, pool.submit(step, positions)))
            if len(pending) == ahead:
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        for _, future in pending:  # after an error, the rest is not needed
            future.cancel()


def _step(
    counts: Counts,
    predictions: Predictions,
    stratum_of: npt.NDArray[np.intp],
    positions: range,
    labels: npt.NDArray[np.uint16],
) -> Iterator[Addition]:
    info, strata = counts.info, stratum_of[positions.start : positions.stop]
    scored = [info.years.index(year) for year in counts.years]
    codes = predictions.maps(positions)
    if len(scored) < len(info.years):
        codes = np.ascontiguousarray(codes[:, scored])
    bounds = [0, *(np.flatnonzero(np.diff(strata)) + 1).tolist(), len(strata)]
    try:
        for start, stop in pairwise(bounds):
            pixels = count_pixels(labels[start:stop], codes[start:stop], info.level)
            tiles = slice(positions.start + start, positions.start + stop)
            yield counts.evaluated, tiles, pixels.evaluated.sum(axis=1)
            yield counts.correct, tiles, pixels.correct.sum(axis=1)
            yield counts.edges, ..., pixels.pixels
            yield counts.confusion, strata[start], pixels.pixels.sum(axis=0)
    except UnknownCode:
        # One of these raises an error that states the code and its position.
        legend().encode(labels, 1, f"labels of tiles {positions.start} to {positions.stop - 1} of {info.split}")
        for position in positions:
            predictions.codes(TilePosition(position))
        raise
    if not counts.change and info.probabilities is None:
        return
    known, predicted = node_lookup().take(labels).astype(np.uint8), class_lookup(info.level).take(codes)
    if counts.change:
        for pair in pairwise(range(len(scored))):
            yield from _changes(counts, strata, known[:, list(pair)], predicted[:, list(pair)])
        yield from _series(counts, strata, known, predicted)
    if info.probabilities is not None:
        for i, position in enumerate(positions):
            for k, year in enumerate(scored):
                probabilities = predictions.probabilities(TilePosition(position), year)
                yield from _calibration(counts, strata[i], known[i, k], predicted[i, k], probabilities)


def _changes(counts: Counts, stratum_of: npt.NDArray[np.intp], labels: Bytes, predicted: Bytes) -> Iterator[Addition]:
    """Change of tiles between two years: label nodes and predicted classes are uint8 ``(tile, 2, y, x)``."""
    for level in counts.levels:
        n = len(legend().codes(level))
        label = _class_of(level).take(labels)
        guess = legend().parents(counts.info.level, level)[predicted]
        known = (label >= 0).all(axis=1)
        before, after = label[:, 0], label[:, 1]
        guess_before, guess_after = guess[:, 0], guess[:, 1]
        changed, guessed = before != after, guess_before != guess_after
        right = (before == guess_before) & (after == guess_after)
        sums = ChangeSums(
            pixels=known,
            changed_in_both=known & changed & guessed,
            changed_in_prediction=known & ~changed & guessed,
            changed_in_label=known & changed & ~guessed,
            class_right_in_both=known & right,
        )
        by_tile = np.stack([mask.sum(axis=(1, 2)) for mask in sums], axis=1)
        for stratum, pixels in zip(stratum_of, by_tile, strict=True):
            yield counts.change[level], stratum, pixels
        for k, (pairs, where) in enumerate(
            (
                (before * n + after, known),
                (guess_before * n + guess_after, known),
                (before * n + after, known & right),
            )
        ):
            yield counts.transitions[level], k, np.bincount(pairs[where], minlength=n * n).reshape(n, n)


def _series(counts: Counts, stratum_of: npt.NDArray[np.intp], labels: Bytes, predicted: Bytes) -> Iterator[Addition]:
    """Agreement and change over all years: label nodes and predicted classes are uint8 ``(tile, year, y, x)``."""
    for level in counts.levels:
        parents = legend().parents(counts.info.level, level)
        for stratum, label, guess in zip(stratum_of, _class_of(level).take(labels), parents[predicted], strict=True):
            yield counts.series[level], stratum, np.array(series_sums(label, guess, counts.years), np.int64)


def _calibration(
    counts: Counts, stratum: int, labels: Bytes, predicted: Bytes, probabilities: npt.NDArray[np.float32]
) -> Iterator[Addition]:
    values = probabilities.reshape(len(probabilities), -1)
    for level in reversed(counts.levels):
        parents = legend().parents(counts.info.level, level)
        if level < counts.info.level:
            # Classes are in code order, so the children of a parent are consecutive; most have no sibling.
            parent = legend().parents(level + 1, level)
            first = np.unique(parent, return_index=True)[1]
            finer, values = values, values[first]
            for child in np.setdiff1d(np.arange(len(parent)), first):
                values[parent[child]] += finer[child]
        label = _class_of(level).take(labels).ravel()
        pixel = np.flatnonzero(label >= 0)
        truth, guess = label[pixel], parents.take(predicted).ravel()[pixel]
        confidence, of_truth = (values[index, pixel].astype(np.float64) for index in (guess, truth))
        brier = np.einsum("cp,cp->p", values, values)[pixel] - 2 * of_truth + 1
        bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        weights = (np.ones(truth.size), confidence, truth == guess, -np.log(of_truth), brier)
        yield counts.calibration[level], stratum, np.stack([np.bincount(bins, w, minlength=BINS) for w in weights])


@cache
def _class_of(level: int) -> npt.NDArray[np.intp]:
    """Label node → class index at a level, -1 if ignored at that level."""
    return np.append(node_to_class(level), -1)
