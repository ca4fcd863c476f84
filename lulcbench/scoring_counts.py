"""One pass over predictions and labels: integer counts and sums, per group of tiles, from which every score follows.

A group is the tiles of one region in one spatial block: regions and blocks are both unions of groups.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise, zip_longest

import numpy as np
import numpy.typing as npt

from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.metrics import BINS, CALIBRATION_SUMS, CHANGE_SUMS, confusion_at, node_to_class, nodes
from lulcbench.prediction_format import PredictionInfo
from lulcbench.predictions import Predictions
from lulcbench.release import Release, array_name
from lulcbench.shards import ShardReader
from lulcbench.tile_index import SplitTiles, verify_files

# Tiles a step: enough to spread the cost of a call to TensorStore.
_BATCH = 32

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
        tiles = predictions.tiles
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
    """Batches of (rows, label nodes, predicted classes), each uint8 ``(n, year, 96, 96)``, read one batch ahead."""

    def read_predictions(rows: range) -> Bytes:
        return np.stack([predictions.classes(row) for row in rows])

    steps = [range(start, min(start + _BATCH, tiles)) for start in range(0, tiles, _BATCH)]
    with ThreadPoolExecutor(2) as pool:  # one for labels, one for predictions, while the caller counts

        def begin(step: range) -> tuple[Future[Bytes], Future[Bytes]]:
            return pool.submit(read_labels, step), pool.submit(read_predictions, step)

        ahead = begin(steps[0])
        for step, following in zip_longest(steps, steps[1:]):
            ready = ahead
            if following is not None:
                ahead = begin(following)
            yield step, ready[0].result(), ready[1].result()


def _labels(reader: ShardReader, arrays: list[str], rows: range) -> Bytes:
    years = [reader.tiles(array, rows.start, rows.stop) for array in arrays]
    found = np.stack([node_of().take(codes) for codes in years], axis=1)
    if found.max() == IGNORE_INDEX:
        for array, codes in zip(arrays, years, strict=True):
            legend().encode(codes, 1, f"{array} of rows {rows.start} to {rows.stop - 1}")  # raises, naming the code
    return found


def _add_maps(counts: Counts, group_of: npt.NDArray[np.intp], labels: Bytes, predicted: Bytes) -> None:
    n_nodes, n_classes = counts.edges.shape[1:]
    bounds = [0, *(np.flatnonzero(np.diff(group_of)) + 1).tolist(), len(group_of)]
    for start, stop in pairwise(bounds):
        # One number a pixel: edge depth, label node and class. Unlabelled pixels fall in the last node, cut off below.
        flat = edge_depth(labels[start:stop]).astype(np.uint16)
        flat *= n_nodes + 1
        flat += labels[start:stop]
        flat *= n_classes
        flat += predicted[start:stop]
        bins = np.bincount(flat.ravel(), minlength=5 * (n_nodes + 1) * n_classes)
        table = bins.reshape(5, n_nodes + 1, n_classes)[:, :-1]
        counts.edges[...] += table
        counts.confusion[group_of[start]] += table.sum(axis=0)


def edge_depth(labels: Bytes) -> Bytes:
    """How coarse a label edge each pixel lies on: whether a 4-neighbour within the tile bears another label.

    Args:
        labels: label nodes, uint8 ``(…, y, x)``. What is not known at a level counts as a class of its own.

    Returns:
        uint8 of the same shape: 0 without another label beside, else 5 − the coarsest level at which one differs.
    """
    fields, steps = _fields()
    packed = fields.take(labels)
    difference = np.zeros_like(packed)
    # The highest bit in which two labels differ says the coarsest level, and a maximum keeps it.
    down = packed[..., :-1, :] ^ packed[..., 1:, :]
    np.maximum(difference[..., :-1, :], down, out=difference[..., :-1, :])
    np.maximum(difference[..., 1:, :], down, out=difference[..., 1:, :])
    # Along rows as one line, which is several times faster; pairs of two rows are taken out again.
    line, right = difference.reshape(-1), packed.reshape(-1).copy()
    right[:-1] ^= right[1:]
    right.reshape(packed.shape)[..., -1] = 0
    np.maximum(line, right, out=line)
    np.maximum(line[1:], right[:-1], out=line[1:])
    depth = np.zeros(packed.shape, np.uint8)
    for step in steps:
        depth += difference >= step
    return depth


def _add_change(counts: Counts, group_of: npt.NDArray[np.intp], labels: Bytes, predicted: Bytes) -> None:
    for level in counts.levels:
        n = len(legend().codes(level))
        label = _class_of(level).take(labels)
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
    values = probabilities.reshape(len(probabilities), -1)
    for level in reversed(counts.levels):
        parents = legend().parents(counts.info.level, level)
        if level < counts.info.level:
            # Classes are in code order, so children of one parent lie together. Slices beat reduceat tenfold.
            first = np.unique(legend().parents(level + 1, level), return_index=True)[1]
            values = np.stack([part.sum(axis=0) for part in np.split(values, first[1:])])
        label = _class_of(level).take(labels).ravel()
        pixel = np.flatnonzero(label >= 0)
        truth, guess = label[pixel], parents.take(predicted).ravel()[pixel]
        confidence, of_truth = (values[index, pixel].astype(np.float64) for index in (guess, truth))
        brier = np.einsum("cp,cp->p", values, values)[pixel] - 2 * of_truth + 1
        bins = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        weights = (np.ones(truth.size), confidence, truth == guess, -np.log(of_truth), brier)
        for k, weight in enumerate(weights):
            counts.calibration[level][group, k] += np.bincount(bins, weight, minlength=BINS)


@cache
def node_of() -> Bytes:
    """Code → position in ``nodes()``; their number stands for nodata, ``IGNORE_INDEX`` for unknown codes."""
    table = np.full(65536, IGNORE_INDEX, np.uint8)
    table[0] = len(nodes())
    table[list(nodes())] = np.arange(len(nodes()))
    return table


@cache
def _class_of(level: int) -> npt.NDArray[np.intp]:
    """Label node → class index at a level, -1 where it is not known at that level."""
    return np.append(node_to_class(level), -1)


@cache
def _fields() -> tuple[npt.NDArray[np.uint16], tuple[int, ...]]:
    """Label node → place in the tree in 11 bits, coarse levels first, 0 if unknown; and each level's lowest bit."""
    shifts = {4: 0, 3: 2, 2: 5, 1: 8}
    table = np.zeros(len(nodes()) + 1, np.uint16)
    for node, code in enumerate(nodes()):
        for level in LEVELS[: legend().classes[code].level]:
            own = legend().ancestor(code, level)
            siblings = [c for c in legend().codes(level) if legend().classes[c].parent == legend().classes[own].parent]
            table[node] |= (siblings.index(own) + 1) << shifts[level]
    return table, tuple(1 << shifts[level] for level in reversed(LEVELS))
