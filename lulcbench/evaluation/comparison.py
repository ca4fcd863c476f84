"""Comparison of two predictions files, paired over spatial blocks, so that their difficulty cancels out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Self

import numpy as np

from lulcbench._files import Frozen
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation._older import block_counts_of_format_1
from lulcbench.evaluation.confusion import Floats
from lulcbench.evaluation.counts import Counts, count
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.intervals import counted_blocks, paired, smallest_p
from lulcbench.evaluation.metrics import METRICS, evaluate
from lulcbench.evaluation.scores import SCORER_VERSION, Stored
from lulcbench.legend import LEVELS
from lulcbench.predictions import Predictions
from lulcbench.release import AUTO, Release


class BlockCounts(Stored):
    """Counts by spatial block, from which scorings are compared without reading predictions or labels again.

    Attributes:
        release_digest: digest of the data of the release, ``Manifest.data_digest``.
        blocks: spatial blocks of the split, in the order of ``sums``.
        sums: family (``families.Family``) → level → counts of the blocks, ``(n, …)``.
    """

    scorer_version: str = SCORER_VERSION
    release_digest: str
    simulated: bool
    predictions_sha256: str
    source: str = "luisa"
    split: str
    years: tuple[int, ...]
    blocks: tuple[str, ...]
    sums: dict[str, dict[int, list[Any]]]

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read block counts from JSON of any scorer version; unknown families are skipped.

        Raises:
            LulcbenchError: the content is not block counts.
        """
        try:
            return cls.model_validate(block_counts_of_format_1(content) if "margins" in content else content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LulcbenchError(f"The block counts cannot be read: {error}", "Score the predictions again.") from error

    @property
    def levels(self) -> set[int]:
        """Levels that were scored."""
        return set(self.sums.get(Family.CLASSES, {}))


class Difference(Frozen):
    """First minus second, with 95 % interval and two-sided permutation p-value; see ``intervals.paired``.

    Attributes:
        metric: name of a metric (``metrics.METRICS``).
        blocks: number of spatial blocks in which one of the two has pixels that count for the metric.
    """

    level: int
    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    blocks: int


class Comparison(Frozen):
    """Comparison of two predictions files of the same release, split and year.

    Attributes:
        first, second: SHA-256 of the predictions files.
        blocks: number of spatial blocks with labelled pixels, which are left out in turn and swapped. Blocks without
            any are not counted; a difference in a metric of fewer pixels may have fewer.
        differences: finest level first, then in the order of ``METRICS``; hierarchical metrics are listed at the level
            of the predictions, if it is the same for both.
        smallest_p: smallest possible p-value for this number of blocks; with few blocks, no difference is significant.
    """

    scorer_version: str = SCORER_VERSION
    release_digest: str
    simulated: bool
    first: str
    second: str
    blocks: int
    smallest_p: float
    differences: tuple[Difference, ...]


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    release: str | os.PathLike[str] | Release,
    advance: Callable[[int, int], None] = lambda done, total: None,
    source: str = AUTO,
) -> Comparison:
    """Compare two predictions files at every level that both have.

    Args:
        first: a predictions file.
        second: another, of the same split and years.
        release: the release, opened, or its folder.
        advance: called with (tiles done, tiles in all), of both files together.
        source: of the labels; by default LUISA, or the only one.

    Raises:
        LulcbenchError: a file is refused, they are of different splits or years, or there are fewer than two blocks.

    Examples:
        >>> from lulcbench import PredictionWriter
        >>> for name, code in (("forest", 3110), ("arable", 2110)):
        ...     with PredictionWriter(f"{name}.zip", root, "test", year=2018) as writer:
        ...         for tile in writer.info.tiles:
        ...             writer.write(tile, np.full((96, 96), code))
        >>> comparison = compare("forest.zip", "arable.zip", root)
        >>> comparison.blocks, comparison.smallest_p  # two blocks: no difference can be significant
        (2, 0.5)
        >>> difference = comparison.differences[0]
        >>> difference.low <= difference.difference <= difference.high
        True
    """
    opened = Release.open(release)
    with Predictions.open(first, opened) as predictions:
        a = block_counts(count(predictions, lambda done, total: advance(done, 2 * total), source))
    with Predictions.open(second, opened) as predictions:
        b = block_counts(count(predictions, lambda done, total: advance(total + done, 2 * total), source))
    return compare_blocks(a, b)


def block_counts(counts: Counts) -> BlockCounts:
    """Counts by spatial block, for later comparisons."""
    sums: dict[str, dict[int, list[Any]]] = {}
    for family in filter(lambda family: family.by_block, Family):
        for level in counts.levels:
            strata = counts.of(family, level)
            if strata is not None:
                sums.setdefault(family.value, {})[level] = counts.by_block(strata).tolist()
    return BlockCounts(
        release_digest=counts.release.data_digest,
        simulated=counts.release.simulated,
        predictions_sha256=counts.sha256,
        split=counts.info.split,
        source=counts.source,
        years=counts.years,
        blocks=counts.blocks,
        sums=sums,
    )


def compare_blocks(a: BlockCounts, b: BlockCounts, levels: Collection[int] = LEVELS) -> Comparison:
    """Compare two scorings from their block counts.

    Args:
        a: block counts of one submission.
        b: block counts of another one, of the same release, split and years.
        levels: levels to compare, if both have them.

    Raises:
        LulcbenchError: releases, scorer versions, splits or years differ, or there are fewer than two blocks.
    """
    for name in ("scorer_version", "release_digest", "source", "split", "years", "blocks"):
        if getattr(a, name) != getattr(b, name):
            raise LulcbenchError(
                f"The two differ in {name.replace('_', ' ')}.", "Compare predictions of one release, split and year."
            )
    compared = sorted(a.levels & b.levels & set(levels), reverse=True)
    used = max((_used(Family.CLASSES, level, a, b) for level in compared), default=len(a.blocks))
    if used < 2:
        raise LulcbenchError(
            f"The split has {len(a.blocks)} spatial block(s), {used} of them with labelled pixels.",
            "A paired test needs two or more with labelled pixels: compare on a larger split.",
        )
    differences: list[Difference] = []
    for level in compared:
        by_metric: dict[str, Difference] = {}
        for family in Family:
            if _used(family, level, a, b) >= 2:
                by_metric |= _differences(family, level, *_sums(family, level, a, b))
        differences += [by_metric[name] for name in METRICS if name in by_metric]
    return Comparison(
        release_digest=a.release_digest,
        simulated=a.simulated,
        first=a.predictions_sha256,
        second=b.predictions_sha256,
        blocks=used,
        smallest_p=smallest_p(used),
        differences=tuple(differences),
    )


def _sums(family: Family, level: int, a: BlockCounts, b: BlockCounts) -> tuple[Floats, Floats]:
    """Counts of a family in each block, of both; empty if one of them has none."""
    first, second = (counts.sums.get(family, {}).get(level) for counts in (a, b))
    if not (first and second):
        return np.empty(0), np.empty(0)
    return np.array(first, np.float64), np.array(second, np.float64)


def _used(family: Family, level: int, a: BlockCounts, b: BlockCounts) -> int:
    """Number of blocks that a paired test of a family uses."""
    first, second = _sums(family, level, a, b)
    return int(counted_blocks(first, second).sum()) if len(first) else 0


def _differences(family: Family, level: int, first: Floats, second: Floats) -> dict[str, Difference]:
    """Metric → difference, for metrics that are defined for both, also without any single block."""
    statistic = partial(evaluate, family, with_intervals=True)
    of_first, of_second = statistic(first.sum(axis=0)), statistic(second.sum(axis=0))
    blocks = int(counted_blocks(first, second).sum())
    return {
        metric: Difference(
            level=level,
            metric=metric,
            first=float(of_first[metric]),
            second=float(of_second[metric]),
            difference=difference,
            low=low,
            high=high,
            p=p,
            blocks=blocks,
        )
        for metric, (difference, low, high, p) in paired(first, second, statistic).items()
        if not (math.isnan(difference) or math.isnan(low))
    }
