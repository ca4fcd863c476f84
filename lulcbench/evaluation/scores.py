"""What the scorer says of predictions: frozen, JSON round trip, immutable once written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lulcbench._files import Frozen, write_atomic
from lulcbench._parsing import read_limited
from lulcbench.errors import LulcbenchError
from lulcbench.release import Sha256, Split

FORMAT: Literal["lulcbench-scores/1"] = "lulcbench-scores/1"
# Raised whenever any figure of any predictions could change; a board never compares scores of different versions.
SCORER_VERSION = "1.1.0"
MAX_SCORES_BYTES = 16 * 2**20


class Interval(Frozen):
    """A 95 % confidence interval over spatial blocks (see ``intervals``); it always holds the figure itself."""

    low: float
    high: float


class ClassScores(Frozen):
    """Scores of one class. None where undefined: no label pixels (recall), none predicted (precision), neither (IoU).

    Attributes:
        support: judged label pixels of the class.
        predicted: judged pixels predicted as the class.
    """

    code: int
    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None


class ReliabilityBin(Frozen):
    """Pixels whose confidence fell into one of 15 equal bins: their number, mean confidence, and accuracy."""

    pixels: int
    confidence: float | None
    accuracy: float | None


class PartScores(Frozen):
    """Scores over a part of the judged pixels; None where the part holds none."""

    name: str
    pixels: int
    overall_accuracy: float | None
    miou: float | None
    macro_f1: float | None


class Calibration(Frozen):
    """How far probabilities can be believed.

    Attributes:
        log_loss: mean −ln of the probability of the true class.
        brier: mean over pixels of the sum over classes of squared error, 0 to 2 (Brier 1950).
        ece: expected calibration error of the mapped class's probability, 15 equal bins (Guo et al. 2017).
        reliability: the bins.
    """

    log_loss: float
    brier: float
    ece: float
    reliability: tuple[ReliabilityBin, ...]


class LevelScores(Frozen):
    """Scores at one level of the legend. Means over classes are over those that the labels of the split hold.

    Attributes:
        pixels: judged pixels; nodata and labels coarser than the level are not judged.
        overall_accuracy, balanced_accuracy, miou, macro_f1, weighted_f1: as scikit-learn defines them.
        classes: one row a class of the level, in code order.
        confusion: rows are labels, columns predictions, in the order of ``classes``.
        intervals: metric name → 95 % interval, calibration included; empty where fewer than two spatial blocks have
            judged pixels. Scores of single classes and of the parts below come without.
        boundary: ``edge`` (a 4-neighbour within the tile bears another class of this level, or none that is known at
            this level: the border of unlabelled ground is an edge too) and ``interior``.
        regions: one part a region of the release.
        groups: one part a level-1 class; judged are the label pixels of its classes.
    """

    level: Annotated[int, Field(ge=1, le=4)]
    pixels: int
    overall_accuracy: float
    balanced_accuracy: float
    miou: float
    macro_f1: float
    weighted_f1: float
    calibration: Calibration | None
    intervals: dict[str, Interval]
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    boundary: tuple[PartScores, ...]
    regions: tuple[PartScores, ...]
    groups: tuple[PartScores, ...]

    @property
    def log_loss(self) -> float | None:
        """Log loss, or None without probabilities."""
        return self.calibration.log_loss if self.calibration else None

    @property
    def ece(self) -> float | None:
        """Expected calibration error, or None without probabilities."""
        return self.calibration.ece if self.calibration else None


class HierarchicalScores(Frozen):
    """How far apart in the legend tree labels and predictions are, whatever the level of either.

    Attributes:
        mistake_severity: mean height of the lowest common ancestor over mistaken pixels (Bertinetto et al. 2020): how
            many levels, from the finest that can be compared upwards, are wrong. 1 where that level alone is, as in
            1121 for 1122; 2 for 3110 and 3120, which differ at levels 4 and 3; up to the level of the predictions where
            level 1 is wrong too. None without mistakes.
        mean_height: the same over all pixels, correct ones counting 0.
        f1: hierarchical F1: of the sets of ancestors, pooled over pixels, each pixel down to the finest level that both
            its label and its prediction have (Kiritchenko et al. 2005). Both sets are then of one size, so hierarchical
            precision and recall equal it.
        intervals: ``f1``, ``mistake_severity`` and ``mean_height`` → 95 % interval, as at each level.
    """

    pixels: int
    mistake_severity: float | None
    mean_height: float
    f1: float
    intervals: dict[str, Interval] = Field(default_factory=dict)  # absent from scores of scorer 1.0


class Transition(Frozen):
    """One from–to pair: label pixels, predicted pixels, pixels where both agree, F1."""

    from_code: int
    to_code: int
    support: int
    predicted: int
    correct: int
    f1: float


class ChangeScores(Frozen):
    """Scores of a pair of maps as a map of change, at one level, over pixels whose label is known in both years.

    Attributes:
        precision, recall, f1, iou: of "changed" against "unchanged"; None where nothing changed or was predicted to.
        accuracy: pixels whose class is right in both years.
        from_to_f1: mean F1 over the from–to pairs that the labels hold, unchanged pairs left out.
        intervals: of precision, recall, f1, iou and accuracy. One that hangs on a single block, as where only that
            holds changes, is left out.
        transitions: pairs that the labels hold, most frequent first.
    """

    level: Annotated[int, Field(ge=1, le=4)]
    pixels: int
    changed: int
    predicted_changed: int
    precision: float | None
    recall: float | None
    f1: float | None
    iou: float | None
    accuracy: float
    from_to_f1: float | None
    intervals: dict[str, Interval]
    transitions: tuple[Transition, ...]


class Scores(Frozen):
    """Everything the scorer says of one predictions file.

    Attributes:
        release, release_digest, simulated: the release scored against; simulated data must be called so.
        predictions_sha256: of the file scored.
        blocks: spatial blocks in the split, the unit of the confidence intervals.
        levels: level → scores, from the level of the predictions up to 1; for change, of both years together.
        change: per level, for the change task.
    """

    format: Literal["lulcbench-scores/1"] = FORMAT
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
    hierarchical: HierarchicalScores
    change: tuple[ChangeScores, ...] | None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scores:
        """Read scores written by ``write``.

        Raises:
            LulcbenchError: the file is missing or holds no scores of this format.
        """
        try:
            return cls.model_validate_json(read_limited(path, MAX_SCORES_BYTES))
        except (OSError, ValueError) as error:  # a ValidationError is a ValueError
            raise LulcbenchError(f"{path} holds no scores: {error}", "Make them with 'lulcbench score'.") from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all."""
        write_atomic(Path(path), (self.model_dump_json(indent=1) + "\n").encode())
