"""Scores of one predictions file: frozen, written as JSON, read back whatever scorer version wrote them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lulcbench._files import write_atomic
from lulcbench._parsing import parse_json, read_limited
from lulcbench.errors import LulcbenchError, UnsupportedFormatError
from lulcbench.evaluation._older import scores_of_format_1
from lulcbench.evaluation.metrics import METRICS
from lulcbench.release import Sha256, Split

FORMAT: Literal["lulcbench-scores/2"] = "lulcbench-scores/2"
# Raised whenever the value of a metric could change for any predictions; a board never compares scores of different
# versions. A new metric does not raise it.
SCORER_VERSION = "2.0.0"
MAX_SCORES_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric's value, with its 95 % interval over spatial blocks, which always holds it (see ``intervals``).

    Attributes:
        value: in the metric's unit.
        low: lower end of the interval; None where there is no interval.
        high: upper end; None where there is no interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


class Stored(BaseModel):
    """Base of what a scorer writes and a later or earlier one reads: fields that are unknown here are skipped."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class WithMetrics(Stored):
    """Base of what has metrics.

    Attributes:
        metrics: metric name → estimate, without metrics that are undefined.
    """

    metrics: dict[str, Estimate] = Field(default_factory=dict)

    def __getitem__(self, metric: str) -> float | None:
        """Value of a metric; None where it is undefined, or where the scorer that made these scores lacked it.

        Raises:
            KeyError: there is no metric of that name, neither here nor in the list of metrics.
        """
        if metric not in self.metrics and metric not in METRICS:
            raise KeyError(metric)
        estimate = self.metrics.get(metric)
        return None if estimate is None else estimate.value


class ClassScores(Stored):
    """Scores of one class. None where undefined: no label pixels (recall), none predicted (precision), neither (IoU).

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
    """Pixels whose confidence fell into one of 15 equal bins: their number, mean confidence, and accuracy."""

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
        transitions: changes that the labels hold, most frequent first.
    """

    pixels: int
    changed: int
    predicted_changed: int
    transitions: tuple[Transition, ...] = ()


class LevelScores(WithMetrics):
    """Scores at one level of the legend. Metrics of the hierarchy, which are of all levels, stand at the finest.

    Attributes:
        pixels: evaluated pixels; nodata and labels coarser than the level are ignored.
        classes: one row per class of the level, in code order.
        confusion: rows are labels, columns predictions, in the order of ``classes``.
        reliability: accuracy by bin of confidence; empty without probabilities.
        change: for the change task, None otherwise.
        regions: one subset per region of the release.
        boundary: ``edge`` (a 4-neighbour within the tile bears another class of this level, or none that is known at
            this level: the border of unlabelled ground is an edge too) and ``interior``.
        superclasses: one subset per level-1 class: the label pixels of its classes.
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
        release, release_digest, simulated: the release scored against; simulated data must be called so.
        predictions_sha256: of the file scored.
        level: of the predictions.
        blocks: spatial blocks in the split, the unit of the confidence intervals.
        levels: level → scores, from the level of the predictions up to 1; for change, of both years together.
    """

    format: Literal["lulcbench-scores/2"] = FORMAT
    scorer_version: str = SCORER_VERSION
    release: str
    release_digest: Sha256
    simulated: bool
    predictions_sha256: Sha256
    task: Literal["segmentation", "change"]
    split: Split
    years: tuple[int, ...]
    level: Annotated[int, Field(ge=1, le=4)]
    tiles: int
    blocks: int
    levels: dict[int, LevelScores]

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str = "The text") -> Self:
        """Scores from their JSON, of this or any other scorer version.

        What that version did not give is absent. Unknown fields are skipped, unknown metrics are kept.

        Args:
            content: a JSON object.
            where: what holds it, for errors.

        Raises:
            UnsupportedFormatError: it holds scores of a format that only a newer lulcbench reads.
            LulcbenchError: it holds no scores.
        """
        name, _, number = str(content.get("format")).rpartition("/")
        if name == "lulcbench-scores" and number.isdecimal() and int(number) > 2:
            raise UnsupportedFormatError(
                f"{where} holds scores of format {number}, which a newer lulcbench wrote.",
                "Upgrade: pip install --upgrade lulcbench.",
            )
        try:
            return cls.model_validate(scores_of_format_1(content) if number == "1" else content)
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            raise LulcbenchError(
                f"{where} holds no scores: {_first(error)}.", "Make them with 'lulcbench score'."
            ) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that ``write`` wrote.

        Raises:
            LulcbenchError: the file is missing or is not JSON, or as ``read``.
        """
        remedy = "Make them with 'lulcbench score'."
        try:
            content = parse_json(read_limited(path, MAX_SCORES_BYTES, remedy), str(path), remedy, MAX_SCORES_BYTES)
        except OSError as error:
            raise LulcbenchError(f"{path} holds no scores: {error}", remedy) from error
        return cls.read(content, str(path))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, atomically."""
        write_atomic(Path(path), (self.model_dump_json(indent=1) + "\n").encode())


def _first(error: Exception) -> str:
    """What is wrong, in one line."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
