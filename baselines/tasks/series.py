"""Maps of several years from time series: one map per year, scored by agreement and, beside it, by change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from baselines.devices import best_device, memory_errors, threads
from baselines.predicting.split import check_data, unlabelled
from baselines.predicting.unit_counts import UnitCounts, count_series
from baselines.predicting.views import temper
from baselines.series.smoothing import forward_backward, transitions, viterbi
from baselines.tasks.base import TASKS, Report, TaskConfig
from baselines.tasks.segmentation import PREDICTIONS, SCORES, Segmentation
from lulcbench import _console
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.metrics import METRICS
from lulcbench.evaluation.scoring import score
from lulcbench.evaluation.series import count_changes
from lulcbench.legend import LEVELS, decide, legend
from lulcbench.plotting import Panel, class_panel
from lulcbench.predictions import Predictions, PredictionWriter
from lulcbench.release import Release, Row, TilePosition

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo
    from baselines.data.series import SeriesData
    from baselines.run import Trained

SHOWN = ("overall_accuracy", "macro_f1", "log_loss", "year_agreement", "change_f1", "near_change_precision",
         "near_change_recall", "near_change_f1", "flicker_ratio", "unchanged_accuracy", "changed_accuracy")  # fmt: skip


@TASKS.register
class SeriesConfig(TaskConfig):
    """A map of every year of the data."""

    kind: Literal["series"] = "series"
    target: ClassVar[str] = "mask"
    dense: ClassVar[bool] = True
    spatial: ClassVar[bool] = False

    def build(self, info: DataInfo) -> SeriesTask:
        """Build the task for these data."""
        return SeriesTask(self, info)


class SeriesTask(Segmentation):
    """See ``SeriesConfig``. Batches are those of ``Segmentation``."""

    def predict(self, trained: Trained, folder: Path) -> Path:
        """Write ``predictions.zip`` with one map per year on the label grid."""
        check_data(trained)
        config, level = trained.config, trained.about.info.level or 4
        reader = _data(config).reader()
        (imagery,) = trained.about.info.inputs.values()
        mean, std = np.array(imagery.mean, np.float32), np.array(imagery.std, np.float32)
        codes = np.array(legend().codes(level), np.uint16)
        release, split, device = reader.release, config.predict.split, best_device()
        rows = release.manifest.rows(release.manifest.check_split(split))
        models = {year: trained.predictor.for_year(year).to(device) for year in reader.years}
        with (
            threads(config.threads),
            memory_errors("a tile", "Use fewer steps: raise data.every."),
            PredictionWriter(folder / PREDICTIONS, release, split, reader.years, level, probabilities=True) as writer,
            _console.progress() as bar,
        ):
            for tile, row in bar.track(
                list(zip(release.tiles(split).ids, rows, strict=True)), description=f"predict {split}"
            ):
                values = reader.tile(split, Row(row))
                series = np.nan_to_num((values.reshape(*values.shape[:2], -1) - mean) / std)
                side = int(len(series) ** 0.5)
                maps = []
                for position, year in enumerate(reader.years):
                    image = series[:, position].T.reshape(1, -1, side, side).astype(np.float32)
                    outputs = models[year](torch.from_numpy(image).to(device))
                    p = temper(outputs, trained.temperature)[0].cpu().numpy().clip(0, 1)
                    maps.append(p / p.sum(0))
                stacked, classes = self._smoothed(np.stack(maps), config, reader.years)
                writer.write(tile, codes[classes], stacked)
        (folder / SCORES).unlink(missing_ok=True)
        return folder / PREDICTIONS

    def _smoothed(
        self, p: npt.NDArray[np.floating[Any]], config: Config, years: Sequence[int]
    ) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.integer[Any]]]:
        """Probabilities ``(year, class, y, x)`` and classes ``(year, y, x)``, smoothed as ``predict`` says.

        Raises:
            LulcbenchError: years are not equally far apart.
        """
        level = self.info.level or len(LEVELS)
        if config.predict.smoothing is None or len(years) < 2:
            return p, np.stack([decide(part, level) for part in p])
        gaps = set(np.diff(years).tolist())
        if len(gaps) > 1:
            raise LulcbenchError(
                f"The years {', '.join(map(str, years))} are not equally far apart.",
                "Map every year, or do not smooth.",
            )
        prior = np.array(self.info.frequencies)
        yearly = transitions(level, config.predict.stay[:level], prior)
        matrix = np.linalg.matrix_power(yearly, gaps.pop())
        smooth = forward_backward(p, matrix, prior)
        if config.predict.smoothing == "viterbi":
            return smooth, viterbi(p, matrix, prior)
        return smooth, np.stack([decide(part.astype(np.float32), level) for part in smooth])

    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Metrics by level, of the years that have labels."""
        scores = score(folder / PREDICTIONS, _data(config).root_path)
        levels = {str(n): {name: s[name] for name in SHOWN} for n, s in scores.levels.items()}
        finest = levels[str(scores.level)]
        return {"overall_accuracy": finest["overall_accuracy"], "log_loss": finest["log_loss"], "levels": levels}

    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts by spatial block."""
        release = Release.open(_data(config).root_path)
        with Predictions.open(folder / PREDICTIONS, release) as predictions:
            return count_series(predictions)

    def report(self, config: Config, folder: Path) -> Report:
        """One table per level; none without labels."""
        release = Release.open(_data(config).root_path)
        split = config.predict.split
        labelled = any(split in info.splits for info in release.manifest.labels.values())
        tables = {}
        if labelled:
            found = self.score(config, folder)["levels"]
            tables = {
                f"Level {n} · {len(legend().codes(int(n)))} classes": {METRICS[k].name: v for k, v in table.items()}
                for n, table in found.items()
            }
        summary = f"{release.manifest.title}. Maps of every year of the {split} split, legend level {self.info.level}. "
        facts = [("release", f"{release.id}, digest {release.digest}")]
        return Report(tables, release.id, summary + ("" if labelled else unlabelled(split)), facts)

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """The first tiles: the map of every year, and where it changes once or several times."""
        level = self.info.level or 4
        release = Release.open(_data(config).root_path)
        with Predictions.open(folder / PREDICTIONS, release) as predictions:
            for position in range(min(count, len(predictions.info.tiles))):
                codes = predictions.codes(TilePosition(position))
                maps = np.stack([legend().encode(part, level) for part in codes])
                panels = [
                    class_panel(part, level, str(year)) for year, part in zip(predictions.info.years, maps, strict=True)
                ]
                changes = count_changes(maps.astype(np.int64))
                yield predictions.info.tiles[position], [*panels, change_panel(changes)]


def _data(config: Config) -> SeriesData:
    """The data to predict; ``TaskConfig.check`` refuses others."""
    return cast("SeriesData", config.predicted)


def change_panel(changes: np.ndarray) -> Panel:
    """A map of no change, one change, and several changes."""
    entries = (("no change", (240, 240, 240)), ("one change", (230, 120, 0)), ("several changes", (120, 0, 120)))
    colors = np.array([color for _, color in entries], np.uint8)
    return Panel("changes", colors[np.minimum(changes, 2)], entries)
