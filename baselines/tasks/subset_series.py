"""Maps of several years of the classes of a legend subset, such as the ten classes of the study in Trentino."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from baselines.predicting.split import unlabelled
from baselines.predicting.unit_counts import AGREEMENT, FLAT, UnitCounts, count_samples
from baselines.predicting.views import EPSILON
from baselines.tasks.base import Report
from baselines.tasks.series import SHOWN, SeriesTask, change_panel, class_indices, scored_years
from baselines.tasks.subset import class_colors, read_classes, write_classes
from lulcbench.datasets.batch import Sample
from lulcbench.errors import NotAvailableError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import METRICS, evaluate
from lulcbench.evaluation.series import agreement_by_class, count_changes, series_sums
from lulcbench.legend import IGNORE_INDEX, ClassScheme, LegendSubset
from lulcbench.plotting import Panel
from lulcbench.release import Release

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo
    from baselines.data.series import SeriesData
    from baselines.run import Trained
    from baselines.tasks.base import TaskConfig


class SubsetSeries(SeriesTask):
    """A map of every year, of the classes of a legend subset. Batches have ``mask``, ``(b, 1, y, x)``.

    Args:
        config: settings of the task.
        info: description of the data, with a subset.
    """

    def __init__(self, config: TaskConfig, info: DataInfo) -> None:
        super().__init__(config, info)
        self.subset = LegendSubset(info.subset or {})

    @property
    def scheme(self) -> ClassScheme:
        """The classes of the subset."""
        return ClassScheme.of_subset(self.subset)

    def truth(self, batch: Sample) -> Tensor:
        """The mask."""
        mask: Tensor = batch["mask"][:, 0]
        return mask

    def predict(self, trained: Trained, folder: Path) -> Path:
        """Write ``classes.npz``: ids of tiles, names of classes, years, class indices and probabilities.

        Class indices are uint8 ``(tile, year, 96, 96)``, probabilities float32 ``(tile, year, class, 96, 96)``.
        """
        reader = self._reader(trained)
        tiles, classes, p = zip(*self._maps(trained, reader, folder), strict=True)
        return write_classes(
            folder,
            self.subset.names,
            tiles,
            years=np.array(reader.years),
            classes=np.stack(classes).astype(np.uint8),
            p=np.stack(p).astype(np.float32),
        )

    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Metrics of the years that have labels."""
        sums = self.count(config, folder).sums
        values: dict[str, float] = {}
        for family in (Family.CLASSES, Family.CALIBRATION, Family.SERIES):
            if (family.value, FLAT) in sums:
                values |= {k: float(v) for k, v in evaluate(family, sums[family.value, FLAT].sum(0)).items()}
        return {name: values[name] for name in SHOWN if name in values}

    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts by spatial block."""
        release, split = self._release(config), config.predict.split
        tiles = release.tiles(split)
        mapped, maps, p = read_classes(folder, self.subset.names, tiles.ids, ("years", "classes", "p"))
        years, truth = self._truth(config, release, mapped.tolist())
        at = [mapped.tolist().index(year) for year in years]
        classes = maps[:, at].astype(np.int64)
        p = np.moveaxis(p[:, at], 2, -1).reshape(truth.size, -1).astype(np.float64).clip(EPSILON)
        p /= p.sum(1, keepdims=True)
        flat = np.where(truth < 0, IGNORE_INDEX, truth).ravel()
        blocks = np.array(tiles.blocks)
        counts = count_samples(
            "spatial blocks", split, np.repeat(blocks, truth[0].size), flat, p, self.subset.names, None, classes.ravel()
        )
        if len(years) < 2:
            return counts
        of = {block: blocks == block for block in counts.units}
        series = [
            np.sum([series_sums(t, c, years) for t, c in zip(truth[own], classes[own], strict=True)], axis=0)
            for own in of.values()
        ]
        n = len(self.subset.names)
        agreement = [
            np.sum(
                [
                    np.concatenate([agreement_by_class(c, n), agreement_by_class(t, n)], axis=1)
                    for t, c in zip(truth[own], classes[own], strict=True)
                ],
                axis=0,
            )
            for own in of.values()
        ]
        counts.sums[Family.SERIES.value, FLAT] = np.array(series, np.float64)
        counts.sums[AGREEMENT, FLAT] = np.array(agreement)
        return counts

    def report(self, config: Config, folder: Path) -> Report:
        """One table; none without labels."""
        release, split, names = self._release(config), config.predict.split, self.subset.names
        data = cast("SeriesData", config.predicted)
        labelled = bool(scored_years(release, split, data.labels, data.years))
        tables: dict[str, dict[str, float | None]] = {}
        if labelled:
            scores = self.score(config, folder)
            tables[f"{len(names)} classes"] = {METRICS[k].name: v for k, v in scores.items()}
        summary = (
            f"{release.manifest.title}. Maps of every year of the {split} split; pixels of other classes are left out. "
        )
        facts = [("release", f"{release.id}, digest {release.digest}"), ("classes", ", ".join(names))]
        return Report(tables, release.id, summary + ("" if labelled else unlabelled(split, data.years)), facts)

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """The first tiles: the map of every year, and where it changes once or several times."""
        ids = self._release(config).tiles(config.predict.split).ids
        years, classes = read_classes(folder, self.subset.names, ids, ("years", "classes"))
        colors, entries = class_colors(self.subset)
        for tile, maps in list(zip(ids, classes, strict=True))[:count]:
            panels = [Panel(str(year), colors[part], entries) for year, part in zip(years, maps, strict=True)]
            yield tile, [*panels, change_panel(count_changes(maps.astype(np.int64)))]

    def _truth(self, config: Config, release: Release, years: Sequence[int]) -> tuple[list[int], npt.NDArray[np.int64]]:
        """Years that have labels, and their class indices ``(tile, year, y, x)``, -1 where ignored.

        Raises:
            NotAvailableError: none has.
        """
        source, split = cast("SeriesData", config.predicted).labels, config.predict.split
        labelled = scored_years(release, split, source, years)
        if not labelled:
            raise NotAvailableError(
                f"{release.id} has no {source} labels of {', '.join(map(str, years))} in its {split} split.",
                "Score maps of years that have labels.",
            )
        by_year = [class_indices(release, split, year, source, self.scheme) for year in labelled]
        return labelled, np.stack([np.stack(tile) for tile in zip(*by_year, strict=True)])

    @staticmethod
    def _release(config: Config) -> Release:
        return Release.open(cast("SeriesData", config.predicted).root_path)
