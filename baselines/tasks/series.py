"""Maps of several years from time series: one map per year, scored by agreement and, beside it, by change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch

from baselines.data.base import check_composites
from baselines.devices import best_device, memory_errors, threads
from baselines.predicting.split import check_data, unlabelled
from baselines.predicting.unit_counts import UnitCounts, count_series
from baselines.predicting.views import temper
from baselines.series.smoothing import Smoothing, choose_stay, count_pairs, estimate_stay
from baselines.tasks.base import TASKS, Report, TaskConfig
from baselines.tasks.segmentation import PREDICTIONS, SCORES, Segmentation, open_predictions
from lulcbench import _console
from lulcbench._files import write_json
from lulcbench.errors import LulcbenchError, NotAvailableError
from lulcbench.evaluation.metrics import METRICS
from lulcbench.evaluation.scoring import score
from lulcbench.evaluation.series import count_changes
from lulcbench.legend import IGNORE_INDEX, LEVELS, ClassScheme, legend
from lulcbench.plotting import Panel, class_panel
from lulcbench.predictions import PredictionWriter
from lulcbench.release import AUTO, Release, Row, TilePosition
from lulcbench.series.regular import normalized

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo, Input
    from baselines.data.series import SeriesData
    from baselines.run import Trained
    from baselines.series.pool import SeriesReader

SMOOTHING = "smoothing.json"
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
        if info.subset is not None:
            from baselines.tasks.subset_series import SubsetSeries

            return SubsetSeries(self, info)
        return SeriesTask(self, info)


class SeriesTask(Segmentation):
    """See ``SeriesConfig``. Batches are those of ``Segmentation``."""

    @property
    def scheme(self) -> ClassScheme:
        """The classes of the maps."""
        return ClassScheme.luisa(self.info.level or len(LEVELS))

    def predict(self, trained: Trained, folder: Path) -> Path:
        """Write ``predictions.zip`` with one map per year on the label grid."""
        reader, config = self._reader(trained), trained.config
        codes = np.array(self.scheme.codes(), np.uint16)
        split, depth = config.predict.split, self.scheme.depth
        with PredictionWriter(
            folder / PREDICTIONS, reader.release, split, reader.years, depth, probabilities=True
        ) as writer:
            for tile, classes, p in self._maps(trained, reader, folder):
                writer.write(tile, codes[classes], p)
        (folder / SCORES).unlink(missing_ok=True)
        return folder / PREDICTIONS

    @staticmethod
    def _reader(trained: Trained) -> SeriesReader:
        """Reader of the series of the release to predict, whose data fit the model."""
        check_data(trained)
        return _data(trained.config).reader()

    def _maps(
        self, trained: Trained, reader: SeriesReader, folder: Path
    ) -> Iterator[tuple[str, npt.NDArray[np.integer[Any]], npt.NDArray[np.floating[Any]]]]:
        """Tile, class indices ``(year, y, x)`` and probabilities ``(year, class, y, x)`` of the split to predict."""
        config, mapper, release = trained.config, Mapper(trained, reader), reader.release
        split = config.predict.split
        rows = release.manifest.rows(release.manifest.check_split(split))
        with (
            threads(config.threads),
            memory_errors("a tile", "Use fewer steps: raise data.every."),
            _console.progress() as bar,
        ):
            smoothing = self._smoothing(trained)
            for tile, row in bar.track(
                list(zip(release.tiles(split).ids, rows, strict=True)), description=f"predict {split}"
            ):
                p = mapper.probabilities(split, Row(row))
                if smoothing is None:
                    yield tile, np.stack([self.scheme.decide(part) for part in p]), p
                else:
                    smooth = smoothing.probabilities(p)
                    yield tile, smoothing.classes(p, smooth), smooth
        if smoothing is not None:
            write_json(folder / SMOOTHING, {"stay": smoothing.stay, "chosen": str(config.predict.stay)})

    def _smoothing(self, trained: Trained) -> Smoothing | None:
        """How the maps of the years are smoothed; None leaves them as they are.

        Raises:
            LulcbenchError: years are not equally far apart, or labels to choose the smoothing from are missing.
        """
        config, scheme = trained.config, self.scheme
        reader = cast("SeriesData", config.data).reader()
        years, method = _data(config).years, config.predict.smoothing
        if method is None or len(years) < 2:
            return None
        smoothing = Smoothing(method, scheme, np.array(self.info.frequencies), _gap(years), ())
        if not isinstance(config.predict.stay, str):
            return smoothing.with_stay(config.predict.stay[: scheme.depth])
        source = cast("SeriesData", config.data).labels
        if config.predict.stay == "labels":
            newest = cast("SeriesData", config.data).label_year
            known = [y for y in label_years(reader.release, "train", source) if y <= newest]
            if len(known) < 2:
                raise LulcbenchError(
                    f"Up to {newest}, the train split has labels of {', '.join(map(str, known)) or 'no year'}: "
                    "two years are needed.",
                    'Set predict.stay to numbers, or to "val".',
                )
            first, last = (
                np.stack(class_indices(reader.release, "train", year, source, scheme)) for year in (known[0], known[-1])
            )
            smoothing = replace(smoothing, changes=count_pairs(first, last, len(scheme.codes())))
            return smoothing.with_stay(estimate_stay(first, last, scheme, known[-1] - known[0]))
        # By maps of the years of the labels, which may be other ones and otherwise far apart.
        chosen = self._chosen(trained, Mapper(trained, reader), replace(smoothing, gap=_gap(reader.years)), source)
        return replace(chosen, gap=smoothing.gap)

    @staticmethod
    def _chosen(trained: Trained, mapper: Mapper, smoothing: Smoothing, source: str) -> Smoothing:
        """Smoothing by the changes of the val split, with the probabilities to stay that are best there."""
        release, years = mapper.reader.release, mapper.reader.years
        lacking = set(years) - set(label_years(release, "val", source))
        if lacking:
            raise LulcbenchError(
                f"The val split has no labels of {', '.join(map(str, sorted(lacking)))}, to choose the smoothing by.",
                'Set predict.stay to numbers, or to "labels".',
            )
        scheme = smoothing.scheme
        by_year = [class_indices(release, "val", year, source, scheme) for year in years]
        labels = [np.stack(tile) for tile in zip(*by_year, strict=True)]
        pairs = [count_pairs(tile[:-1], tile[1:], len(scheme.codes())) for tile in labels]
        smoothing = replace(smoothing, changes=np.sum(pairs, axis=0))
        p = [mapper.probabilities("val", Row(row)) for row in release.manifest.rows("val")]
        stay = choose_stay(lambda stay: [smoothing.with_stay(stay).classes(part) for part in p], labels, years, scheme)
        return smoothing.with_stay(stay)

    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Metrics by level, of the years that have labels."""
        with open_predictions(folder, Release.open(_data(config).root_path), config.predict.split):
            pass
        scores = score(folder / PREDICTIONS, _data(config).root_path)
        levels = {str(n): {name: s[name] for name in SHOWN} for n, s in scores.levels.items()}
        finest = levels[str(scores.level)]
        return {"overall_accuracy": finest["overall_accuracy"], "log_loss": finest["log_loss"], "levels": levels}

    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts by spatial block."""
        release = Release.open(_data(config).root_path)
        with open_predictions(folder, release, config.predict.split) as predictions:
            return count_series(predictions)

    def report(self, config: Config, folder: Path) -> Report:
        """One table per level; none without labels."""
        release = Release.open(_data(config).root_path)
        split = config.predict.split
        labelled = bool(scored_years(release, split, AUTO, _data(config).years))
        tables = {}
        if labelled:
            found = self.score(config, folder)["levels"]
            tables = {
                f"Level {n} · {len(legend().codes(int(n)))} classes": {METRICS[k].name: v for k, v in table.items()}
                for n, table in found.items()
            }
        summary = f"{release.manifest.title}. Maps of every year of the {split} split, legend level {self.info.level}. "
        facts = [("release", f"{release.id}, digest {release.digest}")]
        return Report(tables, release.id, summary + ("" if labelled else unlabelled(split, _data(config).years)), facts)

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """The first tiles: the map of every year, and where it changes once or several times."""
        level = self.info.level or 4
        release = Release.open(_data(config).root_path)
        with open_predictions(folder, release, config.predict.split) as predictions:
            for position in range(min(count, len(predictions.info.tiles))):
                codes = predictions.codes(TilePosition(position))
                maps = np.stack([legend().encode(part, level) for part in codes])
                panels = [
                    class_panel(part, level, str(year)) for year, part in zip(predictions.info.years, maps, strict=True)
                ]
                changes = count_changes(maps.astype(np.int64))
                yield predictions.info.tiles[position], [*panels, change_panel(changes)]


class Mapper:
    """Class probabilities of every year of a tile.

    Args:
        trained: the trained model.
        reader: reads the series of the years.

    Raises:
        NotAvailableError: the composites, the channels or the pixels of the release are others than in training.
    """

    def __init__(self, trained: Trained, reader: SeriesReader) -> None:
        self.trained, self.reader, self._device = trained, reader, best_device()
        (imagery,) = trained.about.info.inputs.values()
        check_composites(reader.release.manifest, trained.about.info.inputs)
        if (reader.channels, reader.resolution) != (imagery.channels, imagery.resolution):
            raise NotAvailableError(
                f"{reader.release.id} has series of {', '.join(reader.features)} of {reader.sensor} at "
                f"{reader.resolution} m, not of {', '.join(_features(imagery))} at {imagery.resolution:g} m, as in "
                "training.",
                "Use a release with the same bands and pixels, or state them in data.bands and train again.",
            )
        self._mean, self._std = np.array(imagery.mean, np.float32), np.array(imagery.std, np.float32)
        self._frequencies = np.array(trained.about.info.frequencies, np.float32)[:, None]
        self._models = {year: trained.predictor.for_year(year).to(self._device) for year in reader.years}

    def probabilities(self, split: str, row: Row) -> npt.NDArray[np.floating[Any]]:
        """Probabilities ``(year, class, y, x)`` of a tile, with sum 1 over classes.

        A cell without a clear date in a year has the frequencies of the training set there: nothing is known of it,
        which the network, trained on cells with dates, would not say.
        """
        values = self.reader.tile(split, row)
        series = normalized(values.reshape(*values.shape[:2], -1), self._mean, self._std)
        side = int(len(series) ** 0.5)
        maps = []
        for position, year in enumerate(self.reader.years):
            image = series[:, position].T.reshape(1, -1, side, side)
            outputs = self._models[year](torch.from_numpy(image).to(self._device))
            p = temper(outputs, self.trained.temperature)[0].cpu().numpy().clip(0, 1)
            unseen = ~np.isfinite(values[:, position]).any(axis=(1, 2)).reshape(side, side)
            p[:, unseen] = self._frequencies
            maps.append(p / p.sum(0))
        return np.stack(maps)


def _gap(years: Sequence[int]) -> int:
    """Years between two maps.

    Raises:
        LulcbenchError: the years are not equally far apart.
    """
    gaps = set(np.diff(years).tolist())
    if len(gaps) != 1:
        raise LulcbenchError(
            f"The years {', '.join(map(str, years))} are not two or more that are equally far apart.",
            "Map every year, or do not smooth.",
        )
    return int(gaps.pop())


def _features(imagery: Input) -> list[str]:
    """Features of the steps of a series, in order."""
    return list(dict.fromkeys(channel.rpartition(":")[2] for channel in imagery.channels))


def label_years(release: Release, split: str, source: str) -> list[int]:
    """Years of the labels of a split, in ascending order."""
    info = release.manifest.label_source(release.manifest.choose_labels(source))
    return sorted(info.years) if split in info.splits else []


def scored_years(release: Release, split: str, source: str, years: Sequence[int]) -> list[int]:
    """Those of the years of maps that the split has labels of; none of a release without labels."""
    return [year for year in years if year in label_years(release, split, source)] if release.manifest.labels else []


def class_indices(
    release: Release, split: str, year: int, source: str, scheme: ClassScheme
) -> list[npt.NDArray[np.int64]]:
    """Class indices of the labels of each tile of a split, -1 where ignored."""
    found = []
    for row in release.manifest.rows(split):
        classes = scheme.encode(release.labels(split, year, [Row(row)], source)[0]).astype(np.int64)
        found.append(np.where(classes == IGNORE_INDEX, -1, classes))
    return found


def _data(config: Config) -> SeriesData:
    """The data to predict; ``TaskConfig.check`` refuses others."""
    return cast("SeriesData", config.predicted)


def change_panel(changes: np.ndarray) -> Panel:
    """A map of no change, one change, and several changes."""
    entries = (("no change", (240, 240, 240)), ("one change", (230, 120, 0)), ("several changes", (120, 0, 120)))
    colors = np.array([color for _, color in entries], np.uint8)
    return Panel("changes", colors[np.minimum(changes, 2)], entries)
