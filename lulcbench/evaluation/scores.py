"""Scores of one predictions file: immutable, stored as JSON, readable from any scorer version."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lulcbench._files import Name, write_atomic
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError, UnsupportedFormatError
from lulcbench.evaluation._older import scores_of_format_1
from lulcbench.evaluation.metrics import METRICS
from lulcbench.predictions.format import Task
from lulcbench.release import Sha256

FORMAT: Literal["lulcbench-scores/2"] = "lulcbench-scores/2"
# Incremented if the value of a metric may change for any predictions; a board never compares scores of different
# versions. Not incremented for a new metric.
SCORER_VERSION = "2.0.0"
MAX_SCORES_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Estimate:
    """Value of a metric with its 95 % interval over spatial blocks, which contains the value (see ``intervals``).

    Attributes:
        value: value in the unit of the metric.
        low: lower end of the interval; None if there is none.
        high: upper end of the interval; None if there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Stored(BaseModel):
    """Base class of data that other scorer versions also write: unknown fields are skipped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class WithMetrics(Stored):
    """Base class of data with metrics.

    Attributes:
        metrics: metric name → estimate, without metrics that are undefined.
    """

    metrics: dict[str, Estimate] = Field(default_factory=dict)

    def __getitem__(self, metric: str) -> float | None:
        """Value of a metric; None if it is undefined, or missing in the version that wrote these scores.

        Raises:
            KeyError: neither these scores nor the list of metrics have the metric.
        """
        if metric not in self.metrics and metric not in METRICS:
            raise KeyError(metric)
        estimate = self.metrics.get(metric)
        return None if estimate is None else estimate.value


class ClassScores(Stored):
    """Scores of one class. Undefined ones are None: without label pixels (recall), predictions (precision), both (IoU).

    Attributes:
        support: evaluated label pixels of the class.
        predicted: evaluated pixels predicted as the class.
    """

    code: int
    name: str
    support: int
    predicted: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    iou: float | None = None


class ReliabilityBin(Stored):
    """Number of pixels with a confidence in one of 15 equal bins, their mean confidence and accuracy."""

    pixels: int
    confidence: float | None = None
    accuracy: float | None = None


class SubsetScores(WithMetrics):
    """Scores over a subset of the evaluated pixels: the metrics shown in ``subsets``, without intervals."""

    name: str
    pixels: int


class Transition(Stored):
    """One from–to pair: label pixels, predicted pixels, pixels where both agree, F1."""

    from_code: int
    to_code: int
    support: int
    predicted: int
    correct: int
    f1: float


class ChangePixels(Stored):
    """Pixels whose label is known in both years.

    Attributes:
        transitions: changes in the labels, in descending order of frequency.
    """

    pixels: int
    changed: int
    predicted_changed: int
    transitions: tuple[Transition, ...] = ()


class LevelScores(WithMetrics):
    """Scores at one level of the legend. Hierarchical metrics, which cover all levels, are listed at the finest one.

    Attributes:
        pixels: evaluated pixels; nodata and labels coarser than the level are ignored.
        classes: one row per class of the level, in code order.
        confusion: rows are labels, columns predictions, in the order of ``classes``.
        reliability: accuracy by bin of confidence; empty without probabilities.
        change: for the change task, None otherwise.
        regions: one subset per region of the release.
        boundary: ``edge`` (a 4-neighbour within the tile has another class of this level, or is ignored at this level)
            and ``interior``.
        superclasses: one subset per level-1 class, with the label pixels of its classes.
    """

    level: Annotated[int, Field(ge=1, le=4)]
    pixels: int
    classes: tuple[ClassScores, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()
    change: ChangePixels | None = None
    regions: tuple[SubsetScores, ...] = ()
    boundary: tuple[SubsetScores, ...] = ()
    superclasses: tuple[SubsetScores, ...] = ()


class Scores(Stored):
    """Everything that the scorer tells of one predictions file.

    Attributes:
        release, release_digest, simulated: the release scored against, with the digest of its data
            (``Manifest.data_digest``); simulated data must be called so.
        predictions_sha256: of the file scored.
        source: of the labels scored against.
        task: ``segmentation`` for one scored year, ``change`` for two, ``series`` for more.
        years: scored years.
        unscored_years: other years of the predictions, of which there are no labels.
        level: of the predictions.
        blocks: spatial blocks in the split, the unit of the confidence intervals.
        levels: level → scores, from the level of the predictions up to 1, over all years together; change is pooled
            over all pairs of consecutive years.
    """

    format: Literal["lulcbench-scores/2"] = FORMAT
    scorer_version: str = SCORER_VERSION
    release: str
    release_digest: Sha256
    simulated: bool
    predictions_sha256: Sha256
    source: str = "luisa"
    task: Task
    split: Name
    years: tuple[int, ...]
    unscored_years: tuple[int, ...] = ()
    level: Annotated[int, Field(ge=1, le=4)]
    tiles: int
    blocks: int
    levels: dict[int, LevelScores]

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str = "The text") -> Self:
        """Read scores from JSON of any scorer version.

        Values that the version lacks are absent. Unknown fields are skipped, unknown metrics are kept.

        Args:
            content: a JSON object.
            where: name of the document, for error messages.

        Raises:
            UnsupportedFormatError: the format of the scores requires a newer version of lulcbench.
            LulcbenchError: the content is not scores.
        """
        name, _, number = str(content.get("format")).rpartition("/")
        if name == "lulcbench-scores" and number.isdecimal() and int(number) > 2:
            raise UnsupportedFormatError(
                f"{where} has scores of format {number}, which a newer version of lulcbench wrote.",
                "Upgrade: pip install --upgrade lulcbench.",
            )
        try:
            return cls.model_validate(scores_of_format_1(content) if number == "1" else content)
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            raise LulcbenchError(
                f"{where} does not contain scores: {_first(error)}.", "Compute them with 'lulcbench score'."
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that ``write`` wrote.

        Raises:
            LulcbenchError: the file is missing or not JSON, or see ``read``.
        """
        remedy = "Compute them with 'lulcbench score'."
        try:
            content = parse_json(read_limited(path, MAX_SCORES_BYTES, remedy), str(path), remedy, MAX_SCORES_BYTES)
        except OSError as error:
            raise LulcbenchError(f"{path} does not contain scores: {error}", remedy) from error
        return cls.read(content, str(path))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, atomically."""
        write_atomic(Path(path), (self.model_dump_json(indent=1) + "\n").encode())


def _first(error: Exception) -> str:
    """The first error in one line."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
