"""Segmentation of the classes of a legend subset, such as those of a settlement layer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from baselines.devices import memory_errors, threads
from baselines.predicting.maps import blend_tiles
from baselines.predicting.split import open_split, read_split
from baselines.predicting.unit_counts import FLAT, UnitCounts, count_samples
from baselines.predicting.views import EPSILON
from baselines.tasks.base import Report
from baselines.tasks.segmentation import Segmentation
from lulcbench._files import write_atomic
from lulcbench.datasets.batch import Sample
from lulcbench.errors import LulcbenchError
from lulcbench.evaluation.families import Family
from lulcbench.evaluation.metrics import evaluate, shown_in
from lulcbench.legend import IGNORE_INDEX, LEVELS, LegendSubset
from lulcbench.plotting import Panel

if TYPE_CHECKING:
    from baselines.config import Config
    from baselines.data import DataInfo
    from baselines.run import Trained
    from baselines.tasks.base import TaskConfig

PREDICTIONS = "classes.npz"


class SubsetSegmentation(Segmentation):
    """One class of a legend subset per pixel; batches are those of ``Segmentation``.

    Args:
        config: settings of the task.
        info: description of the data, with a subset.
    """

    def __init__(self, config: TaskConfig, info: DataInfo) -> None:
        super().__init__(config, info)
        self.subset = LegendSubset(info.subset or {})
        tables = np.stack([self.subset.table(level) for level in LEVELS])
        self.register_buffer("tables", torch.from_numpy(tables), persistent=False)

    def loss(self, outputs: Tensor, batch: Sample) -> Tensor:
        """Loss of the classes on the grid of the labels."""
        loss: Tensor = self.criterion(outputs, self.truth(batch)[:, None])
        return loss

    def truth(self, batch: Sample) -> Tensor:
        """Class indices of the subset, from the finest level that a label has."""
        mask, tables = batch["mask"].long(), self.tables
        truth = torch.full_like(mask[:, 0], IGNORE_INDEX)
        for row in range(len(LEVELS)):
            known = mask[:, row] != IGNORE_INDEX
            truth = torch.where(known, tables[row][mask[:, row]].long(), truth)  # type: ignore[index]
        return truth

    def predict(self, trained: Trained, folder: Path) -> Path:
        """Write ``classes.npz``: ids of tiles, names of classes, probabilities ``(tile, class, 96, 96)``."""
        config = trained.config
        dataset, batches = read_split(trained, window=config.predict.window, stride=config.predict.stride)
        blended = blend_tiles(dataset, ((batch, trained(batch["image"])) for batch in batches))
        remedy = "Lower predict.batch_size or predict.window."
        with threads(config.threads), memory_errors(f"predict.batch_size = {config.predict.batch_size}", remedy):
            tiles, p = zip(*((tile, self._tempered(p, trained.temperature)) for tile, p in blended), strict=True)
        content = io.BytesIO()
        np.savez_compressed(content, tiles=np.array(tiles), names=np.array(self.subset.names), p=np.stack(p))
        write_atomic(folder / PREDICTIONS, content.getvalue())
        return folder / PREDICTIONS

    def score(self, config: Config, folder: Path) -> dict[str, Any]:
        """Metrics over all pixels of the subset."""
        counts = self.count(config, folder)
        values: dict[str, float] = {}
        for family in (Family.CLASSES, Family.CALIBRATION):
            values |= {k: float(v) for k, v in evaluate(family, counts.sums[family.value, FLAT].sum(0)).items()}
        return {name: values[name] for name in shown_in("baselines") if name in values}

    def count(self, config: Config, folder: Path) -> UnitCounts:
        """Counts by spatial block."""
        split = config.predict.split
        module = open_split(config, window=None, stride=None)
        dataset = module.datasets["predict"]
        p = self._read(folder / PREDICTIONS, list(dataset.tiles["id"]))
        truth = np.concatenate([self.truth(batch).cpu().numpy() for batch in module.loader("predict")])
        units = np.repeat(np.array(config.data.units(dataset)[1]), truth[0].size)
        flat = np.moveaxis(p, 1, -1).reshape(truth.size, -1).astype(np.float64).clip(EPSILON)
        flat /= flat.sum(1, keepdims=True)
        known = truth.ravel() != IGNORE_INDEX
        return count_samples(
            "spatial blocks", split, units[known], truth.ravel()[known], flat[known], self.subset.names, None
        )

    def report(self, config: Config, folder: Path) -> Report:
        """One table of scores."""
        release = open_split(config, window=None, stride=None).datasets["predict"].release
        names = self.subset.names
        summary = f"{release.manifest.title}. {config.predict.split} split; pixels of other classes are left out."
        facts = [("release", f"{release.id}, digest {release.digest}"), ("classes", ", ".join(names))]
        return Report({f"{len(names)} classes": dict(self.score(config, folder))}, release.id, summary, facts)

    def pictures(self, config: Config, folder: Path, count: int) -> Iterator[tuple[str, Sequence[Panel]]]:
        """The first tiles: true colour, labels and predictions."""
        dataset = open_split(config, window=None, stride=None, normalize=True).datasets["predict"]
        p = self._read(folder / PREDICTIONS, list(dataset.tiles["id"]))
        colors = self.subset.colors()
        entries = tuple((name, _rgb(colors[i])) for i, name in enumerate(self.subset.names))
        for row in range(min(count, len(dataset))):
            sample = dataset[row]
            truth = self.truth({"mask": sample["mask"][None]})[0].numpy()
            panels = [Panel("label", colors[truth], entries), Panel("prediction", colors[p[row].argmax(0)], entries)]
            yield sample["tile"], [*dataset.rgb_panels(sample), *panels]

    def _read(self, path: Path, tiles: list[str]) -> npt.NDArray[np.float32]:
        """Probabilities ``(tile, class, y, x)``."""
        if not path.is_file():
            raise LulcbenchError(f"{path} is missing.", "Run 'python -m baselines predict' first.")
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                stored, names, p = file["tiles"].tolist(), tuple(file["names"].tolist()), file["p"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise LulcbenchError(f"{path} is damaged: {error!r}.", "Predict again.") from error
        if stored != tiles or names != self.subset.names or p.shape[:2] != (len(tiles), len(names)):
            raise LulcbenchError(f"{path} has other tiles or classes.", "Predict again.")
        probabilities: npt.NDArray[np.float32] = p
        return probabilities


def _rgb(color: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in color)
    return red, green, blue
