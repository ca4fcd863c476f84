"""Is one submission better than another? Paired over spatial blocks, so that the difficulty of places cancels out."""

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
from lulcbench.release import Release


class BlockCounts(Stored):
    """What a comparison needs of a scoring, so that neither predictions nor labels are read again.

    Attributes:
        blocks: spatial blocks of the split, in the order of what follows.
        sums: family (``families.Family``) → level → numbers of each block, ``(n, …)`` as the family has them.
    """

    scorer_version: str = SCORER_VERSION
    release_digest: str
    simulated: bool
    predictions_sha256: str
    split: str
    years: tuple[int, ...]
    blocks: tuple[str, ...]
    sums: dict[str, dict[int, list[Any]]]

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Block counts from their JSON, of this or any other scorer version; unknown families are skipped.

        Raises:
            LulcbenchError: it holds no block counts.
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
    """First minus second, with its 95 % interval and two-sided permutation p-value; see ``intervals.paired``.

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
    """Two predictions of the same split and year of the same release.

    Attributes:
        first, second: SHA-256 of the predictions files.
        blocks: spatial blocks, the units that were drawn and swapped.
        differences: finest level first, then in the order of ``METRICS``; metrics of the hierarchy stand at the level
            of the predictions, if both have the same.
        smallest_p: smallest p-value that so many blocks can give: with few of them no difference is ever significant.
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
) -> Comparison:
    """Compare two predictions files at every level that both have.

    Args:
        first: a predictions file.
        second: another, of the same split and years.
        release: the release, opened, or its folder.
        advance: called with (tiles done, tiles in all), of both files together.

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
        a = block_counts(count(predictions, lambda done, total: advance(done, 2 * total)))
    with Predictions.open(second, opened) as predictions:
        b = block_counts(count(predictions, lambda done, total: advance(total + done, 2 * total)))
    return compare_blocks(a, b)


def block_counts(counts: Counts) -> BlockCounts:
    """What a later comparison needs of a scoring."""
    sums: dict[str, dict[int, list[Any]]] = {}
    for family in filter(lambda family: family.by_block, Family):
        for level in counts.levels:
            strata = counts.of(family, level)
            if strata is not None:
                sums.setdefault(family.value, {})[level] = counts.by_block(strata).tolist()
    return BlockCounts(
        release_digest=counts.release.digest,
        simulated=counts.release.simulated,
        predictions_sha256=counts.sha256,
        split=counts.info.split,
        years=tuple(counts.info.years),
        blocks=counts.blocks,
        sums=sums,
    )


def compare_blocks(a: BlockCounts, b: BlockCounts, levels: Collection[int] = LEVELS) -> Comparison:
    """Compare two scorings by their counts alone.

    Args:
        a: of one submission.
        b: of another, of the same release, split and years.
        levels: of them, those that both have are compared.

    Raises:
        LulcbenchError: they are of different releases, scorers, splits or years, or there are fewer than two blocks.
    """
    for name in ("scorer_version", "release_digest", "split", "years", "blocks"):
        if getattr(a, name) != getattr(b, name):
            raise LulcbenchError(
                f"The two differ in {name.replace('_', ' ')}.", "Compare predictions of one release, split and year."
            )
    if len(a.blocks) < 2:
        raise LulcbenchError("The split has a single spatial block.", "A paired test needs two or more.")
    differences: list[Difference] = []
    for level in sorted(a.levels & b.levels & set(levels), reverse=True):
        found: dict[str, Difference] = {}
        for family in Family:
            first, second = (one.sums.get(family, {}).get(level) for one in (a, b))
            if first and second:
                found |= _differences(family, level, np.array(first, np.float64), np.array(second, np.float64))
        differences += [found[name] for name in METRICS if name in found]
    return Comparison(
        release_digest=a.release_digest,
        simulated=a.simulated,
        first=a.predictions_sha256,
        second=b.predictions_sha256,
        blocks=len(a.blocks),
        # Swapping all blocks or none gives the observed size, whatever the data.
        smallest_p=max(2 / 2 ** min(len(a.blocks), 60), 1 / (DRAWS + 1)),
        differences=tuple(differences),
    )


def _differences(family: Family, level: int, first: Floats, second: Floats) -> dict[str, Difference]:
    """Metric → difference, of the metrics that are defined for both, also without any one of the blocks."""
    statistic = partial(evaluate, family, with_intervals=True)
    one, two = statistic(first.sum(axis=0)), statistic(second.sum(axis=0))
    return {
        metric: Difference(
            level=level,
            metric=metric,
            first=float(one[metric]),
            second=float(two[metric]),
            difference=difference,
            low=low,
            high=high,
            p=p,
        )
        for metric, (difference, low, high, p) in paired(first, second, statistic).items()
        if not (math.isnan(difference) or math.isnan(low))
    }
