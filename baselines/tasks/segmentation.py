"""Semantic segmentation: a LUISA class for every pixel, trained at all levels on the 50 m label grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from baselines.devices import memory_errors, threads
from baselines.predicting.maps import blend_tiles, write_maps
from baselines.predicting.split import open_split, read_split, unlabelled
from baselines.predicting.submission import SUBMISSION, write_submission
from baselines.predicting.unit_counts import UnitCounts, count_maps
from baselines.predicting.views import temper
from baselines.tasks.base import TASKS, Report, Task, TaskConfig
from baselines.tasks.losses import area_average
from lulcbench._console import console
from lulcbench.datasets import LuisaSeg
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import shown_in
from lulcbench.evaluation.scores import Scores
from lulcbench.evaluation.scoring import score
from lulcbench.legend import IGNORE_INDEX, LEVELS, legend
from lulcbench.plotting import Panel, class_panel, uncertainty_panel
from lulcbench.predictions import Predictions
from lulcbench.release import Release, TilePosition

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo
    from baselines.run import Trained

PREDICTIONS = "predictions.zip"
SCORES = "scores.json"
# Largest share of one class in the tiles that ``extremes`` shows.
LARGEST_CLASS = 0.6


@TASKS.register
class SegmentationConfig(TaskConfig):
    """One class per pixel."""

    kind: Literal["segmentation"] = "segmentation"
    target: ClassVar[str] = "mask"
    dense: ClassVar[bool] = True

    @property
    def options(self) -> dict[str, Any]:
        """Masks at all levels, on the label grid."""
        return {"level": LEVELS, "mask_resolution": "label"}

    def build(self, info: DataInfo) -> Segmentation:
        """Build the task for these data."""
        if info.subset is not None:
            from baselines.tasks.subset import SubsetSegmentation

            return SubsetSegmentation(self, info)
        return Segmentation(self, info)


class Segmentation(Task):
    """See ``SegmentationConfig``. Batches have ``mask``, ``(b, 4, y, x)``, at levels 1 to 4."""

    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        """Negative log-likelihood at all levels (``HierarchicalLoss``)."""
        loss: Tensor = self.criterion(outputs, batch["mask"])
        return loss

    def truth(self, batch: Sample) -> Tensor:
        """The mask at the level of the model."""
        mask: Tensor = batch["mask"][:, (self.info.level or len(LEVELS)) - 1]
        return mask

    def on_labels(self, p: Tensor, batch: Sample) -> Tensor:
        """Average by area over label pixels."""
        return area_average(p, batch["mask"].shape[-2:])

    def predict(self, trained: Trained, folder: Path) -> Path:
        """Write ``predictions.zip``, for ``lulcbench score``, and ``submission.toml``, for ``lulcbench submit``.

        Predictions of a split without labels cannot be submitted.
        """
        config = trained.config
        dataset, batches = read_split(trained, window=config.predict.window, stride=config.predict.stride)
        blended = blend_tiles(dataset, ((batch, trained(batch["image"])) for batch in batches))
        # The temperature was fitted on the label grid and applies there, not to pixels before they are averaged.
        maps = ((tile, self._tempered(p, trained.temperature)) for tile, p in blended)
        remedy = "Lower predict.batch_size or predict.window."
        with threads(config.threads), memory_errors(f"predict.batch_size = {config.predict.batch_size}", remedy):
            path = write_maps(trained, dataset, maps, folder / PREDICTIONS)
        if dataset.label_source is None:
            console.print(unlabelled(config.predict.split))
            for name in (SCORES, SUBMISSION):  # of predictions that are replaced
                (folder / name).unlink(missing_ok=True)
        else:
            write_submission(trained, dataset.release, folder)
        return path

    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Overall accuracy and log loss at the finest level, and ``levels``: metrics by level."""
        scores = score(folder / PREDICTIONS, config.predicted.options["root"])
        levels = {str(n): {metric: s[metric] for metric in shown_in("baselines")} for n, s in scores.levels.items()}
        finest = levels[str(scores.level)]
        return {"overall_accuracy": finest["overall_accuracy"], "log_loss": finest["log_loss"], "levels": levels}

    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts by spatial block."""
        with Predictions.open(folder / PREDICTIONS, config.predicted.options["root"]) as predictions:
            return count_maps(predictions)

    def report(self, config: Config, folder: Path) -> Report:
        """One table per level, from ``lulcbench score``; none without labels."""
        split = config.predict.split
        dataset = self._tiles(config)
        release = dataset.release
        manifest = release.manifest
        digest = self._digest(folder, release, split)
        scores = None if dataset.label_source is None else self._scores(folder, release, digest)
        levels = {
            f"Level {n} · {len(legend().codes(n))} classes": s for n, s in (scores.levels.items() if scores else ())
        }
        tables = {title: {metric: s[metric] for metric in shown_in("baselines")} for title, s in levels.items()}
        intervals = {
            title: {name: (e.low, e.high) for name, e in s.metrics.items() if e.low is not None and e.high is not None}
            for title, s in levels.items()
        }
        index = release.index()
        facts = [
            ("release", f"{release.id}, digest {release.digest}"),
            ("predictions", f"sha256 {digest[:16]}…"),
            *([("scorer", scores.scorer_version)] if scores else []),
            *(("source", f"{s.title}: {s.attribution} ({s.licence})") for s in manifest.sources),
        ]
        used = split == "train" and config.predicted.digest() == self.info.digest
        imagery_years = [dataset.years[0] - before for before in (*dataset.history, 0)]
        summary = (
            f"{manifest.title}. {', '.join(dataset.sensors)} {' and '.join(map(str, imagery_years))}, "
            f"{len(dataset.seasons)} seasons, "
            f"legend level {self.info.level}; {len(dataset.tiles)} {split} tiles of 4.8 × 4.8 km"
            f", {'' if used else 'not '}used in training. "
            + ("Scored on the 50 m label grid." if scores else unlabelled(split))
        )
        return Report(
            tables,
            release.id,
            summary,
            facts,
            intervals,
            scores.levels[scores.level].classes if scores else (),
            dict(zip(index["id"], index["split"], strict=True)),
        )

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """Tiles with true colour, labels, predictions and uncertainty: those with the most classes in the labels.

        Without labels, tiles at regular steps through the split.
        """
        level = self.info.level or len(LEVELS)
        dataset = self._tiles(config, normalize=True)
        with open_predictions(folder, dataset.release, config.predict.split) as predictions:
            for position in self._shown(dataset, count):
                sample = dataset[position]
                mapped = legend().encode(predictions.codes(position)[0], level)
                panels, title = dataset.rgb_panels(sample), "prediction"
                if "mask" in sample:
                    label = sample["mask"][level - 1].numpy()
                    panels.append(class_panel(label, level, "label"))
                    title += f" ({_agreement(label, mapped):.0%} of pixels agree)"
                panels.append(class_panel(mapped, level, title))
                if predictions.info.probabilities is not None:
                    panels.append(uncertainty_panel(predictions.probabilities(position)))
                yield sample["tile"], panels

    def extremes(
        self, config: Config, folder: Path, count: int, level: int
    ) -> list[tuple[str, float, Sequence[Panel]]]:
        """The ``count`` tiles with the highest and those with the lowest share of right pixels, in this order.

        Tiles with hardly more than one class, such as open sea, are left out if there are enough others: they are
        right or wrong as a whole.

        Returns:
            Tile, share of right pixels, and panels of image, label and prediction.
        """
        dataset = self._tiles(config, normalize=True)
        with open_predictions(folder, dataset.release, config.predict.split) as predictions:

            def maps(position: int) -> tuple[Sample, Any, Any]:
                sample = dataset[position]
                codes = predictions.codes(TilePosition(position))[0]
                return sample, sample["mask"][level - 1].numpy(), legend().encode(codes, level)

            agreement, largest = [], []
            for position in range(len(dataset.tiles)):
                _, label, mapped = maps(position)
                agreement.append(_agreement(label, mapped))
                largest.append(largest_share(label))
            shown: list[tuple[str, float, Sequence[Panel]]] = []
            for position in choose_extremes(agreement, largest, count):
                sample, label, mapped = maps(position)
                panels = [class_panel(label, level, "label"), class_panel(mapped, level, "prediction")]
                shown.append((sample["tile"], agreement[position], [*dataset.rgb_panels(sample)[:1], *panels]))
        return shown

    @staticmethod
    def _scores(folder: Path, release: Release, digest: str) -> Scores:
        """The scores of the predictions with a SHA-256.

        Raises:
            LulcbenchError: they are missing, or are of other predictions.
        """
        path = folder / SCORES
        if not path.is_file():
            raise LulcbenchError(f"{path} is missing.", "Run 'lulcbench score' first.")
        scores = Scores.load(path)
        if scores.release_digest != release.data_digest:
            raise LulcbenchError(f"The scores in {path} belong to another release.", "Predict and score it again.")
        if scores.predictions_sha256 != digest:
            raise LulcbenchError(f"The scores in {path} belong to other predictions.", "Run 'lulcbench score' again.")
        return scores

    def _tiles(self, config: Config, **options: Any) -> LuisaSeg:
        """The dataset of the predicted split, with complete tiles."""
        options |= {"window": None, "stride": None}
        options = config.predicted.fitted_options(self.info) | options
        dataset: LuisaSeg = open_split(config, **options).datasets["predict"]
        return dataset

    @staticmethod
    def _digest(folder: Path, release: Release, split: str) -> str:
        """SHA-256 of the predictions of a split; see ``open_predictions``."""
        with open_predictions(folder, release, split) as predictions:
            return predictions.sha256

    @staticmethod
    def _shown(dataset: LuisaSeg, count: int) -> list[TilePosition]:
        """Positions of the tiles that are shown, in ascending order."""
        if dataset.label_source is None:
            chosen = np.linspace(0, len(dataset.tiles) - 1, count).astype(int)
        else:
            classes = (dataset.class_fractions(dataset.years[0], len(LEVELS)) > 0.01).sum(axis=1)
            chosen = np.argsort(-classes, kind="stable")[:count]
        return [TilePosition(position) for position in np.unique(chosen).tolist()]

    @staticmethod
    def _tempered(p: Any, temperature: float) -> Any:
        import torch

        return temper(torch.from_numpy(p)[None], temperature)[0].numpy()


@contextmanager
def open_predictions(folder: Path, release: Release, split: str) -> Iterator[Predictions]:
    """Open the predictions in the folder of a run, whose tiles are those of a split.

    Raises:
        LulcbenchError: they are missing, or are of another split.
    """
    path, remedy = folder / PREDICTIONS, "Run 'python -m baselines predict' first."
    if not path.is_file():
        raise LulcbenchError(f"{path} is missing.", remedy)
    with Predictions.open(path, release) as predictions:
        if predictions.info.split != split:
            raise LulcbenchError(f"{path} has predictions of {predictions.info.split}, not of {split}.", remedy)
        yield predictions


def _agreement(label: npt.NDArray[np.integer], mapped: npt.NDArray[np.integer]) -> float:
    """Share of the labelled pixels whose class is right; NaN without labels."""
    labelled = label != IGNORE_INDEX
    return float((label == mapped)[labelled].mean()) if labelled.any() else float("nan")


def largest_share(label: npt.NDArray[np.integer]) -> float:
    """Share of the most frequent class in the labelled pixels; 1 without any.

    Example:
        >>> largest_share(np.array([[3, 3], [5, IGNORE_INDEX]])).__round__(3)
        0.667
    """
    labelled = label[label != IGNORE_INDEX]
    return float(np.unique(labelled, return_counts=True)[1].max() / labelled.size) if labelled.size else 1.0


def choose_extremes(agreement: Sequence[float], largest: Sequence[float], count: int) -> list[int]:
    """Positions of the ``count`` tiles with the highest and those with the lowest agreement, in descending order.

    Args:
        agreement: share of right pixels by tile; NaN without labels.
        largest: share of the largest class by tile. Tiles above ``LARGEST_CLASS`` are left out if there are enough
            others.
        count: number of tiles at each end; with fewer than ``2 * count``, all are chosen.

    Example:
        >>> choose_extremes([1.0, 0.2, 0.9, 0.5, float("nan")], [1.0, 0.5, 0.4, 0.3, 1.0], 1)
        [2, 1]
        >>> choose_extremes([1.0, 0.2, 0.9], [1.0, 0.5, 0.4], 2)
        [0, 2, 1]
    """
    order = sorted((k for k, share in enumerate(agreement) if not np.isnan(share)), key=lambda k: (-agreement[k], k))
    if len(varied := [k for k in order if largest[k] <= LARGEST_CLASS]) >= 2 * count:
        order = varied
    return order if len(order) < 2 * count else [*order[:count], *order[-count:]]
