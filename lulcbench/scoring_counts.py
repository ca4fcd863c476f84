"""One pass over predictions and labels: integer counts and sums, per group of tiles, from which every score follows.

A group is the tiles of one region in one spatial block: regions and blocks are both unions of groups.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.metrics import BINS, CALIBRATION_SUMS, CHANGE_SUMS, confusion_at, node_to_class, nodes
from lulcbench.prediction_format import PredictionInfo
from lulcbench.predictions import Predictions
from lulcbench.release import Release, array_name, label_shape
from lulcbench.shards import ShardReader
from lulcbench.tile_index import SplitTiles, read_split, verify_files

# Tiles a step: enough to spread the cost of a call, few enough to stay in the processor's cache.
_BATCH = 16

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Counts:
    """What scores are made of. ``G`` groups, ``C`` classes of the predictions' level, 106 label nodes.

    Attributes:
        info: what the predictions file says of itself.
        sha256: of the predictions file.
        release: the release scored against.
        tiles: the tiles of the split.
        groups: (region, block) of each group.
        confusion: int64 ``(G, 106, C)``: label node × predicted class.
        edges: int64 ``(5, 106, C)``: the same by how deep a label edge the pixel lies on: 0 none, 1 an edge at level 4
            only, … 4 an edge at level 1 and so at all levels.
        calibration: level → float64 ``(G, 5, 15)``, ``metrics.CALIBRATION_SUMS`` by confidence bin; empty without
            probabilities.
        change: level → int64 ``(G, 5)``, ``metrics.CHANGE_SUMS``; empty unless the task is change.
        transitions: level → int64 ``(3, n, n)``: label, predicted and agreeing from–to pairs; empty likewise.
    """

    info: PredictionInfo
    sha256: str
    release: Release
    tiles: SplitTiles
    groups: tuple[tuple[str, str], ...]
    confusion: Ints
    edges: Ints
    calibration: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)
    change: dict[int, Ints] = field(default_factory=dict)
    transitions: dict[int, Ints] = field(default_factory=dict)

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels that can be scored: that of the predictions and all coarser ones."""
        return LEVELS[: self.info.level]

    def at(self, level: int) -> Ints:
        """Confusion of each group at a level: ``(G, n, n)``."""
        return confusion_at(self.confusion, self.info.level, level)

    def by(self, key: int) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
        """Regions (``key=0``) or blocks (``key=1``), and float64 ``(n, G)`` that sums groups into them."""
        names = tuple(sorted({group[key] for group in self.groups}))
        member = np.array([[group[key] == name for group in self.groups] for name in names], np.float64)
        return names, member


def count(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Counts:
    """Count a predictions file against the labels of the release at ``root``, a few tiles at a time.

    The labels' shards are hashed first, so that the counts are of the very bytes that the release digest names.

    Args:
        path: the predictions file.
        root: folder of the release.
        advance: called with (tiles done, tiles in all).

    Raises:
        LulcbenchError: the file is refused (see ``Predictions``), or the release's labels are missing or altered.
    """
    release = Release.load(root)
    with Predictions.open(path, root) as predictions:
        info = predictions.info
        arrays = [array_name("luisa", year) for year in info.years]
        shards = (f.path for f in release.files if f.split == info.split and f.array in arrays)
        verify_files(root, release, tuple(shards))
        tiles = read_split(root, release, info.split)
        pairs = list(zip(tiles.regions, tiles.blocks, strict=True))
        groups = tuple(sorted(set(pairs)))
        position = {group: i for i, group in enumerate(groups)}
        group_of = np.array([position[pair] for pair in pairs])
        counts = _empty(predictions, release, tiles, groups)
        read_labels = partial(_labels, ShardReader(root, release, info.split), arrays)
        for rows, labels, predicted in _batches(predictions, read_labels, len(tiles)):
            _add_maps(counts, group_of[rows.start : rows.stop], labels, predicted)
            if info.task == "change":
                _add_change(counts, group_of[rows.start : rows.stop], labels, predicted)
            if info.probabilities is not None:
                for row in rows:
                    for year in range(len(info.years)):
                        i = row - rows.start
                        probabilities = predictions.probabilities(row, year)
                        _add_probabilities(counts, group_of[row], labels[i, year], predicted[i, year], probabilities)
            advance(rows.stop, len(tiles))
    return counts


def _empty(
    predictions: Predictions, release: Release, tiles: SplitTiles, groups: tuple[tuple[str, str], ...]
) -> Counts:
    info = predictions.info
    shape = (len(nodes()), len(legend().codes(info.level)))
    levels = LEVELS[: info.level]
    sizes = {level: len(legend().codes(level)) for level in levels}
    calibrated = levels if info.probabilities is not None else ()
    changed = levels if info.task == "change" else ()
    return Counts(
        info,
        predictions.sha256,
        release,
        tiles,
        groups,
        np.zeros((len(groups), *shape), np.int64),
        np.zeros((5, *shape), np.int64),
        {level: np.zeros((len(groups), len(CALIBRATION_SUMS), BINS)) for level in calibrated},
        {level: np.zeros((len(groups), len(CHANGE_SUMS)), np.int64) for level in changed},
        {level: np.zeros((3, sizes[level], sizes[level]), np.int64) for level in changed},
    )


def _batches(
    predictions: Predictions, read_labels: Callable[[range], Bytes], tiles: int
) -> Iterator[tuple[range, Bytes, Bytes]]:
    """Batches of (rows, label nodes, predicted classes), each ``(n, year, 96, 96)`` uint8, read one batch ahead."""

    def read(rows: range) -> tuple[range, Bytes, Bytes]:
        return rows, read_labels(rows), np.stack([predictions.classes(row) for row in rows])

    steps = [range(start, min(start + _BATCH, tiles)) for start in range(0, tiles, _BATCH)]
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(read, steps[0])
        for step in steps[1:]:
            ready, ahead = ahead, pool.submit(read, step)
            yield ready.result()
        yield ahead.result()


def _labels(reader: ShardReader, arrays: list[str], rows: range) -> Bytes:
    size = label_shape()
    years = [reader.read(array, rows, [(0, 0)] * len(rows), size) for array in arrays]
    table = _node_of()
    result = np.stack([table[codes] for codes in years], axis=1)
    if result.max() > len(nodes()):
        for array, codes in zip(arrays, years, strict=True):
            legend().encode(codes, 1, f"{array} of rows {rows.start} to {rows.stop - 1}")  # raises, naming the code
    return result


def _add_maps(counts: Counts, group_of: npt.NDArray[np.intp], labels: Bytes, predicted: Bytes) -> None:
    n_nodes, n_classes = counts.edges.shape[1:]
    # One number a pixel: its edge depth, label node and class. Unlabelled pixels fall in the last node, cut off below.
    flat = edge_depth(labels).astype(np.uint16)
    flat *= n_nodes + 1
    flat += labels
    flat *= n_classes
    flat += predicted
    bounds = [0, *(np.flatnonzero(np.diff(group_of)) + 1).tolist(), len(group_of)]
    for start, stop in pairwise(bounds):
        bins = np.bincount(flat[start:stop].ravel(), minlength=5 * (n_nodes + 1) * n_classes)
        table = bins.reshape(5, n_nodes + 1, n_classes)[:, :-1]
        counts.edges[...] += table
        counts.confusion[group_of[start]] += table.sum(axis=0)


def edge_depth(labels: Bytes) -> Bytes:
    """How coarse a label edge each pixel lies on.

    Args:
        labels: uint8 label nodes ``(…, y, x)``.

    Returns:
        uint8 of the same shape: 0 where no 4-neighbour within the tile differs at a level both are known at, else
        5 − the coarsest such level.
    """
    depth = np.zeros(labels.shape, np.uint8)
    pairs = _pair_depth()
    for before, after in (
        (np.s_[..., :-1, :], np.s_[..., 1:, :]),
        (np.s_[..., :, :-1], np.s_[..., :, 1:]),
    ):
        a, b = labels[before], labels[after]
        where = np.nonzero(a != b)  # edges are few, so only they are looked up
        found = np.zeros(a.shape, np.uint8)
        found[where] = pairs[a[where], b[where]]
        np.maximum(depth[before], found, out=depth[before])
        np.maximum(depth[after], found, out=depth[after])
    return depth


def _add_change(counts: Counts, group_of: npt.NDArray[np.intp], labels: Bytes, predicted: Bytes) -> None:
    for level in counts.levels:
        n = len(legend().codes(level))
        label = np.append(node_to_class(level), -1)[labels]
        guess = legend().parents(counts.info.level, level)[predicted]
        judged = (label >= 0).all(axis=1)
        before, after = label[:, 0], label[:, 1]
        guess_before, guess_after = guess[:, 0], guess[:, 1]
        changed, guessed = before != after, guess_before != guess_after
        right = (before == guess_before) & (after == guess_after)
        for i, group in enumerate(group_of):
            ok, real, said = judged[i], changed[i], guessed[i]
            sums = (ok, ok & real & said, ok & ~real & said, ok & real & ~said, ok & right[i])
            counts.change[level][group] += [int(part.sum()) for part in sums]
        for k, (pairs, where) in enumerate(
            (
                (before * n + after, judged),
                (guess_before * n + guess_after, judged),
                (before * n + after, judged & right),
            )
        ):
            counts.transitions[level][k] += np.bincount(pairs[where], minlength=n * n).reshape(n, n)


def _add_probabilities(
    counts: Counts, group: int, labels: Bytes, predicted: Bytes, probabilities: npt.NDArray[np.float32]
) -> None:
    for level in counts.levels:
        parents = legend().parents(counts.info.level, level)
        # Classes are in code order, so children of one parent lie together.
        summed = np.add.reduceat(probabilities, np.unique(parents, return_index=True)[1], axis=0)
        label = np.append(node_to_class(level), -1)[labels]
        judged = label >= 0
        truth, guess = label[judged], parents[predicted[judged]]
        values = summed[:, judged].astype(np.float64)
        pixel = np.arange(truth.size)
        confidence, of_truth = values[guess, pixel], values[truth, pixel]
        brier = (values**2).sum(axis=0) - 2 * of_truth + 1
        bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        weights = (np.ones(truth.size), confidence, truth == guess, -np.log(of_truth), brier)
        for k, weight in enumerate(weights):
            counts.calibration[level][group, k] += np.bincount(bins, weight, minlength=BINS)


@cache
def _node_of() -> Bytes:
    """Code → position in ``nodes()``; their number stands for nodata, ``IGNORE_INDEX`` for unknown codes."""
    table = np.full(65536, IGNORE_INDEX, np.uint8)
    table[0] = len(nodes())
    table[list(nodes())] = np.arange(len(nodes()))
    return table


@cache
def _pair_depth() -> Bytes:
    """5 − the coarsest level at which two label nodes differ; 0 where they differ at none that both have."""
    n = len(nodes())
    table = np.zeros((n + 1, n + 1), np.uint8)
    for level in LEVELS[::-1]:
        at = np.append(node_to_class(level), -1)
        differs = (at[:, None] != at[None, :]) & (at[:, None] >= 0) & (at[None, :] >= 0)
        table[differs] = 5 - level
    return table
