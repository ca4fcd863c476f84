"""Semantic segmentation: a LUISA class for every pixel, trained at all levels on the 50 m label grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from baselines.devices import memory_errors, threads
from baselines.predicting.maps import blend_tiles, write_maps
from baselines.predicting.split import open_split, read_split
from baselines.predicting.submission import write_submission
from baselines.predicting.unit_counts import UnitCounts, count_maps
from baselines.predicting.views import temper
from baselines.tasks.base import TASKS, Report, Task, TaskConfig
from baselines.tasks.losses import area_average
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import shown_in
from lulcbench.evaluation.scores import Scores
from lulcbench.evaluation.scoring import score
from lulcbench.legend import LEVELS, legend
from lulcbench.plotting import Panel, class_panel
from lulcbench.predictions import Predictions

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo
    from baselines.run import Trained

PREDICTIONS = "predictions.zip"
SCORES = "scores.json"


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
        """Write ``predictions.zip``, for ``lulcbench score``, and ``submission.toml``, for ``lulcbench submit``."""
        config = trained.config
        dataset, batches = read_split(trained, window=config.predict.window, stride=config.predict.stride)
        blended = blend_tiles(dataset, ((batch, trained(batch["image"])) for batch in batches))
        # The temperature was fitted on the label grid and applies there, not to pixels before they are averaged.
        maps = ((tile, self._tempered(p, trained.temperature)) for tile, p in blended)
        remedy = "Lower predict.batch_size or predict.window."
        with threads(config.threads), memory_errors(f"predict.batch_size = {config.predict.batch_size}", remedy):
            path = write_maps(trained, dataset, maps, folder / PREDICTIONS)
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
        """One table per level, from ``lulcbench score``."""
        for name, command in ((PREDICTIONS, "python -m baselines predict"), (SCORES, "lulcbench score")):
            if not (folder / name).is_file():
                raise LulcbenchError(f"{folder / name} is missing.", f"Run '{command}' first.")
        scores = Scores.load(folder / SCORES)
        if scores.release_digest != config.predicted.digest():
            raise LulcbenchError(
                f"The scores in {folder / SCORES} belong to another release.", "Predict and score it again."
            )
        tables = {
            f"Level {n} · {len(legend().codes(n))} classes": {metric: s[metric] for metric in shown_in("baselines")}
            for n, s in scores.levels.items()
        }
        split = config.predict.split
        dataset = open_split(config, window=None, stride=None).datasets[split]
        release = dataset.release
        manifest = release.manifest
        facts = [
            ("release", f"{release.id}, digest {release.digest}"),
            ("predictions", f"sha256 {scores.predictions_sha256[:16]}…"),
            ("scorer", scores.scorer_version),
            *(("source", f"{s.title}: {s.attribution} ({s.licence})") for s in manifest.sources),
        ]
        summary = (
            f"{manifest.title}. {', '.join(dataset.sensors)} {dataset.years[0]}, {len(dataset.seasons)} seasons, "
            f"legend level {self.info.level}; {len(dataset.tiles)} {split} tiles of 4.8 × 4.8 km, not used in "
            "training. Scored on the 50 m label grid."
        )
        return Report(tables, release.id, summary, facts)

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """Tiles with the largest numbers of classes: true colour, labels and predictions."""
        level, split = self.info.level or len(LEVELS), config.predict.split
        dataset = open_split(config, window=None, stride=None, normalize=True).datasets[split]
        classes = (dataset.class_fractions(dataset.years[0], len(LEVELS)) > 0.01).sum(axis=1)
        rows = np.argsort(-classes, kind="stable")[:count]
        with Predictions.open(folder / PREDICTIONS, dataset.release) as predictions:
            for row in sorted(rows.tolist()):
                sample = dataset[row]
                label = sample["mask"][level - 1].numpy()
                mapped = legend().encode(predictions.codes(row)[0], level)
                agreement = f"prediction ({(label == mapped).mean():.0%} of pixels agree)"
                yield (
                    sample["tile"],
                    [
                        *dataset.rgb_panels(sample),
                        class_panel(label, level, "label"),
                        class_panel(mapped, level, agreement),
                    ],
                )

    @staticmethod
    def _tempered(p: Any, temperature: float) -> Any:
        import torch

        return temper(torch.from_numpy(p)[None], temperature)[0].numpy()
