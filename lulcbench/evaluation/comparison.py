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
from lulcbench.evaluation.intervals import DRAWS, paired
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
    """

    level: int
    metric: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float


class Comparison(Frozen):
    """Comparison of two predictions files of the same release, split and year.

    Attributes:
        first, second: SHA-256 of the predictions files.
        blocks: number of spatial blocks, the units that are resampled and swapped.
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
    if len(a.blocks) < 2:
        raise LulcbenchError("The split has a single spatial block.", "A paired test needs two or more.")
    differences: list[Difference] = []
    for level in sorted(a.levels & b.levels & set(levels), reverse=True):
        by_metric: dict[str, Difference] = {}
        for family in Family:
            first, second = (counts.sums.get(family, {}).get(level) for counts in (a, b))
            if first and second:
                by_metric |= _differences(family, level, np.array(first, np.float64), np.array(second, np.float64))
        differences += [by_metric[name] for name in METRICS if name in by_metric]
    return Comparison(
        release_digest=a.release_digest,
        simulated=a.simulated,
        first=a.predictions_sha256,
        second=b.predictions_sha256,
        blocks=len(a.blocks),
        # Swapping all blocks or none gives the observed difference for any data.
        smallest_p=max(2 / 2 ** min(len(a.blocks), 60), 1 / (DRAWS + 1)),
        differences=tuple(differences),
    )


def _differences(family: Family, level: int, first: Floats, second: Floats) -> dict[str, Difference]:
    """Metric → difference, for metrics that are defined for both, also without any single block."""
    statistic = partial(evaluate, family, with_intervals=True)
    of_first, of_second = statistic(first.sum(axis=0)), statistic(second.sum(axis=0))
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
        )
        for metric, (difference, low, high, p) in paired(first, second, statistic).items()
        if not (math.isnan(difference) or math.isnan(low))
    }
